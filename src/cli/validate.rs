//! `granary validate`: the rules of the API server, without one.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::printer::{Printer, View};
use super::table::{Grid, Tone};
use crate::api::validate::{Checked, Verdict};

/// Check files of tenants and plans offline, by the rules of the API server
///
/// What needs a cluster is not checked: whether the plan exists, whether the name is taken, whether a domain is under the
/// cluster's own, and what may change of an object that is there. `kubectl apply --dry-run=server` checks that too.
#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// File with one or more objects, YAML or JSON; - reads standard input (repeat for several)
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What came out of checking some files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    api_version: &'static str,
    kind: &'static str,
    objects: Vec<Object>,
}

/// One object of a file.
#[derive(Debug, Serialize)]
struct Object {
    file: String,
    line: u64,
    column: u64,
    kind: String,
    name: String,
    /// `valid`, `invalid` or `skipped` (no resource of Granary's).
    verdict: &'static str,
    findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    field: String,
    message: String,
    line: u64,
    column: u64,
}

impl Object {
    fn of(file: &str, checked: Checked) -> Self {
        let (verdict, findings) = match checked.verdict {
            Verdict::Valid => ("valid", Vec::new()),
            Verdict::Foreign => ("skipped", Vec::new()),
            Verdict::Invalid(findings) => ("invalid", findings),
        };
        Self {
            file: file.to_owned(),
            line: checked.position.line,
            column: checked.position.column,
            kind: checked.kind,
            name: checked.name,
            verdict,
            findings: findings
                .into_iter()
                .map(|finding| Finding {
                    field: finding.field,
                    message: finding.message,
                    line: finding.position.line,
                    column: finding.position.column,
                })
                .collect(),
        }
    }

    fn title(&self) -> String {
        match (self.kind.as_str(), self.name.as_str()) {
            ("", "") => "?".to_owned(),
            (kind, "") => kind.to_owned(),
            ("", name) => format!("?/{name}"),
            (kind, name) => format!("{kind}/{name}"),
        }
    }
}

impl View for Report {
    fn table(&self, _wide: bool, colour: bool) -> String {
        if self.objects.is_empty() {
            return String::new();
        }
        let mut grid = Grid::new(colour, &["PLACE", "OBJECT", "VERDICT", "FINDING"]);
        for object in &self.objects {
            let tone = match object.verdict {
                "valid" => Tone::Good,
                "invalid" => Tone::Bad,
                _ => Tone::Dim,
            };
            let mut row = |line: u64, column: u64, finding: String| {
                grid.row([
                    (format!("{}:{line}:{column}", object.file), Tone::Plain),
                    (object.title(), Tone::Plain),
                    (object.verdict.to_owned(), tone),
                    (finding, Tone::Plain),
                ]);
            };
            if object.findings.is_empty() {
                row(object.line, object.column, String::new());
            }
            for finding in &object.findings {
                let text = format!("{}: {}", finding.field, finding.message);
                row(finding.line, finding.column, text);
            }
        }
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        self.objects
            .iter()
            .map(|object| format!("{}/{}", object.title(), object.verdict))
            .collect()
    }
}

/// Runs `granary validate`.
pub fn run(args: &ValidateArgs, printer: Printer) -> Result<(), Failure> {
    let mut objects = Vec::new();
    for file in &args.files {
        let name = file.display().to_string();
        let text = read(file)?;
        let checked = crate::api::validate(&text).map_err(|error| {
            Failure::new(Exit::Refused, format!("{name}: {error}")).why(error.explained())
        })?;
        objects.extend(
            checked
                .into_iter()
                .map(|checked| Object::of(&name, checked)),
        );
    }
    let invalid = objects
        .iter()
        .filter(|object| object.verdict == "invalid")
        .count();
    let report = Report {
        api_version: super::REPORT_VERSION,
        kind: "ValidationReport",
        objects,
    };
    printer.show(&report)?;
    // A file that was cut off, or the wrong one, is not to pass for a valid one.
    if report.objects.is_empty() {
        let files: Vec<String> = args
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        return Err(Failure::new(
            Exit::Refused,
            format!("{}: there is no object in it", files.join(", ")),
        ));
    }
    if invalid == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        format!(
            "{invalid} of {} objects would be refused",
            report.objects.len()
        ),
    ))
}

fn read(file: &Path) -> Result<String, Failure> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    read.map_err(|error| {
        Failure::new(Exit::Failure, format!("cannot read {}", file.display()))
            .why(error.to_string())
    })
}
