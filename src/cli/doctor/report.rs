//! What the doctor found, as `granary doctor` prints it.

use std::fmt::Write;

use serde::Serialize;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::printer::View;
use super::super::table::{Grid, Tone, plain, toned};

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as it should.
    Warn,
    /// Tenants cannot be served, or not safely.
    Fail,
    /// It could not be found out, which is never the same as `OK`.
    Unknown,
}

impl Verdict {
    const fn words(self) -> (&'static str, Tone) {
        match self {
            Self::Ok => ("OK", Tone::Good),
            Self::Warn => ("WARN", Tone::Warn),
            Self::Fail => ("FAIL", Tone::Bad),
            Self::Unknown => ("UNKNOWN", Tone::Warn),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What it says.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What that means for tenants, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            found: found.into(),
            means: None,
            next: Vec::new(),
        }
    }

    /// All is well.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, found)
    }

    /// It works, but not as it should.
    pub fn warn(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warn, found)
    }

    /// Tenants cannot be served, or not safely.
    pub fn fail(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Fail, found)
    }

    /// It could not be found out.
    pub fn unknown(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Unknown, found)
    }

    /// What could not be found out because the question failed.
    pub fn unanswered(name: &'static str, failure: &Failure) -> Self {
        let why = failure.reasons().join("; ");
        let check = Self::unknown(name, format!("{failure}: {why}"));
        if failure.exit() == Exit::Refused {
            check.next("ask for the right to read it, or run this as somebody who has it")
        } else {
            check
        }
    }

    /// What that means for tenants.
    #[must_use]
    pub fn means(mut self, means: impl Into<String>) -> Self {
        self.means = Some(means.into());
        self
    }

    /// What to do.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    api_version: &'static str,
    kind: &'static str,
    checks: Vec<Check>,
}

impl Report {
    /// The report of these checks.
    #[must_use]
    pub const fn new(checks: Vec<Check>) -> Self {
        Self {
            api_version: super::super::REPORT_VERSION,
            kind: "DoctorReport",
            checks,
        }
    }

    /// Names of the checks that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks
            .iter()
            .filter(|check| check.verdict == Verdict::Fail)
            .map(|check| check.name)
            .collect()
    }
}

impl View for Report {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["VERDICT", "CHECK", "FOUND"]);
        for check in &self.checks {
            let (verdict, tone) = check.verdict.words();
            grid.row([
                (verdict, tone),
                (check.name, Tone::Plain),
                (check.found.as_str(), Tone::Plain),
            ]);
        }
        let mut text = grid.render();
        for check in self
            .checks
            .iter()
            .filter(|check| check.verdict != Verdict::Ok)
        {
            if check.means.is_none() && check.next.is_empty() {
                continue;
            }
            let (verdict, tone) = check.verdict.words();
            let _ = write!(text, "\n\n{} {}", toned(verdict, tone, colour), check.name);
            if let Some(means) = &check.means {
                let _ = write!(text, "\n  {}", plain(means));
            }
            for next in &check.next {
                let _ = write!(
                    text,
                    "\n  {} {}",
                    toned("next:", Tone::Strong, colour),
                    plain(next)
                );
            }
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.checks
            .iter()
            .map(|check| format!("{}/{}", check.name, check.verdict.words().0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Check::ok("api-server", "Kubernetes v1.36.3 at https://10.0.0.1:6443/"),
            Check::fail("operator", "0 of 2 replicas are available")
                .means("tenants that run go on; nothing changes until an operator runs")
                .next("kubectl --namespace granary-system describe deployment granary-operator"),
            Check::unknown("network-policies", "no agent that is known to enforce them"),
        ])
    }

    #[test]
    fn what_is_not_well_is_explained_below() {
        insta::assert_snapshot!(report().table(false, false));
    }

    #[test]
    fn only_failures_count_as_failed() {
        assert_eq!(report().failed(), ["operator"]);
    }

    #[test]
    fn programs_read_the_verdicts() {
        let report = serde_json::to_value(report()).expect("JSON");
        assert_eq!(report["checks"][0]["verdict"], "OK");
        assert_eq!(report["checks"][2]["verdict"], "UNKNOWN");
    }
}
