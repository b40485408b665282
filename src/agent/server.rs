//! The agent's HTTPS server: kubelet's probes, and the status that only the operator may read.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::export::{ExportError, Exporter};
use super::probe::{Facts, Probe};
use super::readiness::{Readiness, Reason};
use super::volume::Space;
use crate::https::server::{Peer, Server};

/// Common name of the operator's client certificate.
const OPERATOR: &str = "operator";
/// The longest a probe is held open, and what it gets if it does not ask.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// More clients than this wait their turn.
const MOST_CONNECTIONS: usize = 64;

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
    exporter: Exporter,
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
        exporter: Exporter,
    ) -> Self {
        Self {
            probe,
            readiness,
            tls,
            checked,
            exporter,
        }
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, shared: Shared) {
    let tls = shared.tls.clone();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/export", get(export))
        .with_state(shared);
    let server = Server {
        listener,
        tls,
        router,
        connections: MOST_CONNECTIONS,
        per_address: MOST_CONNECTIONS,
    };
    server.serve(CancellationToken::new()).await;
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

fn operator_only(peer: &Peer) -> Result<(), (StatusCode, String)> {
    if peer.common_name.as_deref() == Some(OPERATOR) {
        return Ok(());
    }
    let message =
        format!("this needs a client certificate of the silo with common name {OPERATOR}\n");
    Err((StatusCode::FORBIDDEN, message))
}

#[derive(Debug, Deserialize)]
struct To {
    /// Who can open it.
    recipient: String,
}

/// The whole database, sealed.
async fn export(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Query(To { recipient }): Query<To>,
) -> Response {
    if let Err(refusal) = operator_only(&peer) {
        return refusal.into_response();
    }
    match shared.exporter.start(&recipient) {
        Ok(body) => body.into_response(),
        Err(error) => {
            let code = match error {
                ExportError::Recipient(_) => StatusCode::BAD_REQUEST,
                ExportError::Busy => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (code, format!("{error}\n")).into_response()
        }
    }
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

async fn status(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Response {
    if let Err(refusal) = operator_only(&peer) {
        return refusal.into_response();
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
