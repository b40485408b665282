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
struct Version {
    api_version: &'static str,
    kind: &'static str,
    version: &'static str,
    resources: String,
}

impl View for Version {
    fn table(&self, _wide: bool, _colour: bool) -> String {
        format!("granary {} ({})", self.version, self.resources)
    }

    fn names(&self) -> Vec<String> {
        vec![self.version.to_owned()]
    }
}

/// Runs `granary version`.
pub fn run(_args: &VersionArgs, printer: &Printer) -> Result<(), Failure> {
    printer.show(&Version {
        api_version: super::REPORT_VERSION,
        kind: "Version",
        version: VERSION,
        resources: format!("{}/v1alpha1", crate::api::GROUP),
    })
}
