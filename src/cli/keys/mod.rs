//! `granary keys`: which keys tenants have, and new versions of them. From the tenants' status, and through their spec.

mod list;
mod rotate;
mod table;

use clap::{Args, Subcommand};

use super::cluster::Cluster;
use super::failure::Failure;
use super::printer::Printer;

/// List the keys of tenants, and replace them by new versions
#[derive(Args, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    List(list::ListArgs),
    Rotate(rotate::RotateArgs),
}

/// Runs `granary keys …`.
pub async fn run(args: &KeysArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    match &args.task {
        Task::List(args) => list::run(args, cluster, printer).await,
        Task::Rotate(args) => rotate::run(args, cluster, printer).await,
    }
}
