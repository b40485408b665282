//! `/healthz`, `/readyz` and `/keyz`, for the machines that look after the app.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::problem::Problem;
use crate::reseal::Progress;

/// The longest time a probe is held open, in seconds.
const MAX_WAIT: u64 = 25;

#[derive(Debug, Deserialize)]
pub(super) struct Patience {
    /// Seconds to wait for readiness; 0 when left out.
    #[serde(default)]
    wait: u64,
}

/// The process runs and answers; nothing else is asked.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// 200 when the database answers, its schema is new enough and the keys are there, else 503 with the reason. With `?wait=SECONDS` the
/// answer is held back until it is 200 or the time is over.
pub(super) async fn ready(State(app): State<App>, Query(patience): Query<Patience>) -> Response {
    let slot = app.held.try_acquire();
    let wait = if slot.is_ok() {
        patience.wait.min(MAX_WAIT)
    } else {
        0
    };
    match app.readiness.ready(Duration::from_secs(wait)).await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Which versions of the tenant's key are in use: what is not sealed with the active one is counted. Tells nothing of the
/// keys or of what they seal.
pub(super) async fn keys(State(app): State<App>) -> Result<Json<Progress>, Problem> {
    Ok(Json(app.resealing.progress().await?))
}
