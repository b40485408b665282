//! `granary status`: everything about one tenant, once or as it changes.

mod certificates;
mod objects;
mod report;

use std::time::Duration;

use clap::Args;
use futures::future::join;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::argument;
use super::cluster::Cluster;
use super::events;
use super::exit::Exit;
use super::failure::Failure;
use super::globals::Output;
use super::printer::Printer;
use super::wait::watch_failure;
use crate::api::Tenant;
use report::Report;

/// How many events are kept; the table shows fewer.
const EVENTS: usize = 50;

/// Changes that come this close together are shown at once.
const SETTLE: Duration = Duration::from_millis(200);

/// Show everything about a tenant, and what to do next
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant)]
    name: String,
    /// Show it again whenever something changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// Runs `granary status`.
pub async fn run(args: &StatusArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let tenant = cluster.tenant(&args.name).await?;
    if printer.output() == Output::Name || !args.watch {
        return printer.show(&report(cluster, tenant).await);
    }
    tokio::select! {
        ended = watch(cluster, tenant, printer) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Asks for everything about the tenant.
async fn report(cluster: &Cluster, tenant: Tenant) -> Report {
    let namespace = tenant
        .status
        .as_ref()
        .and_then(|status| status.namespace.clone());
    let silo = async {
        match &namespace {
            Some(namespace) => {
                let (objects, certificates) = join(
                    objects::list(cluster, namespace),
                    certificates::read(cluster, &tenant, namespace),
                )
                .await;
                (objects, Some(certificates))
            }
            None => (Vec::new(), None),
        }
    };
    let ((objects, certificates), events) =
        join(silo, events::recent(cluster, &tenant, EVENTS)).await;
    let mut report = Report::of(tenant, Timestamp::now());
    report.objects = objects;
    report.certificates = certificates;
    match events {
        Ok(events) => report.events = events,
        Err(failure) => report.events_unknown = Some(failure.reasons().join("; ")),
    }
    report
}

/// One thing that changed.
enum Change {
    Tenant(Option<Box<Tenant>>),
    Pod,
}

async fn watch(cluster: &Cluster, tenant: Tenant, printer: Printer) -> Result<(), Failure> {
    let name = tenant.name_any();
    let mut namespace = namespace_of(&tenant);
    let mut changes = changes(cluster, &name, namespace.as_deref());
    let mut shown = tenant;
    loop {
        let mut next = changes.next().await;
        // Take what else has come meanwhile before asking for everything again.
        loop {
            match next {
                Some(Ok(Change::Tenant(Some(tenant)))) => shown = *tenant,
                Some(Ok(Change::Pod)) => {}
                Some(Ok(Change::Tenant(None))) => {
                    return Err(Failure::new(
                        Exit::NotFound,
                        format!("tenant {name:?} is gone"),
                    ));
                }
                Some(Err(failure)) => return Err(failure),
                None => return Ok(()),
            }
            match timeout(SETTLE, changes.next()).await {
                Ok(more) => next = more,
                Err(_) => break,
            }
        }
        shown.metadata.managed_fields = None;
        printer.clear()?;
        printer.show(&report(cluster, shown.clone()).await)?;
        if namespace_of(&shown) != namespace {
            namespace = namespace_of(&shown);
            changes = self::changes(cluster, &name, namespace.as_deref());
        }
    }
}

fn namespace_of(tenant: &Tenant) -> Option<String> {
    tenant.status.as_ref()?.namespace.clone()
}

/// Changes of the tenant and, once there is a silo, of its pods. Interruptions mend themselves; refusals end it.
fn changes(
    cluster: &Cluster,
    name: &str,
    namespace: Option<&str>,
) -> stream::BoxStream<'static, Result<Change, Failure>> {
    let owned = name.to_owned();
    let tenant = watcher::watch_object(cluster.tenants(), name)
        .default_backoff()
        .filter_map(move |seen| {
            let change = match seen {
                Ok(tenant) => Some(Ok(Change::Tenant(tenant.map(Box::new)))),
                Err(error) => refusal(watch_failure(&owned, &error)),
            };
            std::future::ready(change)
        });
    match namespace {
        Some(namespace) => stream::select(tenant, pods(cluster, namespace)).boxed(),
        None => tenant.boxed(),
    }
}

fn pods(cluster: &Cluster, namespace: &str) -> impl Stream<Item = Result<Change, Failure>> + use<> {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(cluster.client(), namespace);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(|seen| {
            // Without the right to watch pods the tenant's own changes still show.
            let changed = matches!(
                seen,
                Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))
            );
            std::future::ready(changed.then_some(Ok(Change::Pod)))
        })
}

fn refusal(failure: Failure) -> Option<Result<Change, Failure>> {
    (failure.exit() == Exit::Refused).then_some(Err(failure))
}
