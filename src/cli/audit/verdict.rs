//! What `granary audit verify` found.

use std::fmt::Write;

use serde::Serialize;

use super::super::REPORT_VERSION;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::printer::View;
use super::super::table::{Tone, toned};
use crate::audit::Report;

/// The report, and what it comes to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    api_version: &'static str,
    kind: &'static str,
    intact: bool,
    #[serde(flatten)]
    report: Report,
}

impl Verdict {
    /// What the report comes to.
    pub const fn new(report: Report) -> Self {
        Self {
            api_version: REPORT_VERSION,
            kind: "AuditReport",
            intact: report.is_intact(),
            report,
        }
    }

    /// Success, or the failure that names the first finding.
    pub fn into_result(self) -> Result<(), Failure> {
        let Some(first) = self.report.findings.first() else {
            return Ok(());
        };
        let count = self.report.findings.len() + self.report.omitted;
        let mut failure = Failure::new(Exit::Failure, "the audit is not as it was written")
            .why(first.to_string());
        if count > 1 {
            failure = failure.why(format!("and {} more, listed above", count - 1));
        }
        Err(failure)
    }
}

impl View for Verdict {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let report = &self.report;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<11} {value}");
        };
        line("Rows", &report.rows.to_string());
        if let Some(anchor) = report.anchor {
            line(
                "Begins",
                &format!(
                    "after row {}, the last of the months that were dropped",
                    anchor.seq
                ),
            );
        }
        line("Head", &report.head.to_string());
        match report.remembered {
            None => {}
            Some(true) => line("Remembered", "the given head was compared"),
            Some(false) => line(
                "Remembered",
                "the given head is older than what is kept, and could not be compared",
            ),
        }
        let verdict = if self.intact {
            toned("intact", Tone::Good, colour)
        } else {
            toned("not as it was written", Tone::Bad, colour)
        };
        line("Verdict", &verdict);
        for finding in &report.findings {
            let _ = writeln!(text, "  {finding}");
        }
        if report.omitted > 0 {
            let _ = writeln!(text, "  and {} more", report.omitted);
        }
        text
    }

    fn names(&self) -> Vec<String> {
        vec![self.report.head.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Finding, Hash, Head};

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            rows: 120,
            anchor: Some(Head {
                seq: 30,
                hash: Hash::NONE,
            }),
            head: Head {
                seq: 150,
                hash: Hash::NONE,
            },
            remembered: Some(true),
            findings,
            omitted: 0,
        }
    }

    #[test]
    fn an_intact_audit_prints_the_head_to_keep() {
        let verdict = Verdict::new(report(Vec::new()));
        insta::assert_snapshot!(verdict.table(false, false));
        assert!(verdict.into_result().is_ok());
    }

    #[test]
    fn every_finding_names_its_row() {
        let verdict = Verdict::new(report(vec![
            Finding::Edited { seq: 31 },
            Finding::Moved { seq: 32, from: 33 },
            Finding::Replaced { seq: 34 },
            Finding::Removed { from: 35, to: 37 },
            Finding::Duplicated { seq: 38 },
            Finding::Revived { seq: 3 },
            Finding::Truncated { from: 150, to: 150 },
            Finding::Added { from: 151, to: 152 },
            Finding::Unanchored { seq: 30 },
        ]));
        insta::assert_snapshot!(verdict.table(false, false));
        let json = serde_json::to_value(&verdict).expect("JSON");
        assert_eq!(json["intact"], false);
        assert_eq!(json["findings"][3]["kind"], "removed");
        let failure = verdict.into_result().expect_err("findings");
        assert_eq!(failure.exit(), Exit::Failure);
        assert!(failure.reasons()[0].contains("row 31"), "{failure:?}");
    }
}
