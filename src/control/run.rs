//! The operator's process: watches, leader election, passes, and a clean end.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt};
use kube::{
    Client,
    runtime::{
        controller::{self, applier},
        events::{Recorder, Reporter},
        reflector::Store,
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    context::Context,
    lease::{Elector, Leadership},
    memory::Memory,
    observations::Observations,
    plan_list,
    probe::{GatewayAccess, Probes},
    reconcile::{on_error, reconcile},
    watches::{Request, Triggers, Watches},
    writer::Writer,
};
use crate::{
    api::{SiloSettings, Tenant},
    config::OperatorSettings,
    https,
    pki::Lifetimes,
    telemetry::{self, Health, Metrics},
};

/// Name of the Lease that replicas compete for.
const LEASE: &str = "granary-operator";

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
    let context = Arc::new(Context {
        writer: writer.clone(),
        settings: silo_settings(&settings, gateway_namespace),
        lifetimes: Lifetimes {
            leaf: settings.leaf_lifetime,
            ca: settings.ca_lifetime,
        },
        observations,
        plans: watches.plans.clone(),
        probes: Probes::new(gateway_access(&settings)?),
        recorder: Recorder::new(client.clone(), reporter(&settings)),
        memory,
        metrics: metrics.clone(),
        gateway: watches.gateway.clone(),
        storage_classes: watches.storage_classes.clone(),
        client,
    });
    let mut stop = std::pin::pin!(told_to_stop()?);
    let mut server = std::pin::pin!(server);

    tokio::select! {
        () = async { watches.synced().await; health.ready(); elector.win().await } => {}
        () = &mut stop => return Ok(()),
        ended = &mut server => return ended.context("the health server ended")?,
    }
    tracing::info!(identity = %settings.pod_name, "this replica leads");
    metrics.leader(true);
    triggers.activate(&watches.tenants);
    tokio::spawn(plan_list::keep(
        context.client.clone(),
        writer,
        watches.plans.clone(),
        watches.plan_changes.clone(),
    ));
    let passes = passes(
        context,
        watches.tenants.clone(),
        requests,
        settings.concurrency,
    );
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

fn reporter(settings: &OperatorSettings) -> Reporter {
    Reporter {
        controller: LEASE.to_owned(),
        instance: Some(settings.pod_name.clone()),
    }
}

fn silo_settings(settings: &OperatorSettings, gateway_namespace: String) -> SiloSettings {
    SiloSettings {
        base_domain: settings.base_domain.clone(),
        external_port: settings.external_port,
        gateway_name: settings.gateway_name.clone(),
        gateway_namespace,
        gateway_dataplane_namespace: settings.gateway_dataplane_namespace.clone(),
        plane_namespace: settings.namespace.clone(),
        postgres_image: settings.postgres_image.clone(),
        dns_namespace: settings.dns_namespace.clone(),
    }
}

fn gateway_access(settings: &OperatorSettings) -> anyhow::Result<GatewayAccess> {
    let file = settings.gateway_ca_file.display();
    let roots = match std::fs::read(&settings.gateway_ca_file) {
        Ok(roots) => roots,
        // An image without public authorities still runs; what then fails is said where it is looked at.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(
                "{file} does not exist, so no page can be checked; set the chart's gateway.caBundle"
            );
            Vec::new()
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot read {file}, which the gateway's certificate is checked against")
            });
        }
    };
    let tls = https::client::client_config(&roots, None)
        .map_err(|error| anyhow::anyhow!("{file} holds no usable certificates: {error}"))?;
    Ok(GatewayAccess {
        address: settings.gateway_probe_address.clone(),
        base_domain: settings.base_domain.clone(),
        external_port: settings.external_port,
        tls,
    })
}

fn render(metrics: &Metrics, watches: &Watches) -> telemetry::Render {
    let (metrics, tenants) = (metrics.clone(), watches.tenants.clone());
    Arc::new(move || {
        let mut by_phase = BTreeMap::new();
        for tenant in tenants.state() {
            let phase = tenant
                .status
                .as_ref()
                .map(|status| status.phase)
                .unwrap_or_default();
            *by_phase.entry(format!("{phase:?}")).or_insert(0) += 1;
        }
        metrics.tenants(by_phase);
        metrics.render()
    })
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
