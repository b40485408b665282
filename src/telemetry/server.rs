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

use axum::{Router, extract::State, http::StatusCode, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

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
    let acceptor = TlsAcceptor::from(Arc::new(self_signed()?));
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
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                continue;
            }
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let service = TowerToHyperService::new(router);
                let server = auto::Builder::new(TokioExecutor::new());
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a connection ended early");
                }
            }
        });
    }
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
