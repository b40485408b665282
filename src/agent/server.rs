//! The agent's HTTPS server: kubelet's probes, and the status that only the operator may read.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::probe::{Facts, Probe};
use super::readiness::{Readiness, Reason};
use super::volume::Space;

/// Common name of the operator's client certificate.
const OPERATOR: &str = "operator";
/// The longest a probe is held open, and what it gets if it does not ask.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// How long a client may take for the TLS handshake or for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// More clients than this wait their turn.
const MOST_CONNECTIONS: usize = 64;
/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long PostgreSQL's last good answer holds. Its end is noticed at once all the same: the agent is its parent.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
pub struct Shared {
    /// Asks the database.
    probe: Probe,
    /// What the supervisor knows.
    readiness: watch::Receiver<Readiness>,
    /// The certificate to serve with, replaced when the files change.
    tls: Arc<ArcSwap<ServerConfig>>,
    checked: Checked,
}

/// When PostgreSQL last gave a good answer.
pub type Checked = Arc<Mutex<Option<Instant>>>;

impl Shared {
    /// What the supervisor shares with the handlers.
    pub fn new(
        probe: Probe,
        readiness: watch::Receiver<Readiness>,
        tls: Arc<ArcSwap<ServerConfig>>,
        checked: Checked,
    ) -> Self {
        Self {
            probe,
            readiness,
            tls,
            checked,
        }
    }
}

/// Listens on all addresses, on those of IPv4 alone where the machine has no IPv6.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        listener => listener,
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, shared: Shared) {
    let tls = shared.tls.clone();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(shared);
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, tls.load_full(), router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client, from the handshake to its end. Failures are the client's: probes and scanners cause them daily.
async fn connection(stream: TcpStream, tls: Arc<ServerConfig>, router: Router) {
    let stream = match timeout(PATIENCE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let peer = Peer(
        stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| common_name(chain.first()?)),
    );
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Common name of the client's certificate, which the silo's authority signed; `None` for a client without one.
#[derive(Debug, Clone)]
struct Peer(Option<String>);

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    // Two names would let two readers disagree about who this is.
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

#[derive(Debug, Deserialize)]
struct Wait {
    /// Seconds that the answer may take.
    wait: Option<u64>,
}

/// Held open until the database is ready for the first time, so that a probe is answered the moment it is true.
async fn readyz(State(shared): State<Shared>, Query(Wait { wait }): Query<Wait>) -> Response {
    let wait = wait
        .map_or(LONGEST_WAIT, Duration::from_secs)
        .min(LONGEST_WAIT);
    let readiness = readiness(&shared, Instant::now() + wait).await;
    let code = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(readiness)).into_response()
}

async fn readiness(shared: &Shared, deadline: Instant) -> Readiness {
    let mut known = shared.readiness.clone();
    let settled = known.wait_for(|now| !now.reason.is_some_and(Reason::passes_by_itself));
    let _ = timeout_at(deadline, settled).await;
    let known = shared.readiness.borrow().clone();
    if !known.ready {
        return known;
    }
    // Once it ran it may have run out of room or stopped answering since. Probes come every second, and the second
    // question costs PostgreSQL a process: a good answer to it holds for a while.
    let mut checked = shared.checked.lock().await;
    if let Some(full) = shared.probe.lack_of_room() {
        return full;
    }
    if checked.is_some_and(|at| at.elapsed() < GOOD_FOR) {
        return known;
    }
    let now = shared.probe.readiness().await;
    *checked = now.ready.then(Instant::now);
    now
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(flatten)]
    readiness: Readiness,
    #[serde(flatten)]
    facts: Option<Facts>,
    volume: Option<Space>,
}

async fn status(State(shared): State<Shared>, Extension(Peer(peer)): Extension<Peer>) -> Response {
    if peer.as_deref() != Some(OPERATOR) {
        let message =
            format!("this needs a client certificate of the silo with common name {OPERATOR}\n");
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let readiness = readiness(&shared, Instant::now()).await;
    let facts = match shared.probe.facts().await {
        Ok(facts) => Some(facts),
        Err(error) => {
            tracing::debug!(%error, "no facts about the database");
            None
        }
    };
    Json(Status {
        readiness,
        facts,
        volume: shared.probe.space().ok(),
    })
    .into_response()
}
