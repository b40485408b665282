//! Schema changes: embedded, forward only, applied once.

use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use crate::config::MigrateArgs;
use crate::database::{ConnectError, Database};

/// The migrations of this build. Versions that a newer build applied are left alone, so that an older image can be
/// rolled out again: migrations only ever add what older builds can live with.
static MIGRATOR: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!()
};

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing could be prepared to connect with.
    #[error("cannot make the private socket to the database")]
    Prepare(#[source] std::io::Error),
    /// The database did not accept the role in time.
    #[error("gave up waiting for the database after {seconds} s")]
    NoDatabase {
        /// The deadline that was given.
        seconds: u64,
        /// The last try.
        #[source]
        source: ConnectError,
    },
    /// A migration failed; what it did was rolled back.
    #[error("a migration failed; run `migrate` again when the cause is gone")]
    Failed(#[source] MigrateError),
}

/// The newest migration of this build: the schema version it needs.
#[must_use]
pub fn needed_version() -> i64 {
    MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Waits for the database and applies what is missing.
pub async fn run(args: &MigrateArgs) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let database = Database::new(&args.database).map_err(Error::Prepare)?;
    let mut connection =
        database
            .wait(Some(deadline))
            .await
            .map_err(|source| Error::NoDatabase {
                seconds: args.timeout,
                source,
            })?;
    let start = Instant::now();
    // Takes an advisory lock: a second run at the same time waits, then finds nothing to do.
    MIGRATOR.run(&mut connection).await.map_err(Error::Failed)?;
    let version = applied_version(&mut connection)
        .await
        .map_err(|error| Error::Failed(error.into()))?;
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(version, took_ms, "the schema is up to date");
    // The work is committed; a connection that does not close cleanly changes nothing.
    let _ = connection.close().await;
    Ok(())
}

/// The newest applied migration; 0 when none was applied yet.
pub async fn applied_version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    const UNDEFINED_TABLE: &str = "42P01";
    let newest =
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(connection)
            .await;
    match newest {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Ok(0)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_only_go_forward() {
        let versions: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let expected: Vec<i64> = (1..=needed_version()).collect();
        assert_eq!(versions, expected);
        assert!(
            MIGRATOR
                .iter()
                .all(|migration| !migration.migration_type.is_down_migration())
        );
    }
}
