//! `/healthz`, `/readyz` and `/metrics` over HTTPS.
//!
//! The certificate is made at start and lives in memory: kubelet probes do not check it, and a scraper is told to
//! skip the check. It is there so that nothing in the plane speaks in the clear.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::https::server::Server;

/// More clients than this wait their turn.
const MOST_CONNECTIONS: usize = 64;

/// Whether this process is ready; alive it is as long as it answers.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ready: Arc<AtomicBool>,
}

impl Health {
    /// This process can do its work.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Gives the metrics as text.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves until the process ends.
///
/// # Errors
/// Where the address cannot be bound or the certificate cannot be made.
pub async fn serve(listen: SocketAddr, health: Health, render: Render) -> anyhow::Result<()> {
    let tls = Arc::new(ArcSwap::from_pointee(self_signed()?));
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        anyhow::anyhow!("cannot listen on {listen} for health and metrics: {error}")
    })?;
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|State((_, render)): State<(Health, Render)>| async move { render() }),
        )
        .with_state((health, render));
    let server = Server {
        listener,
        tls,
        router,
        connections: MOST_CONNECTIONS,
        per_address: MOST_CONNECTIONS,
    };
    server.serve(CancellationToken::new()).await;
    Ok(())
}

async fn readyz(State((health, _)): State<(Health, Render)>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the watches are not in sync yet; are the CRDs installed?\n",
        )
    }
}

fn self_signed() -> anyhow::Result<ServerConfig> {
    let certified = rcgen::generate_simple_self_signed(["granary-operator".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        certified.signing_key.serialize_der(),
    ));
    Ok(
        ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)?,
    )
}
