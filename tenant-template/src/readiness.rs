//! Whether the database accepts this app, its schema is the one this build needs, and the tenant's keys are there.
//!
//! One prober works while the answer is no, however many probes are held open; while the answer is yes nothing runs
//! by itself, and each `/readyz` asks the database once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database::{self, Database};
use crate::migrate;
use crate::vault::Vault;

/// How long the database may take to answer a question while the app is ready.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two looks for keys. They are put there before the app starts; later only when the key server was away.
const KEYS_RETRY: Duration = Duration::from_millis(250);

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
    /// The tenant's keys are not there.
    Keys,
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
            Self::Keys => f.write_str("the tenant's keys are missing: they have not arrived yet"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

/// Answers whether the app is ready, and waits for it.
#[derive(Debug)]
pub struct Readiness {
    pool: PgPool,
    vault: Arc<Vault>,
    state: watch::Sender<Result<(), NotReady>>,
    lost: Notify,
    /// Held while the database is asked, so that many probes at once take one connection, not all.
    asking: Mutex<()>,
    stop: CancellationToken,
}

impl Readiness {
    /// Not ready until [`Self::probe`] finds that it is. `stop` makes it unready for good.
    #[must_use]
    pub fn new(pool: PgPool, vault: Arc<Vault>, stop: CancellationToken) -> Self {
        Self {
            pool,
            vault,
            state: watch::Sender::new(Err(NotReady::Database)),
            lost: Notify::new(),
            asking: Mutex::default(),
            stop,
        }
    }

    /// Works until `stop`: waits for database, schema and keys, then sleeps until readiness is lost.
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
        'connect: loop {
            // Without a deadline it only returns with a connection.
            let Ok(mut connection) = database.wait(None).await else {
                continue;
            };
            // The first page must not wait for a login: log in while the migration runs.
            let early = tokio::spawn(warm_up(self.pool.clone()));
            while let Err(reason) = self.obstacle(&mut connection).await {
                self.not_ready(reason);
                match reason {
                    NotReady::Database => continue 'connect,
                    NotReady::Keys => tokio::time::sleep(KEYS_RETRY).await,
                    _ => tokio::time::sleep(database::RETRY).await,
                }
            }
            // Its result is that of the next line, which has nothing left to do unless the wait was long.
            let _ = early.await;
            if warm_up(self.pool.clone()).await.is_err() {
                self.not_ready(NotReady::Database);
                continue;
            }
            self.state.send_modify(|state| *state = Ok(()));
            tracing::info!("ready");
            return;
        }
    }

    /// What stands in the way, as far as the database and the files know.
    async fn obstacle(&self, connection: &mut PgConnection) -> Result<(), NotReady> {
        let needed = migrate::needed_version();
        match migrate::applied_version(connection).await {
            Err(_) => Err(NotReady::Database),
            Ok(found) if found < needed => Err(NotReady::Schema { found, needed }),
            Ok(_) => self.vault.keys().map(drop).map_err(|_| NotReady::Keys),
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
        let _one = self.asking.lock().await;
        if self.state.borrow().is_err() {
            // Somebody else asked meanwhile.
            return false;
        }
        let asked = async {
            match self.pool.acquire().await {
                Ok(mut connection) => self.obstacle(&mut connection).await,
                Err(_) => Err(NotReady::Database),
            }
        };
        let Err(reason) = tokio::time::timeout(CHECK_TIMEOUT, asked)
            .await
            .unwrap_or(Err(NotReady::Database))
        else {
            return true;
        };
        self.not_ready(reason);
        self.lost.notify_one();
        false
    }
}

/// Opens two connections of the pool: one for the first page, and one for the probe that asks at the same time.
async fn warm_up(pool: PgPool) -> Result<(), sqlx::Error> {
    tokio::try_join!(pool.acquire(), pool.acquire()).map(drop)
}
