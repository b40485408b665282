//! One file per request.

mod destroy;
mod disable;
mod enable;
mod ensure;
mod health;
mod list;
mod prove;
mod retire;
mod rewrap;
mod rotate;
mod unwrap;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::outcome;
use super::problem::{Code, Refusal};
use super::shared::Shared;

/// Every path and what answers there.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/unwrap", post(unwrap::unwrap))
        .route(
            "/v1/tenants/{uid}/keys",
            get(list::list).post(ensure::ensure),
        )
        .route("/v1/tenants/{uid}/rotate", post(rotate::rotate))
        .route("/v1/tenants/{uid}/retire", post(retire::retire))
        .route("/v1/tenants/{uid}/rewrap", post(rewrap::rewrap))
        .route("/v1/tenants/{uid}/disable", post(disable::disable))
        .route("/v1/tenants/{uid}/enable", post(enable::enable))
        .route("/v1/tenants/{uid}/destroy", post(destroy::destroy))
        .route("/v1/tenants/{uid}/prove", post(prove::prove))
        .layer(from_fn_with_state(shared.clone(), outcome::measure))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(async |request: Request| {
            Refusal::new(
                Code::NoSuchPath,
                format!("there is no path {}", request.uri().path()),
            )
        })
        .method_not_allowed_fallback(async |request: Request| {
            let (method, path) = (request.method(), request.uri().path());
            Refusal::new(
                Code::MethodNotAllowed,
                format!("{path} does not take {method}"),
            )
        })
        .with_state(shared)
}
