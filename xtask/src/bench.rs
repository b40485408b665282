//! `cargo xtask bench`: figures of a running cluster, measured from outside with one clock.

mod calls;
mod onboard;
mod page;
mod watch;

use anyhow::Result;
use clap::Subcommand;

use crate::cluster;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Onboard tenants and time every step until the tenant's page answers
    Onboard {
        #[command(flatten)]
        choice: cluster::Choice,
        #[command(flatten)]
        options: onboard::Options,
    },
}

/// Measures and prints.
pub fn run(command: &Command) -> Result<()> {
    let Command::Onboard { choice, options } = command;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(onboard::run(&choice.cluster()?, options))
}
