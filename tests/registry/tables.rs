//! Rules that the tables keep, whatever a program writes.

use granary::keys::{Context, KeyId, Purpose, TenantUid};
use granary::registry::data_keys::State::{Active, Retiring};
use granary::registry::evidence::Stage::{Destroyed, Shredded};
use granary::registry::{
    RegistryError, Role, data_keys, evidence, exports, keys, operations, tenants,
};
use jiff::Timestamp;
use serde_json::json;
use sqlx::PgConnection;

use crate::postgres::Postgres;
use crate::uid;

/// The rule that stood in the way.
fn rule<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> String {
    match result {
        Err(RegistryError::Conflict { rule, .. }) => rule,
        other => panic!("expected a conflict, got {other:?}"),
    }
}

/// The rule that stood in the way of a statement, by constraint or by the role's rights.
async fn against(connection: &mut PgConnection, statement: &str) -> String {
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await
        .expect_err(statement);
    match RegistryError::from(error) {
        RegistryError::Conflict { rule, .. } => rule,
        RegistryError::Refused { reason } => reason,
        other => panic!("{statement}: {other:?}"),
    }
}

/// A live tenant with a key.
async fn with_key(connection: &mut PgConnection, name: &str) -> TenantUid {
    let tenant = uid();
    tenants::register(connection, tenant, name, &format!("silo-{name}"))
        .await
        .unwrap();
    keys::intend(connection, tenant, "local").await.unwrap();
    keys::created(connection, tenant, &key_id(tenant), 1)
        .await
        .unwrap();
    tenant
}

fn key_id(tenant: TenantUid) -> KeyId {
    format!("local:{tenant}").parse().unwrap()
}

fn app(tenant: TenantUid, version: u32) -> Context {
    Context {
        tenant,
        purpose: Purpose::App,
        version,
    }
}

#[tokio::test]
async fn a_name_returns_and_a_uid_does_not() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let (first, second) = (uid(), uid());
    let registered = tenants::register(&mut connection, first, "acme", "silo-acme-1")
        .await
        .unwrap();
    assert_eq!(
        tenants::register(&mut connection, first, "acme", "silo-acme-1")
            .await
            .unwrap(),
        registered,
        "asked for twice"
    );
    let taken = tenants::register(&mut connection, second, "acme", "silo-acme-2").await;
    assert_eq!(rule(taken), "tenants_live_name");
    let taken = tenants::register(&mut connection, second, "beta", "silo-acme-1").await;
    assert_eq!(rule(taken), "tenants_live_namespace");
    let other = tenants::register(&mut connection, first, "beta", "silo-beta").await;
    assert_eq!(rule(other), "tenants_identity_is_final");

    let at: Timestamp = "2026-11-21T12:00:00.123456Z".parse().unwrap();
    assert!(
        tenants::bury(&mut connection, first, at).await.is_err(),
        "a live tenant"
    );
    tenants::offboard(&mut connection, first).await.unwrap();
    tenants::reinstate(&mut connection, first).await.unwrap();
    tenants::offboard(&mut connection, first).await.unwrap();
    tenants::bury(&mut connection, first, at).await.unwrap();
    tenants::bury(&mut connection, first, Timestamp::now())
        .await
        .unwrap();
    let tombstone = tenants::find(&mut connection, first)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (tombstone.state, tombstone.ended_at),
        (tenants::State::Tombstone, Some(at))
    );
    assert!(tenants::reinstate(&mut connection, first).await.is_err());
    assert!(tenants::offboard(&mut connection, first).await.is_err());

    let again = tenants::register(&mut connection, first, "acme", "silo-acme-1").await;
    assert_eq!(rule(again), "tenants_uid_is_never_reused");
    tenants::register(&mut connection, second, "acme", "silo-acme-2")
        .await
        .unwrap();
    let live = tenants::find_live(&mut connection, "acme").await.unwrap();
    assert_eq!(live.unwrap().uid, second);
    let all = tenants::find_all(&mut connection, "acme").await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(tenants::list(&mut connection).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_tombstone_stays_for_ever_whoever_asks() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let tenant = uid();
    let mut app = registry.acquire().await.unwrap();
    tenants::register(&mut app, tenant, "acme", "silo-acme")
        .await
        .unwrap();
    tenants::offboard(&mut app, tenant).await.unwrap();
    tenants::bury(&mut app, tenant, Timestamp::now())
        .await
        .unwrap();
    let mut owner = postgres
        .registry(&database, Role::Owner)
        .acquire()
        .await
        .unwrap();
    for (statement, of_app, of_owner) in [
        (
            "UPDATE tenants SET state = 'live', ended_at = NULL",
            "tenants_tombstone_is_final",
            "tenants_tombstone_is_final",
        ),
        (
            "UPDATE tenants SET name = 'other'",
            "permission denied for table tenants",
            "tenants_tombstone_is_final",
        ),
        (
            "DELETE FROM tenants",
            "permission denied for table tenants",
            "tenants_rows_are_kept",
        ),
        (
            "TRUNCATE tenants CASCADE",
            "permission denied for table tenants",
            "tenants_rows_are_kept",
        ),
        (
            "DELETE FROM refinery_schema_history",
            "permission denied for table refinery_schema_history",
            "",
        ),
    ] {
        assert_eq!(against(&mut app, statement).await, of_app, "{statement}");
        if !of_owner.is_empty() {
            assert_eq!(
                against(&mut owner, statement).await,
                of_owner,
                "{statement}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_goes_one_way_and_belongs_to_one_tenant() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = uid();
    let orphan = keys::intend(&mut connection, tenant, "local").await;
    assert_eq!(rule(orphan), "keys_tenant_uid_fkey");
    tenants::register(&mut connection, tenant, "acme", "silo-acme")
        .await
        .unwrap();
    let intended = keys::intend(&mut connection, tenant, "local")
        .await
        .unwrap();
    assert_eq!(
        (intended.state, &intended.id),
        (keys::State::Intended, &None)
    );
    let again = keys::intend(&mut connection, tenant, "aws").await.unwrap();
    assert_eq!(again, intended, "the first intent stays");
    for _ in 0..2 {
        keys::created(&mut connection, tenant, &key_id(tenant), 1)
            .await
            .unwrap();
    }
    let other = keys::created(&mut connection, tenant, &"local:x".parse().unwrap(), 1).await;
    assert!(
        matches!(other, Err(RegistryError::NotFound(_))),
        "{other:?}"
    );

    let second = uid();
    tenants::register(&mut connection, second, "beta", "silo-beta")
        .await
        .unwrap();
    keys::intend(&mut connection, second, "local")
        .await
        .unwrap();
    let shared = keys::created(&mut connection, second, &key_id(tenant), 1).await;
    assert_eq!(rule(shared), "keys_id");

    let at: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    keys::rotated(&mut connection, tenant, 2, at).await.unwrap();
    keys::disabled(&mut connection, tenant).await.unwrap();
    let asleep = keys::rotated(&mut connection, tenant, 3, at).await;
    assert!(matches!(asleep, Err(RegistryError::NotFound(_))));
    keys::enabled(&mut connection, tenant).await.unwrap();
    keys::deletion_scheduled(&mut connection, tenant, at)
        .await
        .unwrap();
    let key = keys::find(&mut connection, tenant).await.unwrap().unwrap();
    assert_eq!(
        (key.state, key.version, key.deletion_at),
        (keys::State::PendingDeletion, 2, Some(at))
    );
    keys::destroyed(&mut connection, tenant, at).await.unwrap();
    keys::destroyed(&mut connection, tenant, Timestamp::now())
        .await
        .unwrap();
    assert!(keys::enabled(&mut connection, tenant).await.is_err());
    let back = against(
        &mut connection,
        "UPDATE keys SET state = 'enabled' WHERE state = 'destroyed'",
    )
    .await;
    assert_eq!(back, "keys_destroyed_is_final");
    let key = keys::find(&mut connection, tenant).await.unwrap().unwrap();
    assert_eq!(
        (key.state, key.deletion_at),
        (keys::State::Destroyed, Some(at))
    );
    keys::destroyed(&mut connection, second, at).await.unwrap();
    assert_eq!(keys::list(&mut connection).await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_version_of_a_data_key_writes() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = with_key(&mut connection, "acme").await;
    for version in 1..=3 {
        data_keys::activate(
            &mut connection,
            &app(tenant, version),
            &[9, u8::try_from(version).unwrap()],
        )
        .await
        .unwrap();
    }
    data_keys::activate(&mut connection, &app(tenant, 3), &[9, 3])
        .await
        .unwrap();
    let backup = Context {
        purpose: Purpose::Backup,
        ..app(tenant, 1)
    };
    data_keys::activate(&mut connection, &backup, &[8])
        .await
        .unwrap();
    for (late, wrapped) in [(3, [9, 9]), (2, [9, 2]), (5, [9, 5])] {
        let result = data_keys::activate(&mut connection, &app(tenant, late), &wrapped).await;
        assert_eq!(rule(result), "data_keys_versions_follow", "version {late}");
    }
    let second_active = format!(
        "INSERT INTO data_keys (tenant_uid, purpose, version, wrapped) VALUES ('{tenant}', 'app', 4, 'x')"
    );
    assert_eq!(
        against(&mut connection, &second_active).await,
        "data_keys_one_active"
    );

    let readable = async |connection: &mut PgConnection| {
        let found = data_keys::readable(connection, tenant, Purpose::App).await;
        found
            .unwrap()
            .into_iter()
            .map(|key| (key.context.version, key.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        readable(&mut connection).await,
        [(3, Active), (2, Retiring), (1, Retiring)]
    );
    data_keys::rewrap(&mut connection, &app(tenant, 2), &[7])
        .await
        .unwrap();
    let at = Timestamp::now();
    for _ in 0..2 {
        data_keys::retire(&mut connection, &app(tenant, 1), at)
            .await
            .unwrap();
    }
    let in_use = data_keys::retire(&mut connection, &app(tenant, 3), at).await;
    assert!(
        matches!(in_use, Err(RegistryError::NotFound(_))),
        "{in_use:?}"
    );
    let retired = data_keys::rewrap(&mut connection, &app(tenant, 1), &[7]).await;
    assert!(
        matches!(retired, Err(RegistryError::NotFound(_))),
        "{retired:?}"
    );
    assert_eq!(
        readable(&mut connection).await,
        [(3, Active), (2, Retiring)]
    );
    let found = data_keys::find(&mut connection, &app(tenant, 2))
        .await
        .unwrap();
    assert_eq!(found.unwrap().wrapped, [7]);
    assert_eq!(
        data_keys::of_tenant(&mut connection, tenant)
            .await
            .unwrap()
            .len(),
        4
    );
    let summaries = data_keys::summaries(&mut connection).await.unwrap();
    assert_eq!(
        summaries
            .iter()
            .map(|summary| (summary.purpose, summary.active, summary.retiring))
            .collect::<Vec<_>>(),
        [(Purpose::App, Some(3), 1), (Purpose::Backup, Some(1), 0)]
    );
}

#[tokio::test]
async fn a_data_key_does_not_grow_young_again() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = with_key(&mut connection, "acme").await;
    for version in 1..=2 {
        data_keys::activate(&mut connection, &app(tenant, version), b"x")
            .await
            .unwrap();
    }
    let young = "UPDATE data_keys SET state = 'active' WHERE version = 1";
    assert_eq!(
        against(&mut connection, young).await,
        "data_keys_only_grow_old"
    );
    let deleted = against(&mut connection, "DELETE FROM data_keys").await;
    assert_eq!(deleted, "permission denied for table data_keys");
}

#[tokio::test]
async fn an_interrupted_operation_is_found_again() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = with_key(&mut connection, "acme").await;
    let kind = operations::Kind::Offboard;
    let begun = operations::start(&mut connection, tenant, kind, "cut", &json!({}))
        .await
        .unwrap();
    operations::advance(&mut connection, begun.id, "shred", &json!({"pods": 3}))
        .await
        .unwrap();
    let found = operations::start(&mut connection, tenant, kind, "cut", &json!({}))
        .await
        .unwrap();
    assert_eq!(
        (found.id, found.step.as_str(), &found.detail),
        (begun.id, "shred", &json!({"pods": 3}))
    );
    assert_eq!(
        operations::all_running(&mut connection).await.unwrap(),
        [found]
    );
    for _ in 0..2 {
        operations::finish(
            &mut connection,
            begun.id,
            operations::State::Done,
            &json!({}),
        )
        .await
        .unwrap();
    }
    let over = operations::advance(&mut connection, begun.id, "x", &json!({})).await;
    assert!(matches!(over, Err(RegistryError::NotFound(_))), "{over:?}");
    let running = operations::running(&mut connection, tenant, kind)
        .await
        .unwrap();
    assert!(running.is_none());
    let next = operations::start(&mut connection, tenant, kind, "cut", &json!({}))
        .await
        .unwrap();
    assert!(next.id > begun.id);
    let all = operations::of_tenant(&mut connection, tenant)
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn evidence_is_written_once() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = with_key(&mut connection, "acme").await;
    let envelope = json!({"payload": "e30=", "signatures": [{"sig": "AA=="}]});
    let later = json!({"payload": "e30=", "signatures": [{"sig": "AQ=="}]});
    for _ in 0..2 {
        for (stage, envelope) in [(Shredded, &envelope), (Destroyed, &later)] {
            evidence::record(&mut connection, tenant, stage, envelope)
                .await
                .unwrap();
        }
    }
    let other = evidence::record(&mut connection, tenant, Shredded, &json!({})).await;
    assert_eq!(rule(other), "evidence_is_written_once");
    let found = evidence::find(&mut connection, tenant, Shredded).await;
    assert_eq!(found.unwrap().unwrap().envelope, envelope);
    let all = evidence::of_tenant(&mut connection, tenant).await.unwrap();
    let all: Vec<_> = all
        .iter()
        .map(|record| (record.stage, &record.envelope))
        .collect();
    assert_eq!(all, [(Shredded, &envelope), (Destroyed, &later)]);
    let mut superuser = postgres.superuser(&database).await;
    let forged = against(&mut superuser, "UPDATE evidence SET envelope = '{}'").await;
    assert_eq!(forged, "evidence_rows_are_kept");
}

#[tokio::test]
async fn an_auditor_reads_evidence_and_whose_it_is_and_changes_nothing() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let app = postgres.registry(&database, Role::App);
    let mut connection = app.acquire().await.unwrap();
    let tenant = with_key(&mut connection, "acme").await;
    evidence::record(&mut connection, tenant, Shredded, &json!({}))
        .await
        .unwrap();
    let auditor = postgres.registry(&database, Role::Auditor);
    let mut reading = auditor.acquire().await.unwrap();
    let read = evidence::of_tenant(&mut reading, tenant).await.unwrap();
    assert_eq!(read.len(), 1);
    let whose = tenants::find(&mut reading, tenant).await.unwrap();
    assert_eq!(whose.unwrap().name, "acme");
    for statement in [
        "INSERT INTO evidence (tenant_uid, stage, envelope) SELECT uid, 'destroyed', '{}' FROM tenants",
        "UPDATE tenants SET state = 'tombstone'",
        "SELECT FROM keys",
        "SELECT FROM data_keys",
        "SELECT FROM operations",
    ] {
        let refused = against(&mut reading, statement).await;
        assert!(
            refused.contains("permission denied"),
            "{statement}: {refused}"
        );
    }
}

#[tokio::test]
async fn keys_whose_end_is_not_on_record_are_found() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let (pending, gone, told, live) = (
        with_key(&mut connection, "pending").await,
        with_key(&mut connection, "gone").await,
        with_key(&mut connection, "told").await,
        with_key(&mut connection, "live").await,
    );
    let now = Timestamp::now();
    keys::deletion_scheduled(&mut connection, pending, now)
        .await
        .unwrap();
    for destroyed in [gone, told] {
        keys::destroyed(&mut connection, destroyed, now)
            .await
            .unwrap();
        evidence::record(&mut connection, destroyed, Shredded, &json!({}))
            .await
            .unwrap();
    }
    evidence::record(&mut connection, told, Destroyed, &json!({}))
        .await
        .unwrap();
    let mut found: Vec<TenantUid> = keys::to_confirm(&mut connection)
        .await
        .unwrap()
        .into_iter()
        .map(|key| key.tenant)
        .collect();
    found.sort_unstable();
    let mut wanted = vec![pending, gone];
    wanted.sort_unstable();
    assert_eq!(found, wanted, "live is {live}");
}

#[tokio::test]
async fn an_export_is_whole_or_begun_anew() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = with_key(&mut connection, "acme").await;
    exports::start(&mut connection, tenant).await.unwrap();
    exports::add_piece(&mut connection, tenant, 0, b"torn")
        .await
        .unwrap();
    assert_eq!(exports::find(&mut connection, tenant).await.unwrap(), None);
    exports::start(&mut connection, tenant).await.unwrap();
    for (number, content) in [(0, b"one"), (1, b"two")] {
        exports::add_piece(&mut connection, tenant, number, content)
            .await
            .unwrap();
    }
    let export = exports::Export {
        bytes: 6,
        sha256: "0a".repeat(32),
        sealed_with: "age1x".to_owned(),
        created_at: "2026-11-21T12:00:00Z".parse().unwrap(),
    };
    exports::complete(&mut connection, tenant, &export)
        .await
        .unwrap();
    let found = exports::find(&mut connection, tenant).await.unwrap();
    assert_eq!(found, Some(export));
    let piece = exports::piece(&mut connection, tenant, 1).await.unwrap();
    assert_eq!(piece.as_deref(), Some(&b"two"[..]));
    assert_eq!(
        exports::piece(&mut connection, tenant, 2).await.unwrap(),
        None
    );

    let owner = postgres.registry(&database, Role::Owner);
    let mut owner = owner.acquire().await.unwrap();
    let expired = async |owner: &mut _, hours| {
        exports::expire(owner, jiff::SignedDuration::from_hours(hours))
            .await
            .unwrap()
    };
    assert_eq!(expired(&mut owner, 24 * 365 * 100).await, 0);
    assert_eq!(expired(&mut owner, 0).await, 1);
    assert_eq!(
        exports::piece(&mut connection, tenant, 0).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn what_rolls_back_was_never_there() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let tenant = uid();
    let mut transaction = registry.begin().await.unwrap();
    tenants::register(&mut transaction, tenant, "acme", "silo-acme")
        .await
        .unwrap();
    drop(transaction);
    let mut connection = registry.acquire().await.unwrap();
    let found = tenants::find(&mut connection, tenant).await.unwrap();
    assert!(found.is_none());
}
