//! `granary resume`: a suspended tenant runs again, on the same data.

use std::time::Instant;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;

use super::age::elapsed;
use super::argument;
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::look;
use super::printer::Printer;
use super::progress::Progress;
use super::state;
use super::tenants::One;
use super::wait::{self, Goal, WaitArgs};
use crate::api::{Tenant, TenantState};

/// Resume a suspended tenant: the same data, served again.
#[derive(Args, Debug)]
pub struct ResumeArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant)]
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Runs `granary resume`.
pub async fn run(args: &ResumeArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let what = format!("cannot resume tenant {:?}", args.name);
    let tenant = cluster.tenant(&args.name).await?;
    if tenant.spec.state == TenantState::Offboarded {
        return Err(Failure::new(Exit::Conflict, what)
            .why("it is being offboarded; only a suspended tenant can be resumed")
            .next(format!(
                "granary reinstate {}   # while its grace period lasts",
                args.name
            )));
    }
    Box::pin(change(
        tenant,
        TenantState::Active,
        Goal::Ready,
        &what,
        args.wait,
        cluster,
        printer,
    ))
    .await
}

/// Sets the wanted state, waits for the goal and prints the tenant.
pub async fn change(
    tenant: Tenant,
    state: TenantState,
    goal: Goal,
    what: &str,
    wait: WaitArgs,
    cluster: &Cluster,
    printer: Printer,
) -> Result<(), Failure> {
    let started = Instant::now();
    let name = tenant.name_any();
    if tenant.metadata.deletion_timestamp.is_some() {
        return Err(Failure::new(Exit::Conflict, what)
            .why("it is being removed")
            .next(format!("granary status {name}")));
    }
    let already = tenant.spec.state == state;
    let mut tenant = if already {
        tenant
    } else {
        state::set(cluster, &tenant, state, what).await?
    };
    let word = look::state(state);
    let mut progress = Progress::new(printer, started);
    progress.step(&if already {
        format!("tenant {name} is to be {word} already")
    } else {
        format!("tenant {name} is to be {word}")
    });
    if let Some(timeout) = wait.timeout() {
        if let Some(mut reached) =
            wait::until(goal, &tenant, cluster, &mut progress, timeout).await?
        {
            reached.metadata.managed_fields = None;
            tenant = reached;
        }
        let (phase, _) = look::phase(look::phase_of(&tenant));
        printer.note(&format!(
            "Tenant {name} is {} after {}.",
            phase.to_lowercase(),
            elapsed(progress.elapsed())
        ));
    }
    printer.show(&One {
        tenant,
        now: Timestamp::now(),
    })
}
