//! Options that every command takes.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::age;

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// How to print: table and wide abridge, json and yaml are complete
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Context of the kubeconfig to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Kubeconfig file to use instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How long one request may take (waiting for a silo is not one request)
    #[arg(long, global = true, value_name = "DURATION", default_value = "15s", value_parser = age::parse)]
    pub request_timeout: Duration,
    /// No progress on stderr, only data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colour; the variable `NO_COLOR` says the same
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// How to print what a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people
    Table,
    /// The table with more columns
    Wide,
    /// Complete objects as JSON
    Json,
    /// Complete objects as YAML
    Yaml,
    /// Only names, as kind/name
    Name,
}

/// What the terminal and the environment allow.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each asked for on its own"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Data may be coloured.
    pub colour_data: bool,
    /// Data goes to a terminal that can be cleared.
    pub data_is_seen: bool,
    /// Progress may be redrawn.
    pub live_progress: bool,
    /// Messages may be coloured.
    pub colour_messages: bool,
    /// Somebody can be asked.
    pub interactive: bool,
}

impl Terminal {
    /// Looks at the streams and at `NO_COLOR` and `TERM`.
    #[must_use]
    pub fn detect(no_color: bool) -> Self {
        let set = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let colour = !no_color && !dumb && set("NO_COLOR").is_none();
        let out_is_tty = std::io::stdout().is_terminal();
        let err_is_tty = std::io::stderr().is_terminal();
        Self {
            colour_data: colour && out_is_tty,
            data_is_seen: out_is_tty && !dumb,
            live_progress: err_is_tty && !dumb,
            colour_messages: colour && err_is_tty,
            interactive: err_is_tty && std::io::stdin().is_terminal(),
        }
    }
}
