//! `granary completion`: a completion script for a shell.

use clap::Args;
use clap_complete::Shell;

use super::failure::Failure;
use super::printer::Printer;

/// Print a completion script: source <(granary completion bash)
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Runs `granary completion`.
pub fn run(args: &CompletionArgs, printer: Printer) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "granary", &mut script);
    printer.data(&String::from_utf8_lossy(&script))
}
