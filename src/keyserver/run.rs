//! The key server's process: settings, watches, the HTTPS server, and a clean end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use kube::Client;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Rates;
use super::authorize::Plane;
use super::handlers;
use super::kms::Kms;
use super::metrics::Metrics;
use super::opening::{self, Opening};
use super::pace::Pace;
use super::settings::KeyServerSettings;
use super::shared::Shared;
use super::tenants::Tenants;
use crate::https::files::ServerFiles;
use crate::https::server::{self, Server};
use crate::registry::Registry;

/// More clients than this wait their turn.
const MOST_CONNECTIONS: usize = 1024;

/// Connections of one address, which is one pod: the operator's passes together need a few dozen.
const MOST_PER_ADDRESS: usize = 64;

/// How often the certificate files are looked at.
const CERTIFICATE_TICK: Duration = Duration::from_secs(2);

/// How often a KMS that cannot be opened yet is tried again.
const OPEN_TICK: Duration = Duration::from_secs(2);

/// How long requests that run may take to end when the process is told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Runs `granary keyserver` until it is told to stop.
///
/// # Errors
/// Where it cannot start: no certificate, no API server, settings that cannot work.
pub async fn run(settings: KeyServerSettings) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("cannot find the API server")?;
    let listener = server::bind(settings.port)
        .await
        .with_context(|| format!("cannot listen on port {}", settings.port))?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    let registry = Registry::connect(&settings.registry())
        .context("cannot prepare the way to the registry")?;
    let surroundings = Surroundings {
        client,
        kms: Opening::of(settings.kms.clone(), registry.clone()),
        registry,
    };
    serve(&settings, surroundings, listener, stop).await
}

/// What the key server talks to.
#[derive(Clone)]
pub struct Surroundings {
    /// The API server.
    pub client: Client,
    /// The registry, as role `app`.
    pub registry: Registry,
    /// The KMS.
    pub kms: Opening,
}

/// Serves on `listener` until `stop`, then ends the requests that run.
///
/// # Errors
/// Where it cannot start: no certificate, a KMS that can never be opened.
pub async fn serve(
    settings: &KeyServerSettings,
    surroundings: Surroundings,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut files = ServerFiles::new(&settings.tls_dir);
    let certificate = files
        .load()
        .context("the server certificate cannot be used")?;
    let tls = Arc::new(ArcSwap::new(certificate));
    let shared = Arc::new(shared(settings, surroundings));
    open_kms(&shared).await?;
    let renewing = tokio::spawn(renew(files, tls.clone()));
    let server = Server {
        listener,
        tls,
        router: handlers::router(shared.clone()),
        connections: MOST_CONNECTIONS,
        per_address: MOST_PER_ADDRESS,
    };
    tracing::info!(provider = %shared.kms.name(), "the key server is up");
    let ended = async {
        server.serve(stop.clone()).await;
        shared.work.close();
        shared.work.wait().await;
    };
    let overdue = async {
        stop.cancelled().await;
        tracing::info!("stopping: requests that run are finished first");
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = ended => {}
        () = overdue => tracing::warn!("some requests did not end in time; their clients repeat them"),
    }
    renewing.abort();
    shared.registry.close().await;
    Ok(())
}

fn shared(settings: &KeyServerSettings, surroundings: Surroundings) -> Shared {
    let Surroundings {
        client,
        registry,
        kms,
    } = surroundings;
    let metrics = Metrics::default();
    Shared {
        tenants: Tenants::watch(&client),
        client,
        plane: Plane {
            namespace: settings.namespace.clone(),
            operator: settings.operator_account.clone(),
        },
        rates: Rates::new(settings.pod_rate, settings.pod_burst),
        pace: Pace::default(),
        registry,
        kms: Kms::new(kms, metrics.clone()),
        metrics,
        work: TaskTracker::new(),
    }
}

/// Opens the KMS now if that can be done. What can never work ends the process; what may work later is tried again
/// beside the server, which says meanwhile that it is not ready, or refuses.
async fn open_kms(shared: &Arc<Shared>) -> anyhow::Result<()> {
    match shared.kms.open().await {
        Ok(_) => Ok(()),
        Err(error) if opening::is_transient(&error) => {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the KMS cannot be opened yet"
            );
            let shared = shared.clone();
            tokio::spawn(async move {
                while shared.kms.open().await.is_err() {
                    tokio::time::sleep(OPEN_TICK).await;
                }
            });
            Ok(())
        }
        Err(error) => Err(error).context("the KMS cannot be used"),
    }
}

async fn renew(mut files: ServerFiles, tls: Arc<ArcSwap<ServerConfig>>) {
    loop {
        tokio::time::sleep(CERTIFICATE_TICK).await;
        files.renew(&tls);
    }
}
