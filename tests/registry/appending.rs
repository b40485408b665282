//! Writing the audit: one chain, which only grows.

use futures::future::try_join_all;
use granary::audit::{self, Action, Entry, Filter, Hash, Phase};
use granary::effects::{Commit, Effect};
use granary::registry::{RegistryError, Role, tenants};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{PgConnection, Row};

use crate::postgres::{Postgres, run};
use crate::uid;

/// Under which name these tests commit.
const EFFECT: Effect = Effect::Operator(Commit::Noted("test"));

/// What stands in the way of a statement.
async fn refusal(connection: &mut PgConnection, statement: &str) -> String {
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await
        .expect_err(statement);
    RegistryError::from(error).to_string()
}

#[tokio::test]
async fn rows_are_chained_and_verify() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let tenant = uid();
    let began = Timestamp::now();
    let mut transaction = registry.begin().await.unwrap();
    tenants::register(&mut transaction, tenant, "acme", "silo-acme")
        .await
        .unwrap();
    let started = Entry::started("system:admin", Action::TenantOnboarded)
        .of(tenant, "acme")
        .with(json!({"plan": "kleine Größe", "b": 1.50, "a": [null, {"z": 1, "y": "\u{1}"}]}));
    let first = audit::append(&mut transaction, &started).await.unwrap();
    transaction.commit(EFFECT, None).await.unwrap();

    let mut connection = registry.acquire().await.unwrap();
    let second = audit::append(&mut connection, &started.finished("ready"))
        .await
        .unwrap();
    let refused = Entry::refused("eve", Action::KeyUnwrapped, "not this tenant's pod");
    let third = audit::append(&mut connection, &refused).await.unwrap();
    assert_eq!((first.seq, second.seq, third.seq), (1, 2, 3));
    assert_eq!(
        (first.prev, second.prev, third.prev),
        (Hash::NONE, first.hash, second.hash)
    );
    assert!(first.at <= second.at && second.at <= third.at);
    assert!(first.at.duration_since(began).abs() < SignedDuration::from_mins(1));

    let report = audit::verify(&mut connection, None).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(
        (report.rows, report.head.seq, report.head.hash),
        (3, 3, third.hash)
    );
    assert_eq!(audit::head(&mut connection).await.unwrap(), report.head);

    let rows = audit::page(&mut connection, &Filter::default(), 0, 10)
        .await
        .unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].detail, started.detail);
    assert_eq!(
        (
            rows[0].phase.parse().unwrap(),
            rows[1].phase.parse().unwrap()
        ),
        (Phase::Started, Phase::Finished)
    );
    assert_eq!((rows[0].id, rows[0].tenant_uid), (rows[1].id, Some(tenant)));
    assert_eq!((rows[2].hash, rows[2].at), (third.hash, third.at));
}

#[tokio::test]
async fn a_row_commits_with_the_change_that_it_announces() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let entry = Entry::started("ada", Action::KeyCreated);
    let mut transaction = registry.begin().await.unwrap();
    audit::append(&mut transaction, &entry).await.unwrap();
    drop(transaction);
    let mut connection = registry.acquire().await.unwrap();
    let kept = audit::append(&mut connection, &entry).await.unwrap();
    assert_eq!(
        (kept.seq, kept.prev),
        (1, Hash::NONE),
        "what was rolled back left nothing"
    );
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_make_one_chain() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let writers = (0..8).map(|writer| {
        let registry = registry.clone();
        async move {
            for number in 0..25 {
                let entry = Entry::started(format!("writer {writer}"), Action::KeyUnwrapped)
                    .with(json!({"number": number}));
                let mut transaction = registry.begin().await?;
                audit::append(&mut transaction, &entry).await?;
                // One in five does not come to its end.
                if number % 5 == 0 {
                    drop(transaction);
                } else {
                    transaction.commit(EFFECT, None).await?;
                }
            }
            Ok::<_, RegistryError>(())
        }
    });
    try_join_all(writers).await.unwrap();
    let mut connection = registry.acquire().await.unwrap();
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.rows, report.head.seq), (160, 160));
}

#[tokio::test]
async fn app_can_append_and_nothing_else() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    // The positive control.
    audit::append(&mut connection, &Entry::started("ada", Action::KeyCreated))
        .await
        .unwrap();
    let partition = partition(&mut connection).await;
    for statement in [
        "INSERT INTO audit SELECT * FROM audit",
        "UPDATE audit SET actor = 'eve'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        &format!("INSERT INTO {partition} SELECT * FROM audit"),
        &format!("SELECT * FROM {partition}"),
        &format!("DELETE FROM {partition}"),
        &format!("DROP TABLE {partition}"),
        "UPDATE audit_head SET seq = 0",
        "DELETE FROM audit_head",
        "INSERT INTO audit_anchors (seq, hash, month, rows) VALUES (1, '', '2020-01-01', 1)",
        "DELETE FROM audit_anchors",
        "SELECT audit_append_at('2020-01-01', gen_random_uuid(), 'started', 'eve', 'key-created', NULL, NULL, NULL, '{}')",
        "SELECT audit_make_partition('2020-01-01')",
        "CREATE OR REPLACE FUNCTION audit_hash(entry audit) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea'",
    ] {
        let why = refusal(&mut connection, statement).await;
        assert!(
            why.contains("permission denied") || why.contains("must be owner"),
            "{statement}: {why}"
        );
    }
}

#[tokio::test]
async fn the_auditor_reads_the_audit_and_nothing_else() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let app = postgres.registry(&database, Role::App);
    let entry = Entry::started("ada", Action::KeyCreated);
    audit::append(&mut app.acquire().await.unwrap(), &entry)
        .await
        .unwrap();
    let auditor = postgres.registry(&database, Role::Auditor);
    let mut connection = auditor.acquire().await.unwrap();
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert_eq!((report.is_intact(), report.rows), (true, 1));
    let rows = audit::latest(&mut connection, &Filter::default(), 5)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    let error = audit::append(&mut connection, &entry).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error:?}");
    // What is signed for outsiders it reads too: see `tables`.
    for table in ["keys", "data_keys", "operations", "local_keys"] {
        let why = refusal(&mut connection, &format!("SELECT * FROM {table}")).await;
        assert!(why.contains("permission denied"), "{table}: {why}");
    }
}

#[tokio::test]
async fn not_even_the_owner_changes_a_row_by_a_statement() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let app = postgres.registry(&database, Role::App);
    let entry = Entry::started("ada", Action::KeyCreated);
    audit::append(&mut app.acquire().await.unwrap(), &entry)
        .await
        .unwrap();
    let mut superuser = postgres.superuser(&database).await;
    let partition = partition(&mut superuser).await;
    let statements = [
        "UPDATE audit SET actor = 'eve'".to_owned(),
        "DELETE FROM audit".to_owned(),
        "TRUNCATE audit".to_owned(),
        format!("UPDATE {partition} SET actor = 'eve'"),
        format!("DELETE FROM {partition}"),
        format!("TRUNCATE {partition}"),
        "UPDATE audit_head SET seq = 0".to_owned(),
        "DELETE FROM audit_head".to_owned(),
        "TRUNCATE audit_head".to_owned(),
    ];
    for statement in &statements {
        let why = refusal(&mut superuser, statement).await;
        assert!(
            why.contains("_rows_are_kept") || why.contains("audit_head_moves_on"),
            "{statement}: {why}"
        );
    }
    // The positive control: it is the triggers that stand in the way.
    for statement in &statements {
        run(
            &mut superuser,
            &format!("BEGIN; SET LOCAL session_replication_role = replica; {statement}; ROLLBACK"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_row_that_says_too_much_or_too_little_is_refused() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let entry = || Entry::started("ada", Action::KeyCreated);
    for (bad, rule) in [
        (
            Entry::started("", Action::KeyCreated),
            "audit_actor_is_named",
        ),
        (
            Entry::started("a".repeat(513), Action::KeyCreated),
            "audit_actor_is_named",
        ),
        (entry().with(json!([])), "audit_detail_is_small"),
        (
            entry().with(json!({"x": "y".repeat(17_000)})),
            "audit_detail_is_small",
        ),
        (entry().finished("x".repeat(1025)), "audit_outcome_is_short"),
        (entry().of(uid(), "n".repeat(254)), "audit_tenant_is_short"),
    ] {
        match audit::append(&mut connection, &bad).await {
            Err(RegistryError::Conflict { rule: found, .. }) => assert_eq!(found, rule),
            other => panic!("{rule}: {other:?}"),
        }
    }
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert_eq!((report.is_intact(), report.rows), (true, 0));
}

#[tokio::test]
async fn rows_are_found_by_what_they_say() {
    let postgres = Postgres::shared();
    let registry = postgres.registry(&postgres.database().await, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let (acme, beta) = (uid(), uid());
    let mut times = Vec::new();
    for (actor, action, tenant) in [
        ("ada", Action::KeyCreated, Some((acme, "acme"))),
        ("bob", Action::KeyCreated, Some((beta, "beta"))),
        ("ada", Action::KeyRotated, Some((acme, "acme"))),
        ("ada", Action::CommandRun, None),
    ] {
        let mut entry = Entry::started(actor, action);
        if let Some((uid, name)) = tenant {
            entry = entry.of(uid, name);
        }
        times.push(audit::append(&mut connection, &entry).await.unwrap().at);
    }
    let all = Filter::default;
    for (filter, expected) in [
        (all(), vec![1, 2, 3, 4]),
        (
            Filter {
                actor: Some("ada".into()),
                ..all()
            },
            vec![1, 3, 4],
        ),
        (
            Filter {
                action: Some("key-created".into()),
                ..all()
            },
            vec![1, 2],
        ),
        (
            Filter {
                tenant: Some("acme".into()),
                ..all()
            },
            vec![1, 3],
        ),
        (
            Filter {
                tenant_uid: Some(beta),
                ..all()
            },
            vec![2],
        ),
        (
            Filter {
                since: Some(times[2]),
                ..all()
            },
            vec![3, 4],
        ),
        (
            Filter {
                until: Some(times[2]),
                ..all()
            },
            vec![1, 2],
        ),
        (
            Filter {
                actor: Some("bob".into()),
                tenant: Some("acme".into()),
                ..all()
            },
            vec![],
        ),
    ] {
        let seqs = |rows: Vec<audit::Record>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
        let page = audit::page(&mut connection, &filter, 0, 100).await.unwrap();
        assert_eq!(seqs(page), expected, "{filter:?}");
        let latest = audit::latest(&mut connection, &filter, 100).await.unwrap();
        assert_eq!(seqs(latest), expected, "{filter:?}");
    }
    let next = audit::page(&mut connection, &all(), 1, 2).await.unwrap();
    assert_eq!(next.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3]);
    let last = audit::latest(&mut connection, &all(), 2).await.unwrap();
    assert_eq!(last.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn months_are_made_ahead_and_dropped_after_a_year() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let mut superuser = postgres.superuser(&database).await;
    // What was written 15, 14 and 11 months ago, and a chain that goes on since. As the one whose tables they become.
    run(&mut superuser, "SET ROLE owner").await;
    for (ago, count) in [(15, 3), (14, 2), (11, 1)] {
        for _ in 0..count {
            run(
                &mut superuser,
                &format!(
                    "SELECT audit_append_at(now() - interval '{ago} months', gen_random_uuid(), 'started', 'ada',
                       'key-created', NULL, NULL, NULL, '{{}}')"
                ),
            )
            .await;
        }
    }
    let mut connection = registry.acquire().await.unwrap();
    let remembered = audit::head(&mut connection).await.unwrap();
    audit::append(&mut connection, &Entry::started("ada", Action::KeyCreated))
        .await
        .unwrap();
    for _ in 0..2 {
        audit::prepare_months(&mut connection).await.unwrap();
    }
    // 15, 14 and 11 months ago, this month and three ahead.
    assert_eq!(partitions(&mut superuser).await, 7);
    let before = audit::verify(&mut connection, None).await.unwrap();
    assert!(before.is_intact(), "{before:?}");

    let expired = audit::expire_months(&mut connection, "granary-operator")
        .await
        .unwrap();
    assert_eq!(
        expired
            .iter()
            .map(|month| (month.rows, month.anchor.seq))
            .collect::<Vec<_>>(),
        [(3, 3), (2, 5)]
    );
    assert_eq!(partitions(&mut superuser).await, 5);
    let again = audit::expire_months(&mut connection, "granary-operator")
        .await
        .unwrap();
    assert_eq!(again, []);

    let report = audit::verify(&mut connection, Some(remembered))
        .await
        .unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.anchor, Some(expired[1].anchor));
    // Rows 6 and 7, and one for each dropped month.
    assert_eq!(
        (report.rows, report.head.seq, report.remembered),
        (4, 9, Some(true))
    );
    let told = Filter {
        action: Some(Action::AuditExpired.as_str().to_owned()),
        ..Filter::default()
    };
    let told = audit::latest(&mut connection, &told, 10).await.unwrap();
    assert_eq!(
        (told.len(), told[1].actor.as_str()),
        (2, "granary-operator")
    );
    assert_eq!(told[1].detail["hash"], expired[1].anchor.hash.to_string());

    // Months that were dropped by other means, or whose anchor somebody made up, are noticed.
    run(&mut superuser, "RESET ROLE").await;
    run(
        &mut superuser,
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM audit_anchors; COMMIT",
    )
    .await;
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert_eq!(
        report.findings,
        [audit::Finding::Removed { from: 1, to: 5 }]
    );
    let forged = audit::page(&mut connection, &Filter::default(), 5, 1)
        .await
        .unwrap()
        .remove(0);
    run(
        &mut superuser,
        &format!(
            "BEGIN; SET LOCAL session_replication_role = replica;
             DELETE FROM audit WHERE seq = 6;
             INSERT INTO audit_anchors (seq, hash, month, rows) VALUES (6, '\\x{}', '2020-01-01', 6); COMMIT",
            forged.hash
        ),
    )
    .await;
    let report = audit::verify(&mut connection, None).await.unwrap();
    assert_eq!(report.findings, [audit::Finding::Unanchored { seq: 6 }]);
}

#[tokio::test]
async fn time_never_runs_backwards_and_a_missing_month_is_made() {
    let postgres = Postgres::shared();
    let database = postgres.database().await;
    let mut superuser = postgres.superuser(&database).await;
    run(
        &mut superuser,
        "SELECT audit_append_at(now() + interval '8 months', gen_random_uuid(), 'started', 'ada', 'key-created',
           NULL, NULL, NULL, '{}')",
    )
    .await;
    let registry = postgres.registry(&database, Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let recorded = audit::append(&mut connection, &Entry::started("ada", Action::KeyCreated))
        .await
        .unwrap();
    assert!(recorded.at > Timestamp::now() + SignedDuration::from_hours(24 * 200));
    assert!(
        audit::verify(&mut connection, None)
            .await
            .unwrap()
            .is_intact()
    );
}

/// The partition of the first row.
async fn partition(connection: &mut PgConnection) -> String {
    sqlx::raw_sql("SELECT tableoid::regclass::text FROM audit LIMIT 1")
        .fetch_one(connection)
        .await
        .unwrap()
        .get(0)
}

async fn partitions(connection: &mut PgConnection) -> usize {
    sqlx::raw_sql("SELECT 1 FROM pg_inherits WHERE inhparent = 'audit'::regclass")
        .fetch_all(connection)
        .await
        .unwrap()
        .len()
}
