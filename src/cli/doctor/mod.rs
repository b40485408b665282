//! `granary doctor`: is everything there that tenants need?

mod admission;
mod api_server;
mod definitions;
mod gateway;
mod keyserver;
mod network;
mod operator;
mod permissions;
mod plans;
mod registry;
mod report;
mod storage;
mod trial;

use clap::Args;

use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::printer::Printer;
use report::Report;

/// Check everything that tenants need: cluster, CRDs, operator, key server, registry, gateway, policies, storage, rights
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Namespace that Granary is installed in
    #[arg(short, long, default_value = "granary-system")]
    namespace: String,
    /// Try network policies for real: three pods in a namespace of their own, removed afterwards
    #[arg(long)]
    probe: bool,
    /// Image of the probe's pods; the operator's when left out
    #[arg(long, value_name = "IMAGE", requires = "probe")]
    probe_image: Option<String>,
}

/// Runs `granary doctor`.
pub async fn run(args: &DoctorArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let server = api_server::check(cluster).await?;
    let (operator, installation) = operator::check(cluster, &args.namespace).await;
    let network = async {
        if args.probe {
            let image = args.probe_image.as_ref().or(installation.image.as_ref());
            trial::check(cluster, image.map(String::as_str), printer).await
        } else {
            network::check(cluster).await
        }
    };
    let (
        definitions,
        admission,
        keyserver,
        registry,
        plans,
        gateway,
        network,
        storage,
        permissions,
    ) = futures::join!(
        definitions::check(cluster),
        admission::check(cluster),
        keyserver::check(cluster, &args.namespace),
        registry::check(cluster, &installation, &args.namespace),
        plans::check(cluster),
        gateway::check(cluster, &installation, &args.namespace),
        network,
        storage::check(cluster),
        permissions::check(cluster),
    );
    let report = Report::new(vec![
        server,
        definitions,
        admission,
        operator,
        keyserver,
        registry,
        plans,
        gateway,
        network,
        storage,
        permissions,
    ]);
    printer.show(&report)?;
    let failed = report.failed();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failure,
        format!(
            "{} of the checks failed: {}",
            failed.len(),
            failed.join(", ")
        ),
    ))
}
