//! `granary evidence`: the records that tenants' data is gone.

mod key;
mod report;
mod show;
mod verify;

use clap::{Args, Subcommand};

use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::globals::Globals;
use super::printer::Printer;

/// Show and check the signed records of deletions; `granary evidence NAME` is short for `granary evidence show NAME`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvidenceArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    show: Option<show::ShowArgs>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Show(show::ShowArgs),
    Key(key::KeyArgs),
    Verify(verify::VerifyArgs),
}

/// Runs `granary evidence`. Only checking asks no cluster.
pub fn run(args: &EvidenceArgs, globals: &Globals, printer: Printer) -> Result<(), Failure> {
    let show = match (&args.command, &args.show) {
        (Some(Command::Verify(args)), _) => return verify::run(args, printer),
        (Some(Command::Key(args)), _) => {
            return super::runtime()?.block_on(async {
                let cluster = Cluster::connect(globals).await?;
                key::run(args, &cluster, printer).await
            });
        }
        (Some(Command::Show(show)), _) | (None, Some(show)) => show,
        // The parser asks for a name first.
        (None, None) => {
            return Err(
                Failure::new(Exit::Usage, "whose evidence?").next("granary evidence show NAME")
            );
        }
    };
    super::runtime()?.block_on(async {
        let cluster = Cluster::connect(globals).await?;
        show::run(show, &cluster, printer).await
    })
}
