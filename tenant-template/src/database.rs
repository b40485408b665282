//! Connecting to the tenant's database, and waiting until it is there.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::DatabaseArgs;
use crate::logging::chain;

/// Pause between two tries while waiting. Database, migration and app start together, so that every pause here is
/// a pause that somebody waits for.
pub const RETRY: Duration = Duration::from_millis(20);

/// How long reaching the port may take: a packet lost while the network is still being set up must not cost the
/// whole second that TCP takes to send it again.
const REACH_TIMEOUT: Duration = Duration::from_millis(300);

/// How long TLS and login may take once the port is reached.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a page waits for a connection before it says that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of one app process. One tenant seldom has two requests at once.
const MAX_CONNECTIONS: u32 = 4;

/// A connection lives this long at most, so that a renewed client certificate is soon the only one in use.
const MAX_LIFETIME: Duration = Duration::from_mins(10);

/// Why a try to connect failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The port could not be reached.
    #[error("cannot reach {target}")]
    Unreachable {
        /// `host:port`.
        target: String,
        /// What the network said.
        #[source]
        source: std::io::Error,
    },
    /// The port was reached, but the login failed.
    #[error("{target} was reached, but it does not accept role {role}")]
    Refused {
        /// `host:port`.
        target: String,
        /// The role that was asked for.
        role: String,
        /// What TLS or the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The login did not end in time.
    #[error("{target} was reached, but the login of role {role} took more than {} s", LOGIN_TIMEOUT.as_secs())]
    Slow {
        /// `host:port`.
        target: String,
        /// The role that was asked for.
        role: String,
    },
}

/// Options for a connection. The certificate files are read again for every new connection.
#[must_use]
pub fn options(args: &DatabaseArgs) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&args.host)
        .port(args.port)
        .database(&args.name)
        .username(&args.user)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(&args.ca)
        .ssl_client_cert(&args.cert)
        .ssl_client_key(&args.key)
        .application_name("tenant-template")
        .disable_statement_logging()
}

/// A pool that connects when it is first used.
#[must_use]
pub fn pool(args: &DatabaseArgs) -> PgPool {
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
        .idle_timeout(None)
        .connect_lazy_with(
            options(args).options([("statement_timeout", "5s"), ("lock_timeout", "2s")]),
        )
}

/// One try to connect.
pub async fn connect(args: &DatabaseArgs) -> Result<PgConnection, ConnectError> {
    let target = || format!("{}:{}", args.host, args.port);
    let reached = timeout(
        REACH_TIMEOUT,
        TcpStream::connect((args.host.as_str(), args.port)),
    )
    .await
    .unwrap_or_else(|_| {
        Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer yet",
        ))
    });
    reached.map_err(|source| ConnectError::Unreachable {
        target: target(),
        source,
    })?;
    match timeout(LOGIN_TIMEOUT, PgConnection::connect_with(&options(args))).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(ConnectError::Refused {
            target: target(),
            role: args.user.clone(),
            source,
        }),
        Err(_) => Err(ConnectError::Slow {
            target: target(),
            role: args.user.clone(),
        }),
    }
}

/// Tries until the database accepts the role or `deadline` is reached; the error is that of the last try.
/// What is waited for is logged when it changes.
pub async fn wait(
    args: &DatabaseArgs,
    deadline: Option<Instant>,
) -> Result<PgConnection, ConnectError> {
    let start = Instant::now();
    let mut last_reason = String::new();
    loop {
        match connect(args).await {
            Ok(connection) => {
                let waited_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(waited_ms, "the database accepts role {}", args.user);
                return Ok(connection);
            }
            Err(error) => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(error);
                }
                let reason = chain(&error);
                if reason != last_reason {
                    tracing::info!(reason, "waiting for the database");
                    last_reason = reason;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
