//! The registry: the plane's PostgreSQL, which keeps what outlives a tenant's custom resource.
//!
//! ```text
//! Registry ─ pool ─ private socket ─ tunnel (TLS 1.3, client certificate) ─ PostgreSQL
//!    └ begin() ─ transaction ─ tenants · keys · data_keys · operations · evidence · exports · (audit)
//! ```
//!
//! One file per table; each holds plain functions over a connection, so that the caller decides what commits together.
//! Each table says in its comment what it is the source of truth for (`migrations/`).
//!
//! Nothing waits long here: a registry that is away is an error within seconds ([`RegistryError::is_transient`]), and
//! the caller decides when to try again. What is not known to be committed has to be asked for again: every function
//! that writes can be called twice.

pub mod data_keys;
mod error;
pub mod evidence;
pub mod exports;
pub mod keys;
pub mod local_keys;
mod migrate;
pub mod operations;
mod settings;
pub mod tenants;
mod time;
mod tls;
mod transaction;
mod tunnel;
mod words;

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Postgres};

pub use error::RegistryError;
pub use migrate::{Migrated, schema_version};
pub use settings::{Dial, Duplex, Endpoint, Identity, RegistrySettings, Role, Stream};
pub use transaction::Transaction;
pub(crate) use words::words;

use tunnel::Tunnel;

/// A connection lives this long at most, so that a renewed client certificate is soon the only one in use.
const MAX_LIFETIME: Duration = Duration::from_mins(10);

/// A connection that nobody needed for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);

/// Limits that the server keeps for every session. A transaction that appended to the audit holds up every other
/// writer, so one whose client hangs is ended.
const SESSION_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// A connection out of the pool, for reading.
pub type Connection = PoolConnection<Postgres>;

/// The registry, as one role. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: PgPool,
    _tunnel: Arc<Tunnel>,
}

impl Registry {
    /// Prepares connections; none is made before it is needed, so this works while the registry is away. Must be
    /// called in a Tokio runtime.
    pub fn connect(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let tunnel = Tunnel::open(settings).map_err(|source| RegistryError::Socket {
            folder: settings.socket_dir.clone(),
            source,
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.patience)
            .max_lifetime(MAX_LIFETIME)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_lazy_with(options(&tunnel, settings).options(SESSION_LIMITS));
        Ok(Self {
            pool,
            _tunnel: Arc::new(tunnel),
        })
    }

    /// Brings the schema up to date, as role `owner`. Several may try at once: one works, the others wait for it.
    pub async fn migrate(settings: &RegistrySettings) -> Result<Migrated, RegistryError> {
        migrate::run(settings).await
    }

    /// A connection for reading.
    pub async fn acquire(&self) -> Result<Connection, RegistryError> {
        Ok(self.pool.acquire().await?)
    }

    /// A transaction. Keep it short, and append to the audit last: see `audit::append`.
    pub async fn begin(&self) -> Result<Transaction, RegistryError> {
        Ok(Transaction::new(self.pool.begin().await?))
    }

    /// Whether the registry answers and has the schema that this build needs.
    pub async fn check(&self) -> Result<(), RegistryError> {
        migrate::check(&mut *self.acquire().await?).await
    }

    /// Closes all connections and waits until they are closed.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// How sqlx reaches the tunnel's socket.
fn options(tunnel: &Tunnel, settings: &RegistrySettings) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(tunnel.folder())
        .port(tunnel::PORT)
        .database(&settings.database)
        .username(settings.role.as_str())
        // The tunnel does TLS.
        .ssl_mode(PgSslMode::Disable)
        .application_name("granary")
        .disable_statement_logging()
}
