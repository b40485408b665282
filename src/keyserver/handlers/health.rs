//! `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::keyserver::shared::Shared;

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    ready: bool,
    registry: String,
    /// Reported and not required: without the KMS this server still says clearly what is wrong, and its audit goes on.
    kms: &'static str,
}

/// Ready as long as the registry answers: without it nothing is done, because nothing could be audited.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Readiness>) {
    let registry = shared.registry.check().await;
    let ready = registry.is_ok();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let readiness = Readiness {
        ready,
        registry: registry.map_or_else(|error| error.to_string(), |()| "reachable".to_owned()),
        kms: shared.kms.reach().as_str(),
    };
    (code, Json(readiness))
}

/// The figures.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> String {
    shared.metrics.render()
}
