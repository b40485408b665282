//! Sealing anew what is not sealed with the active key: texts from before there were keys, and those of older versions.
//!
//! It works in small batches, each a transaction of its own, and can be stopped between or in the midst of any two: what
//! is left is found again. Rows that another replica has in hand are skipped. When nothing is left it waits until another
//! version becomes active, until `/keyz` shows something, or for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::book::{self, Row, description_of};
use crate::database::{ConnectError, Database};
use crate::logging;
use crate::readiness::{NotReady, Readiness};
use crate::vault::{PREFIX_LENGTH, SealError, Vault, prefix, version_of};

/// Rows of one batch: locked for milliseconds.
const BATCH: i64 = 100;

/// Pause between two batches, so that pages come first.
const PAUSE: Duration = Duration::from_millis(20);

/// Pause before it tries again after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// How often it looks by itself. A build from before may still be writing plain text, and another replica may have sealed
/// with the old version for a moment longer.
const LOOK_AGAIN: Duration = Duration::from_mins(10);

/// How long an answer about the progress is good for, so that asking often costs the database nothing.
const ANSWER_LIFETIME: Duration = Duration::from_secs(1);

/// What is not sealed with the active key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The version that new texts are sealed with.
    pub active: u32,
    /// The versions whose keys are there.
    pub readable: Vec<u32>,
    /// Rows by the other versions they are sealed with. A version that is neither here nor active is used by no row.
    pub stale: BTreeMap<u32, i64>,
    /// Rows that are not sealed at all, or not in a known format.
    pub unsealed: i64,
    /// Rows among those that this process could not open when it last tried. They stay as they are.
    pub unreadable: u64,
}

impl Progress {
    fn is_done(&self) -> bool {
        self.stale.is_empty() && self.unsealed == 0
    }
}

/// The work, and what is known of it.
#[derive(Debug)]
pub struct Resealing {
    vault: Arc<Vault>,
    pool: PgPool,
    wake: Notify,
    unreadable: AtomicU64,
    answer: Mutex<Option<(Instant, Progress)>>,
}

/// What one pass over the book did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Pass {
    sealed: u64,
    unreadable: u64,
}

impl Resealing {
    /// Nothing is done before [`Self::run`].
    #[must_use]
    pub fn new(vault: Arc<Vault>, pool: PgPool) -> Self {
        Self {
            vault,
            pool,
            wake: Notify::new(),
            unreadable: AtomicU64::new(0),
            answer: Mutex::default(),
        }
    }

    /// Works until `stop`.
    pub async fn run(&self, database: &Database, readiness: &Readiness, stop: CancellationToken) {
        tokio::select! {
            () = self.work(database, readiness) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn work(&self, database: &Database, readiness: &Readiness) {
        let mut changes = self.vault.changes();
        loop {
            match readiness.ready(LOOK_AGAIN).await {
                Ok(()) => {}
                Err(NotReady::Stopping) => return,
                Err(_) => continue,
            }
            changes.mark_unchanged();
            let pause = match self.until_done(database).await {
                Ok(()) => LOOK_AGAIN,
                Err(error) => {
                    let reason = error.for_log();
                    tracing::warn!(
                        reason,
                        "descriptions could not be sealed anew; trying again"
                    );
                    RETRY
                }
            };
            tokio::select! {
                // The sender lives in self: it cannot be gone.
                _ = changes.changed() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Passes over the book until there is nothing left that can be done, on a connection of its own: those of the pool
    /// are for people.
    async fn until_done(&self, database: &Database) -> Result<(), Error> {
        let mut connection = database.connect().await.map_err(Error::Connect)?;
        loop {
            let pass = self.pass(&mut connection).await?;
            self.unreadable.store(pass.unreadable, Ordering::Relaxed);
            if pass.unreadable > 0 {
                tracing::error!(
                    rows = pass.unreadable,
                    "some descriptions cannot be opened and stay as they are"
                );
            }
            if pass.sealed == 0 {
                break;
            }
            tracing::info!(
                rows = pass.sealed,
                "sealed descriptions with the active key"
            );
        }
        // Nothing is lost with a connection that does not close cleanly.
        let _ = connection.close().await;
        Ok(())
    }

    /// Every row once, in the order of their numbers, so that what cannot be opened does not come up again and again.
    async fn pass(&self, connection: &mut PgConnection) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let mut after = i64::MIN;
        loop {
            let last = self.batch(connection, after, &mut pass).await?;
            match last {
                Some(last) => after = last,
                None => return Ok(pass),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Seals some rows after the given one; the last of them, or none when no row is left.
    async fn batch(
        &self,
        connection: &mut PgConnection,
        after: i64,
        pass: &mut Pass,
    ) -> Result<Option<i64>, Error> {
        let active = self.vault.keys().map_err(SealError::from)?.active();
        let mut transaction = connection.begin().await?;
        let rows = stale_rows(&mut transaction, &prefix(active), after, BATCH).await?;
        let Some(last) = rows.last().map(|row| row.id) else {
            return Ok(None);
        };
        let (mut ids, mut texts) = (Vec::new(), Vec::new());
        for row in rows {
            match row.text(&self.vault) {
                Ok(text) => {
                    texts.push(self.vault.seal(description_of(row.id), &text)?);
                    ids.push(row.id);
                }
                Err(_) => pass.unreadable += 1,
            }
        }
        pass.sealed += write(&mut transaction, &ids, &texts).await?;
        transaction.commit().await?;
        Ok(Some(last))
    }

    /// What is left, counted now or a moment ago. Wakes the work if there is any.
    pub async fn progress(&self) -> Result<Progress, book::Error> {
        let mut answer = self.answer.lock().await;
        let keys = self.vault.keys()?;
        if let Some((counted, progress)) = answer.as_ref()
            && counted.elapsed() < ANSWER_LIFETIME
            && progress.active == keys.active()
        {
            return Ok(Progress {
                readable: keys.versions(),
                ..progress.clone()
            });
        }
        let counts = count_stale(&self.pool, &prefix(keys.active())).await?;
        let mut progress = Progress {
            active: keys.active(),
            readable: keys.versions(),
            stale: BTreeMap::new(),
            unsealed: 0,
            unreadable: self.unreadable.load(Ordering::Relaxed),
        };
        for (prefix, rows) in counts {
            match prefix.as_deref().and_then(version_of) {
                Some(version) => *progress.stale.entry(version).or_default() += rows,
                None => progress.unsealed += rows,
            }
        }
        if !progress.is_done() {
            self.wake.notify_one();
        }
        *answer = Some((Instant::now(), progress.clone()));
        Ok(progress)
    }
}

/// Why a pass ended early. What it did is kept.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot connect")]
    Connect(#[source] ConnectError),
    #[error("a query failed")]
    Database(#[from] sqlx::Error),
    #[error("no key to seal with")]
    Keys(#[from] SealError),
}

impl Error {
    fn for_log(&self) -> String {
        match self {
            Self::Database(error) => logging::query_failure(error),
            other => logging::chain(other),
        }
    }
}

/// Rows after `after` that are not sealed with the key that `active` is the prefix of, locked until the transaction ends.
async fn stale_rows(
    connection: &mut PgConnection,
    active: &[u8; PREFIX_LENGTH],
    after: i64,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, on_date, description, description_sealed, amount FROM entry \
         WHERE id > $1 AND (substring(description_sealed FROM 1 FOR 5) IS NULL \
            OR substring(description_sealed FROM 1 FOR 5) < $2 \
            OR substring(description_sealed FROM 1 FOR 5) > $2) \
         ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED",
    )
    .bind(after)
    .bind(active.as_slice())
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Writes the sealed texts of these rows, and forgets the plain ones. Returns how many rows there were.
async fn write(
    connection: &mut PgConnection,
    ids: &[i64],
    texts: &[Vec<u8>],
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE entry SET description_sealed = new.text, description = DEFAULT \
         FROM unnest($1::bigint[], $2::bytea[]) AS new(id, text) WHERE entry.id = new.id",
    )
    .bind(ids)
    .bind(texts)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Rows that are not sealed with the key that `active` is the prefix of, by their own prefix.
async fn count_stale(
    pool: &PgPool,
    active: &[u8; PREFIX_LENGTH],
) -> Result<Vec<(Option<Vec<u8>>, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT substring(description_sealed FROM 1 FOR 5) AS prefix, count(*) FROM entry \
         WHERE substring(description_sealed FROM 1 FOR 5) IS NULL \
            OR substring(description_sealed FROM 1 FOR 5) < $1 \
            OR substring(description_sealed FROM 1 FOR 5) > $1 \
         GROUP BY prefix",
    )
    .bind(active.as_slice())
    .fetch_all(pool)
    .await
}
