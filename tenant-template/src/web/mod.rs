//! Routes and what every request passes: log and headers, time limit, host, origin.

mod assets;
mod csrf;
mod guard;
mod health;
mod pages;
mod problem;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::config::{PublicUrl, ServeArgs};
use crate::readiness::Readiness;
use crate::reseal::Resealing;
use crate::vault::Vault;

/// The largest request body, in bytes. The only form has five short fields.
const MAX_BODY: usize = 16 * 1024;

/// Probes that may be held open at once; more are answered at once.
const MAX_HELD: usize = 16;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct App {
    display_name: Arc<str>,
    environment: Arc<str>,
    url: Arc<PublicUrl>,
    pool: PgPool,
    vault: Arc<Vault>,
    readiness: Arc<Readiness>,
    resealing: Arc<Resealing>,
    held: Arc<Semaphore>,
}

impl App {
    /// Binds the handlers to one tenant, its database and its keys.
    #[must_use]
    pub fn new(
        args: &ServeArgs,
        pool: PgPool,
        vault: Arc<Vault>,
        readiness: Arc<Readiness>,
        resealing: Arc<Resealing>,
    ) -> Self {
        Self {
            display_name: args.display_name.as_str().into(),
            environment: args.environment.as_str().into(),
            url: Arc::new(args.url.clone()),
            pool,
            vault,
            readiness,
            resealing,
            held: Arc::new(Semaphore::new(MAX_HELD)),
        }
    }
}

/// The whole app. Guards are listed from the innermost to the outermost.
pub fn router(app: App) -> Router {
    let pages = Router::new()
        .route("/", get(pages::book))
        .route("/entries", post(pages::add))
        .route(
            "/entries/{id}/delete",
            get(pages::confirm_delete).post(pages::delete),
        )
        .route(assets::STYLE_PATH, get(assets::style))
        .route(assets::ICON_PATH, get(assets::icon))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(app.clone(), guard::origin))
        .layer(from_fn_with_state(app.clone(), guard::host));
    let keys = Router::new()
        .route("/keyz", get(health::keys))
        .layer(from_fn_with_state(app.clone(), guard::not_public));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(keys)
        .merge(pages)
        .layer(from_fn(guard::time_limit))
        .layer(from_fn_with_state(app.clone(), guard::answer))
        .with_state(app)
}
