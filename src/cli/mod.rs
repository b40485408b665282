//! The command line: one file per command, one printer, one enum of exit codes.
//!
//! Commands act as the human who runs them, through the Kubernetes API alone, and write nothing but the `Tenant`
//! itself; everything else follows from it in the operator.

mod access;
mod advice;
mod age;
mod argument;
mod audit;
mod cluster;
mod completion;
mod crd;
mod doctor;
mod events;
mod evidence;
mod exit;
mod export;
mod failure;
#[cfg(test)]
mod fixtures;
mod globals;
mod keys;
mod list;
mod look;
mod offboard;
mod onboard;
mod printer;
mod probe;
mod progress;
mod reference;
mod reinstate;
mod resume;
mod roles;
mod state;
mod status;
mod suspend;
mod table;
mod tenants;
mod validate;
mod version;
mod wait;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use futures::FutureExt;

pub use exit::Exit;
pub use failure::Failure;

use cluster::Cluster;
use globals::{Globals, Terminal};
use printer::Printer;

/// Field manager of what people change with these commands; the operator's own is `granary`.
const FIELD_MANAGER: &str = "granary-cli";

/// Version of the reports that are no Kubernetes objects (`status`, `doctor`, …).
const REPORT_VERSION: &str = "cli.granary.dev/v1alpha1";

/// Give every customer of a SaaS product their own silo
#[derive(Parser, Debug)]
#[command(name = "granary", version, after_help = Exit::table(), disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(flatten)]
    Asking(Asking),
    Validate(validate::ValidateArgs),
    Evidence(evidence::EvidenceArgs),
    Crd(crd::CrdArgs),
    Completion(completion::CompletionArgs),
    Version(version::VersionArgs),
    #[command(flatten)]
    Role(roles::Role),
    #[command(hide = true)]
    Probe(probe::ProbeArgs),
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
}

/// Commands that ask the cluster.
#[derive(Subcommand, Debug)]
enum Asking {
    Onboard(onboard::OnboardArgs),
    List(list::ListArgs),
    Status(status::StatusArgs),
    Suspend(suspend::SuspendArgs),
    Resume(resume::ResumeArgs),
    Offboard(offboard::OffboardArgs),
    Keys(keys::KeysArgs),
    Reinstate(reinstate::ReinstateArgs),
    Export(export::ExportArgs),
    Audit(audit::AuditArgs),
    Doctor(doctor::DoctorArgs),
}

/// The tree of commands.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, runs the command and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let mut command = command();
    if is_plugin(&line) {
        command = command.bin_name("kubectl granary");
    }
    let parsed = command
        .try_get_matches_from_mut(line)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. Nobody can be told when printing them fails.
            let _ = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code());
            return ExitCode::from(code);
        }
    };
    let printer = Printer::new(&cli.globals, Terminal::detect(cli.globals.no_color));
    match dispatch(&cli, printer) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            printer.failure(&failure);
            failure.exit().into()
        }
    }
}

/// Whether kubectl runs this program as its plugin.
fn is_plugin(line: &[OsString]) -> bool {
    line.first()
        .and_then(|program| Path::new(program).file_stem())
        .is_some_and(|stem| stem == "kubectl-granary")
}

fn dispatch(cli: &Cli, printer: Printer) -> Result<(), Failure> {
    match &cli.command {
        Command::Validate(args) => validate::run(args, printer),
        Command::Evidence(args) => evidence::run(args, &cli.globals, printer),
        Command::Crd(args) => crd::run(args, printer),
        Command::Completion(args) => completion::run(args, printer),
        Command::Version(args) => version::run(args, printer),
        Command::Reference(args) => reference::run(args, printer),
        Command::Probe(args) => runtime()?.block_on(probe::run(args)),
        Command::Role(role) => role.run(),
        Command::Asking(command) => {
            if let Asking::Offboard(args) = command {
                args.check(printer.terminal())?;
            }
            runtime()?.block_on(async {
                let cluster = Cluster::connect(&cli.globals).await?;
                ask(command, &cluster, printer).await
            })
        }
    }
}

/// Runs a command that asks the cluster.
async fn ask(command: &Asking, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    // Boxed, because one future that holds every command's would be large.
    let running = match command {
        Asking::Onboard(args) => onboard::run(args, cluster, printer).boxed_local(),
        Asking::List(args) => list::run(args, cluster, printer).boxed_local(),
        Asking::Status(args) => status::run(args, cluster, printer).boxed_local(),
        Asking::Suspend(args) => suspend::run(args, cluster, printer).boxed_local(),
        Asking::Resume(args) => resume::run(args, cluster, printer).boxed_local(),
        Asking::Offboard(args) => offboard::run(args, cluster, printer).boxed_local(),
        Asking::Keys(args) => keys::run(args, cluster, printer).boxed_local(),
        Asking::Reinstate(args) => reinstate::run(args, cluster, printer).boxed_local(),
        Asking::Export(args) => export::run(args, cluster, printer).boxed_local(),
        Asking::Audit(args) => audit::run(args, cluster, printer).boxed_local(),
        Asking::Doctor(args) => doctor::run(args, cluster, printer).boxed_local(),
    };
    running.await
}

/// A runtime for one command: one thread is enough to wait for answers.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, "cannot start").why(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn kubectl_calls_it_by_another_name() {
        let line = |program: &str| vec![OsString::from(program)];
        assert!(is_plugin(&line("/usr/local/bin/kubectl-granary")));
        assert!(is_plugin(&line("kubectl-granary.exe")));
        assert!(!is_plugin(&line("/usr/local/bin/granary")));
        assert!(!is_plugin(&[]));
    }

    #[test]
    fn usage_errors_end_with_the_documented_code() {
        let error = Cli::try_parse_from(["granary", "onboard"]).expect_err("a name is missing");
        assert_eq!(error.exit_code(), i32::from(Exit::Usage.code()));
    }

    #[test]
    fn help_explains_the_exit_codes() {
        let help = command().render_help().to_string();
        assert!(help.contains("130"), "{help}");
        assert!(help.contains("no cluster could be talked to"), "{help}");
    }
}
