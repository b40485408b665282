//! Rows of audit per second with the chain, against plain inserts into a table that is otherwise the same, in the same
//! run and taking turns. `cargo xtask bench audit` starts it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that fails has nothing to say"
)]

#[path = "../tests/postgres/mod.rs"]
mod postgres;

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use granary::audit::{self, Action, Entry};
use granary::effects::{Commit, Effect};
use granary::keys::TenantUid;
use granary::registry::{Registry, RegistryError, Role};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use postgres::{Postgres, run};

/// Rounds, in which all cases take turns; the median counts.
const ROUNDS: usize = 3;

/// Writers at once, and rows in each transaction.
const CASES: [(usize, usize); 4] = [(1, 1), (8, 1), (1, 100), (8, 100)];

/// The same columns, constraints and indexes, in a partition likewise; nothing but an insert.
const PLAIN: &str = "
    CREATE TABLE plain (LIKE audit INCLUDING ALL) PARTITION BY RANGE (at);
    CREATE SEQUENCE plain_seq;
    CREATE TABLE plain_all PARTITION OF plain DEFAULT;
    GRANT INSERT ON plain TO app;
    GRANT USAGE ON plain_seq TO app";

#[derive(Clone, Copy)]
enum Kind {
    Chained,
    Plain,
}

fn main() {
    // The default is enough for a figure that repeats.
    let seconds = std::env::var("GRANARY_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure(Duration::from_secs(seconds)));
}

async fn measure(length: Duration) {
    let postgres = Postgres::start(&["shared_buffers=128MB", "max_wal_size=4GB"]);
    let database = postgres.database().await;
    let mut superuser = postgres.superuser(&database).await;
    run(&mut superuser, PLAIN).await;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    let registry = postgres.registry(&database, Role::App);
    println!(
        "{} cores, PostgreSQL {version}, every commit synced to disk; {ROUNDS} rounds of {} s, rows per second (median)",
        std::thread::available_parallelism().map_or(1, usize::from),
        length.as_secs(),
    );
    println!(
        "{:>8} {:>17} {:>9} {:>9} {:>7}",
        "writers", "rows/transaction", "chained", "plain", "ratio"
    );
    let mut figures = vec![(Vec::new(), Vec::new()); CASES.len()];
    for _ in 0..ROUNDS {
        for ((writers, batch), (chained, plain)) in CASES.into_iter().zip(&mut figures) {
            chained.push(rate(&registry, Kind::Chained, writers, batch, length).await);
            plain.push(rate(&registry, Kind::Plain, writers, batch, length).await);
        }
    }
    for ((writers, batch), (chained, plain)) in CASES.into_iter().zip(figures) {
        let (chained, plain) = (median(chained), median(plain));
        println!(
            "{writers:>8} {batch:>17} {chained:>9.0} {plain:>9.0} {:>7.2}",
            chained / plain
        );
    }
    let report = audit::verify(&mut registry.acquire().await.unwrap(), None)
        .await
        .unwrap();
    assert!(report.is_intact(), "{report:?}");
    println!("the chain of {} rows verifies", report.rows);
}

/// Committed rows per second.
async fn rate(
    registry: &Registry,
    kind: Kind,
    writers: usize,
    batch: usize,
    length: Duration,
) -> f64 {
    let began = Instant::now();
    let deadline = began + length;
    let counts = try_join_all((0..writers).map(|_| {
        let registry = registry.clone();
        async move {
            tokio::spawn(async move { write(&registry, kind, batch, deadline).await })
                .await
                .unwrap()
        }
    }))
    .await
    .unwrap();
    let rows: u32 = counts.into_iter().sum();
    f64::from(rows) / began.elapsed().as_secs_f64()
}

async fn write(
    registry: &Registry,
    kind: Kind,
    batch: usize,
    deadline: Instant,
) -> Result<u32, RegistryError> {
    let mut rows = 0;
    while Instant::now() < deadline {
        let mut transaction = registry.begin().await?;
        for _ in 0..batch {
            let entry = entry();
            match kind {
                Kind::Chained => drop(audit::append(&mut transaction, &entry).await?),
                Kind::Plain => insert(&mut transaction, &entry).await?,
            }
            rows += 1;
        }
        let effect = Effect::Operator(Commit::Noted("bench"));
        transaction.commit(effect, None).await?;
    }
    Ok(rows)
}

fn entry() -> Entry {
    Entry::started(
        "system:serviceaccount:granary-system:granary-keyserver",
        Action::KeyUnwrapped,
    )
    .of(TenantUid(Uuid::new_v4()), "acme")
    .with(json!({"purpose": "app", "pod": "app-7d9f8b6c5-x2x4z", "versions": [3, 2]}))
}

async fn insert(connection: &mut PgConnection, entry: &Entry) -> Result<(), RegistryError> {
    let (uid, name) = entry.tenant.as_ref().unwrap();
    sqlx::query(
        "INSERT INTO plain VALUES
           (nextval('plain_seq'), clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(entry.id)
    .bind(entry.phase.as_str())
    .bind(&entry.actor)
    .bind(entry.action.as_str())
    .bind(uid.0)
    .bind(name)
    .bind(&entry.outcome)
    .bind(&entry.detail)
    .bind([7; 32].as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
