//! The committed descriptions of queries (`.sqlx`), which builds check the code against, are those that a database
//! with all migrations gives. That the code has no other queries is what makes it compile; `cargo xtask prepare
//! --check` finds descriptions that no query needs any more.

use std::fs;
use std::path::Path;

use granary::registry::Role;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::postgres::Postgres;

#[tokio::test]
async fn descriptions_of_queries_fit_the_migrations() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::Owner);
    let mut connection = registry.acquire().await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect(".sqlx: run `cargo xtask prepare`") {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let stored: Value = serde_json::from_str(&text).unwrap();
        let query = stored["query"].as_str().unwrap().to_owned();
        let described = (&mut *connection)
            .describe(AssertSqlSafe(query.clone()).into_sql_str())
            .await
            .unwrap_or_else(|error| panic!("{query}\n{error}\nrun `cargo xtask prepare`"));
        let described = serde_json::to_value(&described).unwrap();
        for part in ["columns", "parameters", "nullable"] {
            assert_eq!(
                described[part], stored["describe"][part],
                "{query}\n{part}: run `cargo xtask prepare`"
            );
        }
        count += 1;
    }
    assert!(count > 30, "only {count} descriptions");
}
