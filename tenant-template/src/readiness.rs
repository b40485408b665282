//! Whether the database accepts this app and its schema is the one this build needs.
//!
//! One prober works while the answer is no, however many probes are held open; while the answer is yes nothing runs
//! by itself, and each `/readyz` asks the database once.

use std::fmt;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database::{self, Database};
use crate::migrate;

/// How long the database may take to answer a question while the app is ready.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the app is not ready. The texts are public: they name no host and no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// The database does not answer, or does not accept this app.
    Database,
    /// The schema is older than this build.
    Schema {
        /// Newest applied migration.
        found: i64,
        /// Newest migration of this build.
        needed: i64,
    },
    /// The process is ending.
    Stopping,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database => f.write_str("the database does not accept connections yet"),
            Self::Schema { found, needed } => {
                write!(
                    f,
                    "the schema is at version {found}, this build needs {needed}: the migration has not finished"
                )
            }
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

/// Answers whether the app is ready, and waits for it.
#[derive(Debug)]
pub struct Readiness {
    pool: PgPool,
    state: watch::Sender<Result<(), NotReady>>,
    lost: Notify,
    stop: CancellationToken,
}

impl Readiness {
    /// Not ready until [`Self::probe`] finds that it is. `stop` makes it unready for good.
    #[must_use]
    pub fn new(pool: PgPool, stop: CancellationToken) -> Self {
        Self {
            pool,
            state: watch::Sender::new(Err(NotReady::Database)),
            lost: Notify::new(),
            stop,
        }
    }

    /// Works until `stop`: waits for the database and the schema, then sleeps until readiness is lost.
    pub async fn probe(&self, database: &Database) {
        let probing = async {
            loop {
                self.become_ready(database).await;
                self.lost.notified().await;
            }
        };
        tokio::select! {
            () = probing => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn become_ready(&self, database: &Database) {
        let needed = migrate::needed_version();
        loop {
            // Without a deadline it only returns with a connection.
            let Ok(mut connection) = database.wait(None).await else {
                continue;
            };
            // The first page must not wait for a login: open the pool's first connection while the migration runs.
            let warm = self.pool.clone();
            tokio::spawn(async move { warm.acquire().await.map(drop) });
            while let Ok(found) = migrate::applied_version(&mut connection).await {
                if found >= needed {
                    self.state.send_modify(|state| *state = Ok(()));
                    tracing::info!(schema = found, "ready");
                    return;
                }
                self.not_ready(NotReady::Schema { found, needed });
                tokio::time::sleep(database::RETRY).await;
            }
            self.not_ready(NotReady::Database);
        }
    }

    /// Sets the reason; logs it when it is a new one.
    fn not_ready(&self, reason: NotReady) {
        let changed = self
            .state
            .send_if_modified(|state| std::mem::replace(state, Err(reason)) != Err(reason));
        if changed {
            tracing::info!(%reason, "not ready");
        }
    }

    /// Whether the app is ready; waits up to `patience` for it and answers the moment it is.
    pub async fn ready(&self, patience: Duration) -> Result<(), NotReady> {
        let deadline = Instant::now() + patience;
        let mut state = self.state.subscribe();
        loop {
            if self.stop.is_cancelled() {
                return Err(NotReady::Stopping);
            }
            let now = *state.borrow_and_update();
            let Err(reason) = now else {
                if self.confirm().await {
                    return Ok(());
                }
                continue;
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                // The sender lives in self: it cannot be gone.
                _ = state.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Err(reason),
            }
        }
    }

    /// Asks the database once; a wrong answer starts the prober.
    async fn confirm(&self) -> bool {
        let needed = migrate::needed_version();
        let asked = async {
            let mut connection = self.pool.acquire().await?;
            migrate::applied_version(&mut connection).await
        };
        let reason = match tokio::time::timeout(CHECK_TIMEOUT, asked).await {
            Ok(Ok(found)) if found >= needed => return true,
            Ok(Ok(found)) => NotReady::Schema { found, needed },
            Ok(Err(_)) | Err(_) => NotReady::Database,
        };
        self.not_ready(reason);
        self.lost.notify_one();
        false
    }
}
