//! `cargo xtask`: builds, runs and tests Granary on a bare machine.

mod bench;
mod cluster;
mod command;
mod demo;
mod images;
mod page;
mod paths;
mod prepare;
mod prerequisites;
mod progress;
mod suites;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and tests Granary on a bare machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// From an empty machine to two tenants served from their own silos
    Demo {
        #[command(flatten)]
        choice: target::Choice,
    },
    /// Run every test
    Test {
        #[command(flatten)]
        options: suites::Options,
    },
    /// The local Kubernetes cluster
    Cluster {
        #[command(flatten)]
        choice: cluster::Choice,
        #[command(subcommand)]
        command: cluster::Command,
    },
    /// Build the container images; prints name, digest and size of each
    Images {
        /// Optimised, as they are released
        #[arg(long)]
        release: bool,
    },
    /// Describe the registry's queries anew (`.sqlx`), after a change of a query or a migration
    Prepare(prepare::Options),
    /// Figures
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Demo { choice } => demo::run_demo(&choice),
        Task::Test { options } => suites::run_all(&options),
        Task::Cluster { choice, command } => cluster::run(&choice, command),
        Task::Images { release } => images::print_all(release),
        Task::Prepare(options) => prepare::run_prepare(&options),
        Task::Bench(command) => bench::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
