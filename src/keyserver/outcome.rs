//! How a request ended, for the metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::shared::Shared;

/// How a request ended: a fixed word, or the code of its refusal. A response that carries none is `done`.
#[derive(Clone, Copy, Debug)]
pub struct Outcome(pub &'static str);

/// Times and counts a request by its path and outcome.
pub async fn measure(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let outcome = response
        .extensions()
        .get::<Outcome>()
        .map_or("done", |outcome| outcome.0);
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    shared.metrics.request(path, outcome, began.elapsed());
    response
}
