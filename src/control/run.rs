//! The operator's process: watches, leader election, passes, and a clean end.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt};
use kube::{
    Client,
    runtime::{
        controller::{self, applier},
        reflector::Store,
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    context::Context,
    lease::{Elector, Leadership},
    memory::Memory,
    observations::Observations,
    parts::{Parts, Shared},
    plan_list,
    reconcile::{on_error, reconcile},
    watches::{Request, Triggers, Watches},
    writer::Writer,
};
use crate::{
    api::{Tenant, TenantState},
    config::OperatorSettings,
    telemetry::{self, Health, Metrics},
};

/// Name of the Lease that replicas compete for.
pub(super) const LEASE: &str = "granary-operator";

/// How long passes that run may take to end when the process is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the operator until it is told to stop or loses the leadership.
///
/// # Errors
/// Where it cannot start, or where another replica took over: a fresh process then competes again.
pub async fn run(settings: OperatorSettings) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("cannot find the API server")?;
    let metrics = Metrics::default();
    let memory = Arc::new(Memory::default());
    let observations = Arc::new(Observations::default());
    let (triggers, requests) = Triggers::new(memory.clone(), metrics.clone());
    let triggers = Arc::new(triggers);
    let gateway_namespace = settings
        .gateway_namespace
        .clone()
        .unwrap_or_else(|| settings.namespace.clone());
    let mut watches = Watches::start(
        &client,
        &observations,
        &triggers,
        (&gateway_namespace, &settings.gateway_name),
    );
    let health = Health::default();
    let server = tokio::spawn(telemetry::serve(
        settings.listen,
        health.clone(),
        render(&metrics, &watches),
    ));
    let leadership = Leadership::default();
    let mut elector = Elector::new(
        client.clone(),
        &settings.namespace,
        LEASE,
        &settings.pod_name,
        leadership.clone(),
    );
    let writer = Writer::new(
        client.clone(),
        leadership,
        observations.clone(),
        metrics.clone(),
    );
    let Parts {
        context,
        plane,
        registry,
        mut credentials,
    } = Shared {
        settings: &settings,
        client,
        writer: writer.clone(),
        observations,
        memory,
        metrics: metrics.clone(),
        triggers: triggers.clone(),
        watches: &watches,
    }
    .assemble(gateway_namespace)?;
    let mut stop = std::pin::pin!(told_to_stop()?);
    let mut server = std::pin::pin!(server);

    tokio::select! {
        () = async { watches.synced().await; health.ready(); elector.win().await } => {}
        () = &mut stop => return Ok(()),
        ended = &mut server => return ended.context("the health server ended")?,
    }
    tracing::info!(identity = %settings.pod_name, "this replica leads");
    metrics.leader(true);
    tokio::spawn(plane.keep());
    tokio::spawn(registry.keep());
    tokio::spawn(context.offboarding.clone().keep_confirming());
    tokio::spawn(plan_list::keep(
        context.client.clone(),
        writer,
        watches.plans.clone(),
        watches.plan_changes.clone(),
    ));
    let passes = async {
        // Silos are built from the plane's authorities among others, so these come first.
        let known = credentials.wait_for(Option::is_some).await.is_ok();
        if known {
            triggers.activate(&watches.tenants);
            let tenants = watches.tenants.clone();
            passes(context, tenants, requests, settings.concurrency).await;
        }
    };
    let mut passes = std::pin::pin!(passes);
    let lost = tokio::select! {
        deposed = elector.hold() => Some(deposed),
        () = &mut stop => None,
        () = &mut passes => None,
        ended = &mut server => return ended.context("the health server ended")?,
    };
    if let Some(deposed) = lost {
        anyhow::bail!("the lease was lost: {deposed}; this process ends and a fresh one competes");
    }
    tracing::info!("stopping: passes that run are finished first");
    triggers.close();
    if tokio::time::timeout(GRACE, passes).await.is_err() {
        tracing::warn!("some passes did not end in time; whoever leads next repeats them");
    }
    elector.release().await;
    Ok(())
}

/// Passes over every tenant that is asked for, several at a time, until the queue ends.
async fn passes(
    context: Arc<Context>,
    tenants: Store<Tenant>,
    requests: impl Stream<Item = Request> + Send + 'static,
    concurrency: u16,
) {
    applier(
        |tenant, context| Box::pin(reconcile(tenant, context)),
        |tenant, error, context| on_error(&tenant, error, &context),
        context,
        tenants,
        requests,
        controller::Config::default().concurrency(concurrency),
    )
    .for_each(|pass| async move {
        if let Err(error) = pass {
            tracing::debug!(%error, "a pass had no tenant any more");
        }
    })
    .await;
}

fn render(metrics: &Metrics, watches: &Watches) -> telemetry::Render {
    let (metrics, tenants) = (metrics.clone(), watches.tenants.clone());
    Arc::new(move || {
        let mut by_phase = BTreeMap::new();
        let mut without_keys = 0;
        for tenant in tenants.state() {
            without_keys += i64::from(waits_for_keys(&tenant));
            let phase = tenant
                .status
                .as_ref()
                .map(|status| status.phase)
                .unwrap_or_default();
            *by_phase.entry(format!("{phase:?}")).or_insert(0) += 1;
        }
        metrics.tenants(by_phase);
        metrics.tenants_without_keys(without_keys);
        metrics.render()
    })
}

fn waits_for_keys(tenant: &Tenant) -> bool {
    let has_key = tenant
        .status
        .as_ref()
        .is_some_and(|status| status.key.is_some());
    !has_key
        && tenant.metadata.deletion_timestamp.is_none()
        && tenant.spec.state != TenantState::Offboarded
}

fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
