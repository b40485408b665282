//! `granary keys list`: the keys as the operator reports them.

use clap::Args;
use jiff::Timestamp;

use super::super::argument;
use super::super::cluster::Cluster;
use super::super::failure::Failure;
use super::super::list;
use super::super::printer::Printer;
use super::table::Keys;

/// List the keys of tenants and their versions
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only this tenant's
    #[arg(value_parser = argument::tenant)]
    name: Option<String>,
}

/// Runs `granary keys list`.
pub async fn run(args: &ListArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let tenants = match &args.name {
        Some(name) => vec![cluster.tenant(name).await?],
        None => list::tenants(cluster, None).await?,
    };
    if tenants.is_empty() {
        printer.note("No tenants found.");
    }
    printer.show(&Keys::of(&tenants, Timestamp::now()))
}
