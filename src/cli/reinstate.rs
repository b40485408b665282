//! `granary reinstate`: an offboarded tenant comes back, with its data, while its grace period lasts.

use clap::Args;

use super::argument;
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::look;
use super::printer::Printer;
use super::resume::change;
use super::wait::{Goal, WaitArgs};
use crate::api::{Phase, Tenant, TenantState};

/// Reinstate an offboarded tenant while its grace period lasts: the same data, served again.
#[derive(Args, Debug)]
pub struct ReinstateArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant)]
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Runs `granary reinstate`.
pub async fn run(args: &ReinstateArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let what = format!("cannot reinstate tenant {:?}", args.name);
    let tenant = cluster.tenant(&args.name).await?;
    if let Some(why) = obstacle(&tenant) {
        return Err(Failure::new(Exit::Conflict, what)
            .why(format!("{why}; nothing was changed"))
            .next(format!("granary status {}", args.name)));
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

/// Why the tenant cannot come back, if it cannot.
fn obstacle(tenant: &Tenant) -> Option<&'static str> {
    match (look::phase_of(tenant), tenant.spec.state) {
        (Phase::Deleting, _) => Some("it is being removed"),
        (Phase::Shredding, _) => {
            Some("its grace period is over, and its key and data are being destroyed")
        }
        (Phase::Shredded, _) => Some("its key and data are destroyed"),
        (_, TenantState::Offboarded) => None,
        // What was reinstated a moment ago is waited for again.
        _ if tenant
            .status
            .as_ref()
            .is_some_and(|status| status.offboarding.is_some()) =>
        {
            None
        }
        _ => Some("it is not being offboarded"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixtures::tenant;
    use super::*;

    #[rstest]
    #[case(Phase::Offboarding, TenantState::Offboarded, true)]
    #[case(Phase::Offboarded, TenantState::Offboarded, true)]
    #[case(Phase::Ready, TenantState::Offboarded, true)]
    #[case(Phase::Ready, TenantState::Active, false)]
    #[case(Phase::Suspended, TenantState::Suspended, false)]
    #[case(Phase::Shredding, TenantState::Offboarded, false)]
    #[case(Phase::Shredded, TenantState::Offboarded, false)]
    fn only_who_is_in_grace_comes_back(
        #[case] phase: Phase,
        #[case] state: TenantState,
        #[case] may: bool,
    ) {
        let tenant = tenant("acme").ready().wanting(state).phase(phase).build();
        assert_eq!(obstacle(&tenant).is_none(), may, "{phase:?}");
    }
}
