//! `granary version`: which granary this is.

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::printer::{Printer, View};

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the version of this program and of the resources it speaks
#[derive(Args, Debug)]
pub struct VersionArgs {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "version")]
    program: &'static str,
    resources: String,
}

impl View for Report {
    fn table(&self, _wide: bool, _colour: bool) -> String {
        format!("granary {} ({})", self.program, self.resources)
    }

    fn names(&self) -> Vec<String> {
        vec![self.program.to_owned()]
    }
}

/// Runs `granary version`.
pub fn run(_args: &VersionArgs, printer: Printer) -> Result<(), Failure> {
    printer.show(&Report {
        api_version: super::REPORT_VERSION,
        kind: "Version",
        program: VERSION,
        resources: format!("{}/v1alpha1", crate::api::GROUP),
    })
}
