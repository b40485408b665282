//! Connecting to the tenant's database, and waiting until it is there.

use std::io;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::timeout;

use crate::config::DatabaseArgs;
use crate::logging::chain;
use crate::tls;
use crate::tunnel::Tunnel;

/// Pause between two tries while waiting. Database, migration and app start together, so that every pause here is
/// a pause that somebody waits for.
pub const RETRY: Duration = Duration::from_millis(20);

/// How long a try to connect and log in may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a page waits for a connection before it says that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of one app process. One tenant seldom has two requests at once.
const MAX_CONNECTIONS: u32 = 4;

/// A connection lives this long at most, so that a renewed client certificate is soon the only one in use.
const MAX_LIFETIME: Duration = Duration::from_mins(10);

/// A try to connect that failed.
#[derive(Debug, thiserror::Error)]
#[error("{host}:{port} does not accept role {role} yet: {reason}")]
pub struct ConnectError {
    host: String,
    port: u16,
    role: String,
    reason: String,
}

/// The tenant's database, reached as one role.
#[derive(Debug)]
pub struct Database {
    args: DatabaseArgs,
    tunnel: Tunnel,
}

impl Database {
    /// Prepares connections; none is made yet.
    pub fn new(args: &DatabaseArgs) -> io::Result<Self> {
        Ok(Self {
            tunnel: Tunnel::open(args)?,
            args: args.clone(),
        })
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.tunnel.dir())
            .port(self.args.port)
            .database(&self.args.name)
            .username(&self.args.user)
            // The tunnel does TLS.
            .ssl_mode(PgSslMode::Disable)
            .application_name("tenant-template")
            .disable_statement_logging()
    }

    /// A pool that connects when it is first used. It works as long as this database is kept.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        let limits = [("statement_timeout", "5s"), ("lock_timeout", "2s")];
        PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(MAX_LIFETIME)
            .idle_timeout(None)
            .connect_lazy_with(self.options().options(limits))
    }

    /// One try to connect.
    pub async fn connect(&self) -> Result<PgConnection, ConnectError> {
        let options = self.options();
        let login = PgConnection::connect_with(&options);
        let reason = match timeout(LOGIN_TIMEOUT, login).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(sqlx::Error::Database(error))) => error.message().to_owned(),
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer in {} s", LOGIN_TIMEOUT.as_secs()),
        };
        Err(ConnectError {
            host: self.args.host.clone(),
            port: self.args.port,
            role: self.args.user.clone(),
            reason,
        })
    }

    /// Tries until the database accepts the role or `deadline` is reached; the error is that of the last try.
    /// What is waited for is logged when it changes.
    pub async fn wait(&self, deadline: Option<Instant>) -> Result<PgConnection, ConnectError> {
        // Costs tens of milliseconds once; better now than when the database is there.
        tls::warm_up();
        let start = Instant::now();
        let mut last_reason = String::new();
        loop {
            match self.connect().await {
                Ok(connection) => {
                    let waited_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(waited_ms, "the database accepts role {}", self.args.user);
                    return Ok(connection);
                }
                Err(error) => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(error);
                    }
                    if error.reason != last_reason {
                        tracing::info!(reason = error.reason, "waiting for the database");
                        last_reason = error.reason;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
