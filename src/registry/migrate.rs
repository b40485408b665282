//! The schema: embedded migrations, forward only, each applied once.
//!
//! `refinery` decides what is missing and notes what was applied; the statements go through sqlx, over the same tunnel
//! as everything else (`docs/decisions/0010-migrations-by-refinery-over-sqlx.md`).

use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use refinery_core::{Migration, Runner};
use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use time::format_description::well_known::Rfc3339;

use super::tunnel::Tunnel;
use super::{RegistryError, RegistrySettings, options};

/// The migrations of this build, in order.
const MIGRATIONS: [(&str, &str); 5] = [
    (
        "V1__registry",
        include_str!("../../migrations/V1__registry.sql"),
    ),
    ("V2__audit", include_str!("../../migrations/V2__audit.sql")),
    (
        "V3__local_keys",
        include_str!("../../migrations/V3__local_keys.sql"),
    ),
    (
        "V4__offboarding",
        include_str!("../../migrations/V4__offboarding.sql"),
    ),
    (
        "V5__exports",
        include_str!("../../migrations/V5__exports.sql"),
    ),
];

/// The advisory lock that migrations are applied under: "granary" in ASCII.
const LOCK: i64 = 0x67_72_61_6e_61_72_79;

/// Limits for the session that migrates: statements may take their time, waiting may not.
const SESSION_LIMITS: [(&str, &str); 2] = [("statement_timeout", "0"), ("lock_timeout", "60s")];

/// What migrating has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the schema now.
    pub version: i32,
    /// The migrations that were applied just now, by name.
    pub applied: Vec<String>,
}

/// The version of the schema that this build needs.
#[must_use]
pub const fn schema_version() -> i32 {
    // The names say the same: see the test below.
    5
}

/// Applies what is missing.
pub(super) async fn run(settings: &RegistrySettings) -> Result<Migrated, RegistryError> {
    let tunnel = Tunnel::open(settings).map_err(|source| RegistryError::Socket {
        folder: settings.socket_dir.clone(),
        source,
    })?;
    let options = options(&tunnel, settings).options(SESSION_LIMITS);
    let mut connection = PgConnection::connect_with(&options).await?;
    let migrated = apply(&mut connection).await;
    // Ends the session, and with it the lock, however it went.
    let _ = connection.close().await;
    migrated
}

async fn apply(connection: &mut PgConnection) -> Result<Migrated, RegistryError> {
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    // A newer build may have applied more, which older ones can live with: an image can be rolled back.
    let report = Runner::new(&embedded()?)
        .set_abort_missing(false)
        .run_async(&mut Driver(connection))
        .await
        .map_err(failed)?;
    check(connection).await?;
    Ok(Migrated {
        version: schema_version(),
        applied: report
            .applied_migrations()
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
}

/// Whether every migration of this build was applied.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), RegistryError> {
    let applied = sqlx::query_scalar!("SELECT version FROM refinery_schema_history")
        .fetch_all(connection)
        .await?;
    let missing: Vec<String> = embedded()?
        .iter()
        .filter(|migration| !applied.contains(&migration.version()))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(RegistryError::SchemaOutdated {
        missing: missing.join(", "),
    })
}

fn embedded() -> Result<Vec<Migration>, RegistryError> {
    MIGRATIONS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<Result<_, _>>()
        .map_err(RegistryError::Migration)
}

/// A registry that went away meanwhile is no broken migration.
fn failed(error: refinery_core::Error) -> RegistryError {
    if let refinery_core::error::Kind::Connection(_, source) = error.kind()
        && let Some(sqlx::Error::Io(source)) = source.downcast_ref::<sqlx::Error>()
    {
        return RegistryError::Unavailable {
            reason: format!("the connection broke while migrating: {source}"),
        };
    }
    RegistryError::Migration(error)
}

/// What refinery drives.
struct Driver<'a>(&'a mut PgConnection);

impl AsyncTransaction for Driver<'_> {
    type Error = sqlx::Error;

    /// All of them in one transaction.
    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut transaction = self.0.begin().await?;
        let mut count = 0;
        for query in queries {
            // Embedded files, and refinery's own note of them: nothing that anybody else wrote.
            sqlx::raw_sql(AssertSqlSafe(query))
                .execute(&mut *transaction)
                .await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Driver<'_> {
    /// The migrations that refinery noted as applied.
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query))
            .fetch_all(&mut *self.0)
            .await?;
        let unreadable = |error| sqlx::Error::Decode(error);
        rows.iter()
            .map(|row| {
                let (on, checksum): (String, String) = (row.try_get(2)?, row.try_get(3)?);
                Ok(Migration::applied(
                    row.try_get(0)?,
                    row.try_get(1)?,
                    OffsetDateTime::parse(&on, &Rfc3339)
                        .map_err(|error| unreadable(error.into()))?,
                    checksum
                        .parse()
                        .map_err(|error: std::num::ParseIntError| unreadable(error.into()))?,
                ))
            })
            .collect()
    }
}

impl AsyncMigrate for Driver<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_file_is_embedded_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let embedded: Vec<String> = MIGRATIONS
            .iter()
            .map(|(name, _)| format!("{name}.sql"))
            .collect();
        assert_eq!(embedded, files);
    }

    #[test]
    fn versions_have_no_gaps_and_end_with_the_one_needed() {
        let versions: Vec<i32> = embedded().unwrap().iter().map(Migration::version).collect();
        assert_eq!(versions, (1..=schema_version()).collect::<Vec<_>>());
    }
}
