//! Readiness follows the database and its schema; migrations.

use axum::http::StatusCode;
use sqlx::Connection;
use tenant_template::migrate::{self, needed_version};

use crate::app::{App, Silo};
use crate::cluster::Cluster;
use crate::eventually;

#[tokio::test]
async fn ready_only_when_the_schema_is_there() {
    let app = Silo::new().await.serve().await;
    let mut client = app.client();
    assert_eq!(
        client.get("/healthz").await.status,
        StatusCode::OK,
        "alive without a schema"
    );
    let reason = format!(
        "the schema is at version 0, this build needs {}",
        needed_version()
    );
    let waiting = eventually("the reason is the schema", async || {
        let answer = client.get("/readyz").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        answer.body.contains(&reason).then_some(answer.body)
    })
    .await;
    assert!(!waiting.contains("localhost"), "the reason names no host");

    // A probe held open is answered by the migration, not by its deadline.
    let mut held = app.client();
    let probe = tokio::spawn(async move { held.get("/readyz?wait=25").await });
    app.silo.migrate().await;
    let migrated = std::time::Instant::now();
    assert_eq!(probe.await.unwrap().status, StatusCode::OK);
    assert!(
        migrated.elapsed().as_secs() < 10,
        "the probe was held too long"
    );
    assert_eq!(client.get("/readyz").await.body, "ready\n");
    assert_eq!(client.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn readiness_is_lost_and_found_again() {
    let app = App::started().await;
    let mut client = app.client();
    assert_eq!(client.get("/readyz?wait=25").await.status, StatusCode::OK);
    app.sql("REVOKE SELECT ON _sqlx_migrations FROM app").await;
    assert_eq!(
        client.get("/readyz").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    app.sql("GRANT SELECT ON _sqlx_migrations TO app").await;
    assert_eq!(client.get("/readyz?wait=25").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_newer_schema_is_good_enough_and_migrates_to_nothing() {
    let app = App::started().await;
    app.sql("INSERT INTO _sqlx_migrations VALUES (9999, 'from a newer build', now(), true, '', 0)")
        .await;
    assert_eq!(
        app.client().get("/readyz?wait=25").await.status,
        StatusCode::OK
    );
    app.silo.migrate().await;
    assert_eq!(
        app.query::<i64>("SELECT max(version) FROM _sqlx_migrations")
            .await,
        9999
    );
}

#[tokio::test]
async fn migrations_can_run_twice_at_once_and_again() {
    let silo = Silo::new().await;
    let (one, two) = tokio::join!(silo.migrate_as("owner", 30), silo.migrate_as("owner", 30));
    one.unwrap();
    two.unwrap();
    silo.migrate().await;
    let mut superuser = Cluster::shared().superuser(&silo.database).await;
    let applied: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut superuser)
            .await
            .unwrap();
    assert_eq!(applied, (1..=needed_version()).collect::<Vec<_>>());
    superuser.close().await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_role_does_not_open_the_database() {
    let silo = Silo::new().await;
    let refused = silo.migrate_as("app", 0).await.unwrap_err();
    assert!(matches!(refused, migrate::Error::NoDatabase { .. }));
    let chain = tenant_template::logging::chain(&refused);
    assert!(
        chain.contains("does not accept role owner")
            && chain.contains("certificate authentication failed"),
        "{chain}"
    );
    silo.migrate_as("owner", 0).await.unwrap();

    silo.mount_app("owner", 3);
    let app = silo.serve().await;
    let answer = app.client().get("/readyz?wait=1").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let page = app.client().get("/").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().contains("cannot be opened right now"));
    app.silo.mount_app("app", 4);
    assert_eq!(
        app.client().get("/readyz?wait=25").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_app_changes_entries_but_never_the_schema() {
    let app = App::started().await;
    let can = async |privilege: &'static str| app.query::<bool>(privilege).await;
    assert!(can("SELECT has_table_privilege('app', 'entry', 'SELECT, INSERT, DELETE')").await);
    assert!(can("SELECT has_table_privilege('app', '_sqlx_migrations', 'SELECT')").await);
    assert!(!can("SELECT has_table_privilege('app', '_sqlx_migrations', 'INSERT')").await);
    assert!(!can("SELECT has_table_privilege('app', '_sqlx_migrations', 'UPDATE')").await);
    assert!(!can("SELECT has_table_privilege('app', '_sqlx_migrations', 'DELETE')").await);
    assert!(!can("SELECT has_schema_privilege('app', 'public', 'CREATE')").await);
}

#[tokio::test]
async fn the_first_page_after_ready_finds_a_connection_though_probes_have_theirs() {
    let app = App::started().await;
    let mut client = app.client();
    assert_eq!(client.get("/readyz?wait=25").await.status, StatusCode::OK);
    // No connection is made from here on, superusers excepted, and what a probe asks for has to be waited for.
    let limit = format!("ALTER DATABASE {} CONNECTION LIMIT 0", app.silo.database);
    let mut superuser = Cluster::shared().superuser(&app.silo.database).await;
    let statements = format!("{limit}; BEGIN; LOCK TABLE _sqlx_migrations");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(&mut superuser)
        .await
        .unwrap();
    let probes = [app.client(), app.client(), app.client()]
        .map(|mut probe| tokio::spawn(async move { probe.get("/readyz").await.status }));
    let waiting = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND usename = 'app' AND wait_event_type = 'Lock'";
    eventually("a probe waits for its answer", async || {
        (app.query::<i64>(waiting).await == 1).then_some(())
    })
    .await;
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    assert_eq!(app.query::<i64>(waiting).await, 1, "probes take turns");
    superuser.close().await.unwrap();
    for probe in probes {
        assert_eq!(probe.await.unwrap(), StatusCode::OK);
    }
}
