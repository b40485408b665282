//! What somebody with every right over the database changes, `verify` finds, and says which row it was.

use granary::audit::{self, Action, Entry, Finding, Head, Report};
use granary::registry::{Registry, Role};
use serde_json::json;

use crate::postgres::{Postgres, run};
use crate::uid;

/// A registry with ten rows of audit, and the head that somebody has kept elsewhere.
async fn audited() -> (Registry, String, Head) {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let tenant = uid();
    for number in 1..=10 {
        let entry = Entry::started("ada", Action::KeyUnwrapped)
            .of(tenant, "acme")
            .with(json!({"number": number}));
        audit::append(&mut connection, &entry).await.unwrap();
    }
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert!(report.is_intact() && report.rows == 10, "{report:?}");
    drop(connection);
    (registry, database, report.head)
}

async fn verified(registry: &Registry, remembered: Option<Head>) -> Report {
    audit::verify(&mut registry.acquire().await.unwrap(), remembered)
        .await
        .unwrap()
}

/// Runs statements with every trigger out of the way.
async fn tamper(database: &str, statements: &str) {
    let mut superuser = Postgres::shared().superuser(database).await;
    run(
        &mut superuser,
        &format!("BEGIN; SET LOCAL session_replication_role = replica; {statements}; COMMIT"),
    )
    .await;
}

async fn findings(statements: &str) -> Vec<Finding> {
    let (registry, database, _) = audited().await;
    tamper(&database, statements).await;
    verified(&registry, None).await.findings
}

#[tokio::test]
async fn an_edited_row_is_named() {
    for edit in [
        "UPDATE audit SET actor = 'bob' WHERE seq = 4",
        "UPDATE audit SET at = at + interval '1 microsecond' WHERE seq = 4",
        "UPDATE audit SET id = gen_random_uuid() WHERE seq = 4",
        "UPDATE audit SET tenant_uid = gen_random_uuid() WHERE seq = 4",
        "UPDATE audit SET outcome = '' WHERE seq = 4",
        "UPDATE audit SET detail = '{\"number\": 4.0}' WHERE seq = 4",
        "UPDATE audit SET hash = prev WHERE seq = 4",
    ] {
        assert_eq!(findings(edit).await, [Finding::Edited { seq: 4 }], "{edit}");
    }
}

#[tokio::test]
async fn an_edited_row_with_a_fitting_hash_is_named() {
    let found = findings(
        "UPDATE audit SET actor = 'bob' WHERE seq = 4;
         UPDATE audit SET hash = audit_hash(audit) WHERE seq = 4",
    )
    .await;
    assert_eq!(found, [Finding::Replaced { seq: 4 }]);
}

#[tokio::test]
async fn deleted_rows_are_named() {
    for (delete, finding) in [
        (
            "DELETE FROM audit WHERE seq = 4",
            Finding::Removed { from: 4, to: 4 },
        ),
        (
            "DELETE FROM audit WHERE seq IN (4, 5, 6)",
            Finding::Removed { from: 4, to: 6 },
        ),
        (
            "DELETE FROM audit WHERE seq = 1",
            Finding::Removed { from: 1, to: 1 },
        ),
        (
            "DELETE FROM audit WHERE seq = 10",
            Finding::Truncated { from: 10, to: 10 },
        ),
        (
            "DELETE FROM audit WHERE seq > 7",
            Finding::Truncated { from: 8, to: 10 },
        ),
        ("TRUNCATE audit", Finding::Truncated { from: 1, to: 10 }),
    ] {
        assert_eq!(findings(delete).await, [finding], "{delete}");
    }
}

#[tokio::test]
async fn swapped_rows_are_named() {
    let found = findings("UPDATE audit SET seq = 11 - seq WHERE seq IN (4, 7)").await;
    let moved = [
        Finding::Moved { seq: 4, from: 7 },
        Finding::Moved { seq: 7, from: 4 },
    ];
    assert_eq!(found, moved);
}

#[tokio::test]
async fn forged_rows_are_named() {
    let at_the_end = findings(
        "INSERT INTO audit SELECT seq + 1, at, id, phase, 'eve', action, tenant_uid, tenant, outcome, detail, hash, hash
           FROM audit WHERE seq = 10;
         UPDATE audit SET hash = audit_hash(audit) WHERE seq = 11",
    )
    .await;
    assert_eq!(at_the_end, [Finding::Added { from: 11, to: 11 }]);
    let in_between = findings(
        "INSERT INTO audit SELECT seq, at + interval '1 microsecond', id, phase, 'eve', action, tenant_uid, tenant,
           outcome, detail, prev, hash FROM audit WHERE seq = 5",
    )
    .await;
    assert_eq!(in_between, [Finding::Duplicated { seq: 5 }]);
}

#[tokio::test]
async fn a_head_that_was_lowered_too_is_told_by_one_kept_elsewhere() {
    let (registry, database, remembered) = audited().await;
    tamper(
        &database,
        "DELETE FROM audit WHERE seq > 7;
         UPDATE audit_head SET (seq, at, hash) = (SELECT seq, at, hash FROM audit WHERE seq = 7)",
    )
    .await;
    let alone = verified(&registry, None).await;
    assert!(alone.is_intact(), "nothing inside the database tells it");
    let report = verified(&registry, Some(remembered)).await;
    assert_eq!(report.findings, [Finding::Truncated { from: 8, to: 10 }]);

    // Nor does it help to fill up to the same length again.
    let mut connection = registry.acquire().await.unwrap();
    for _ in 8..=12 {
        audit::append(
            &mut connection,
            &Entry::started("eve", Action::KeyUnwrapped),
        )
        .await
        .unwrap();
    }
    let report = verified(&registry, Some(remembered)).await;
    assert_eq!(report.findings, [Finding::Replaced { seq: 10 }]);
}

#[tokio::test]
async fn a_function_that_hashes_something_else_is_noticed() {
    let (registry, database, _) = audited().await;
    tamper(
        &database,
        "CREATE OR REPLACE FUNCTION audit_hash(entry audit) RETURNS bytea LANGUAGE sql AS 'SELECT sha256(entry.prev)'",
    )
    .await;
    audit::append(
        &mut registry.acquire().await.unwrap(),
        &Entry::started("eve", Action::KeyUnwrapped),
    )
    .await
    .unwrap();
    let report = verified(&registry, None).await;
    assert_eq!(report.findings, [Finding::Edited { seq: 11 }]);
}

#[tokio::test]
async fn a_month_that_was_dropped_by_hand_is_noticed() {
    let (registry, database, _) = audited().await;
    let mut superuser = Postgres::shared().superuser(&database).await;
    run(
        &mut superuser,
        "DO $$ BEGIN EXECUTE 'DROP TABLE ' || (SELECT tableoid::regclass FROM audit LIMIT 1); END $$",
    )
    .await;
    let report = verified(&registry, None).await;
    assert_eq!(report.findings, [Finding::Truncated { from: 1, to: 10 }]);
}
