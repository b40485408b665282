//! `granary evidence`: the records that tenants' data is gone.

mod report;
mod verify;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::printer::Printer;

/// Check the signed records of deletions
#[derive(Args, Debug)]
pub struct EvidenceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Verify(verify::VerifyArgs),
}

/// Runs `granary evidence`. Nothing of it asks the cluster.
pub fn run(args: &EvidenceArgs, printer: Printer) -> Result<(), Failure> {
    match &args.command {
        Command::Verify(args) => verify::run(args, printer),
    }
}
