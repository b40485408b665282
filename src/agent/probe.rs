//! Asks PostgreSQL itself, as the superuser over the pod's own socket.
//!
//! A connection is made for each question and closed after it: one that is kept would cost every idle silo a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::readiness::{Readiness, Reason};
use super::volume::Space;

/// A question that takes longer than this counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to reach the database, and where its files are.
#[derive(Debug, Clone)]
pub struct Probe {
    lock_file: PathBuf,
    options: PgConnectOptions,
    volume: PathBuf,
}

/// What `/status` tells the operator about the database.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Version of the server, such as `17.11`.
    pub version: String,
    /// Size of database `app` in bytes.
    pub size_bytes: i64,
    /// The cluster's identifier: text, because JSON numbers lose digits.
    pub system_identifier: String,
    /// When the server started, RFC 3339.
    pub started_at: String,
}

impl Probe {
    /// Prepares to ask the server whose socket is in `run_dir`.
    pub fn new(run_dir: &Path, port: u16, volume: &Path) -> Self {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(run_dir)
            .port(port)
            .username("postgres")
            // The tenant's own: this is the one that must work, and the first session of a database is its slowest.
            .database("app")
            .application_name("granary agent")
            .ssl_mode(PgSslMode::Disable)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        Self {
            lock_file: volume.join("pgdata/postmaster.pid"),
            options,
            volume: volume.to_owned(),
        }
    }

    /// Whether the server itself says, in its lock file and as `pg_ctl` reads it, that it accepts connections: cheap
    /// enough to look at a hundred times a second, where each early connection would cost a process to refuse it.
    pub fn says_ready(&self) -> bool {
        std::fs::read_to_string(&self.lock_file).is_ok_and(|text| {
            text.lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready")
        })
    }

    /// Whether a query is answered now.
    pub async fn accepts(&self) -> Result<(), sqlx::Error> {
        self.ask(async |connection| {
            sqlx::raw_sql("SELECT 1")
                .execute(connection)
                .await
                .map(drop)
        })
        .await
    }

    /// Whether the database can be used now: there is room, and a query is answered.
    pub async fn readiness(&self) -> Readiness {
        if let Some(full) = self.lack_of_room() {
            return full;
        }
        match self.accepts().await {
            Ok(()) => Readiness::ready(),
            Err(error) => Readiness::not(
                Reason::NotAccepting,
                format!("PostgreSQL does not answer: {error}"),
            ),
        }
    }

    /// Why the database cannot be used for want of room, if it cannot.
    pub fn lack_of_room(&self) -> Option<Readiness> {
        match self.space() {
            Ok(space) if space.is_full() => Some(Readiness::not(
                Reason::VolumeFull,
                format!(
                    "the data volume has {} of {} MiB free, and PostgreSQL needs {} MiB to go on safely: \
                     delete data or enlarge the volume",
                    mebibytes(space.free_bytes),
                    mebibytes(space.total_bytes),
                    mebibytes(space.reserve()),
                ),
            )),
            Ok(_) => None,
            Err(error) => Some(Readiness::not(
                Reason::NotAccepting,
                format!("the data volume cannot be measured: {error}"),
            )),
        }
    }

    /// Room on the data volume.
    pub fn space(&self) -> std::io::Result<Space> {
        Space::of(&self.volume)
    }

    /// Version, size, identity and age of the database.
    pub async fn facts(&self) -> Result<Facts, sqlx::Error> {
        const QUERY: &str = "SELECT split_part(current_setting('server_version'), ' ', 1), pg_database_size('app')::text, \
             (SELECT system_identifier::text FROM pg_control_system()), \
             to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
        self.ask(async |connection| {
            let row = sqlx::raw_sql(QUERY).fetch_one(connection).await?;
            let size: String = row.try_get(1)?;
            Ok(Facts {
                version: row.try_get(0)?,
                size_bytes: size
                    .parse()
                    .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                system_identifier: row.try_get(2)?,
                started_at: row.try_get(3)?,
            })
        })
        .await
    }

    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let answer = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            let answer = question(&mut connection).await?;
            connection.close().await?;
            Ok(answer)
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
