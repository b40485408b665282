//! `cargo xtask bench`: figures. Those of a running cluster are measured from outside with one clock.

mod calls;
mod onboard;
mod page;
mod watch;

use anyhow::Result;
use clap::Subcommand;

use crate::cluster;
use crate::command::{cargo, run_visibly};

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
    /// Append to the audit, with the chain and without, on a PostgreSQL of its own; needs no cluster
    Audit {
        /// Seconds for each figure; there are 24
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

/// Measures and prints.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Onboard { choice, options } => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(onboard::run(&choice.cluster()?, options)),
        // With the dev profile: the time goes to PostgreSQL, and nothing has to be compiled anew.
        Command::Audit { seconds } => run_visibly(
            cargo()
                .args(["bench", "--quiet", "--profile", "dev", "--bench", "audit"])
                .env("GRANARY_BENCH_SECONDS", seconds.to_string()),
        ),
    }
}
