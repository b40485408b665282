//! `granary suspend`: pods gone, volume kept, a plain 503 page.

use clap::Args;

use super::argument;
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::printer::Printer;
use super::resume::change;
use super::wait::{Goal, WaitArgs};
use crate::api::TenantState;

/// Suspend a tenant: its pods go, its volume stays, its page answers 503.
#[derive(Args, Debug)]
pub struct SuspendArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant)]
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Runs `granary suspend`.
pub async fn run(args: &SuspendArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let what = format!("cannot suspend tenant {:?}", args.name);
    let tenant = cluster.tenant(&args.name).await?;
    if tenant.spec.state == TenantState::Offboarded {
        return Err(Failure::new(Exit::Conflict, what)
            .why("it is being offboarded, which cuts its access already")
            .next(format!("granary status {}", args.name)));
    }
    Box::pin(change(
        tenant,
        TenantState::Suspended,
        Goal::Suspended,
        &what,
        args.wait,
        cluster,
        printer,
    ))
    .await
}
