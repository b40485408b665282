//! The schema: applied once, by whoever comes first, and by nobody but `owner`.

use futures::future::try_join_all;
use granary::registry::{Registry, RegistryError, Role, schema_version};
use sqlx::Row;

use crate::postgres::{Postgres, run};

#[tokio::test]
async fn migrating_twice_changes_nothing_the_second_time() {
    let postgres = Postgres::shared();
    let settings = postgres.settings(&postgres.empty_database().await, Role::Owner);
    let first = Registry::migrate(&settings).await.unwrap();
    assert_eq!(first.version, schema_version());
    assert_eq!(
        first.applied,
        [
            "V1__registry",
            "V2__audit",
            "V3__local_keys",
            "V4__offboarding",
            "V5__exports",
        ]
    );
    let second = Registry::migrate(&settings).await.unwrap();
    assert_eq!((second.version, second.applied), (schema_version(), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_migrate_at_once_one_does() {
    let postgres = Postgres::shared();
    let settings = postgres.settings(&postgres.empty_database().await, Role::Owner);
    let done = try_join_all((0..8).map(|_| Registry::migrate(&settings)))
        .await
        .unwrap();
    let mut counts: Vec<usize> = done.iter().map(|done| done.applied.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, 5]);
}

#[tokio::test]
async fn a_schema_that_is_missing_or_old_is_waited_for() {
    let postgres = Postgres::shared();
    let database = postgres.empty_database().await;
    let registry = postgres.registry(&database, Role::App);
    let error = registry.check().await.unwrap_err();
    assert!(
        matches!(error, RegistryError::SchemaOutdated { .. }) && error.is_transient(),
        "{error}"
    );
    Registry::migrate(&postgres.settings(&database, Role::Owner))
        .await
        .unwrap();
    registry.check().await.unwrap();

    let mut superuser = postgres.superuser(&database).await;
    run(
        &mut superuser,
        "DELETE FROM refinery_schema_history WHERE version = 2",
    )
    .await;
    let error = registry.check().await.unwrap_err().to_string();
    assert!(error.contains("lacks V2__audit"), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_left_alone_and_a_changed_one_is_refused() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let settings = postgres.settings(&database, Role::Owner);
    let mut superuser = postgres.superuser(&database).await;
    run(
        &mut superuser,
        "INSERT INTO refinery_schema_history VALUES (1000, 'later', '2030-01-01T00:00:00Z', '1')",
    )
    .await;
    assert_eq!(
        Registry::migrate(&settings).await.unwrap().applied,
        [""; 0],
        "an older build on a newer schema"
    );
    run(
        &mut superuser,
        "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1",
    )
    .await;
    let error = Registry::migrate(&settings).await.unwrap_err();
    assert!(matches!(error, RegistryError::Migration(_)), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn app_cannot_migrate() {
    let postgres = Postgres::shared();
    let settings = postgres.settings(&postgres.empty_database().await, Role::App);
    let error = Registry::migrate(&settings).await.unwrap_err();
    assert!(matches!(error, RegistryError::Migration(_)), "{error}");
    // The positive control: the same as owner works, see above.
}

#[tokio::test]
async fn every_table_says_what_it_is_the_source_of_truth_for() {
    let postgres = Postgres::shared();
    let mut superuser = postgres.superuser(&postgres.database().await).await;
    let rows = sqlx::raw_sql(
        "SELECT relname::text, coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(rows.len(), 12, "tables, the list of migrations with them");
    for row in rows {
        let (table, comment): (String, String) = (row.get(0), row.get(1));
        assert!(
            comment.starts_with("Source of truth for "),
            "{table}: {comment:?}"
        );
    }
}
