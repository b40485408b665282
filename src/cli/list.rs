//! `granary list`: the tenants and how they are.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;

use super::argument;
use super::cluster::Cluster;
use super::failure::Failure;
use super::look;
use super::printer::Printer;
use super::tenants::Many;
use crate::api::{Phase, Tenant};

/// How many tenants are asked for at once.
const PAGE: u32 = 500;

/// List the tenants and how they are.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only tenants with these labels (key=value, !key, key in (a,b), …)
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = argument::selector)]
    selector: Option<String>,
    /// Only tenants in this phase (repeat for several)
    #[arg(long, value_name = "PHASE", ignore_case = true, value_parser = phases())]
    phase: Vec<String>,
}

fn phases() -> clap::builder::PossibleValuesParser {
    [
        Phase::Pending,
        Phase::Provisioning,
        Phase::Ready,
        Phase::Degraded,
        Phase::Suspended,
        Phase::Offboarding,
        Phase::Offboarded,
        Phase::Shredding,
        Phase::Shredded,
        Phase::Deleting,
        Phase::Rejected,
    ]
    .map(|phase| look::phase(phase).0)
    .into()
}

/// Runs `granary list`.
pub async fn run(args: &ListArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let mut tenants = tenants(cluster, args.selector.as_deref()).await?;
    if !args.phase.is_empty() {
        tenants.retain(|tenant| {
            let (phase, _) = look::phase(look::phase_of(tenant));
            args.phase
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(phase))
        });
    }
    if tenants.is_empty() {
        printer.note("No tenants found.");
    }
    printer.show(&Many {
        tenants,
        now: Timestamp::now(),
    })
}

/// The tenants with these labels, or all, by name.
pub async fn tenants(cluster: &Cluster, selector: Option<&str>) -> Result<Vec<Tenant>, Failure> {
    let mut params = ListParams::default().limit(PAGE);
    if let Some(selector) = selector {
        params = params.labels(selector);
    }
    let api = cluster.tenants();
    let mut tenants = Vec::new();
    loop {
        let page = cluster
            .ask("cannot list tenants", api.list(&params))
            .await?;
        tenants.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    for tenant in &mut tenants {
        tenant.metadata.managed_fields = None;
    }
    tenants.sort_by_key(ResourceExt::name_any);
    Ok(tenants)
}
