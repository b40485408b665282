//! Descriptions are sealed with the tenant's key: in the database, over rotations, and against swapping.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Silo};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::eventually;

const UNREADABLE: &str = "This text cannot be shown";

/// Rows by the first five bytes of what is sealed: format and version. Plain rows are `-`.
const PREFIXES: &str = "SELECT coalesce(string_agg(prefix || ':' || rows, ' ' ORDER BY prefix), '') FROM (\
    SELECT coalesce(encode(substring(description_sealed FROM 1 FOR 5), 'hex'), '-') AS prefix, count(*) AS rows \
    FROM entry GROUP BY 1) AS counted";

/// Entries as a build from before sealing writes them.
const PLAIN_ROWS: &str = "INSERT INTO entry (request, on_date, description, amount) \
    SELECT gen_random_uuid(), date '2025-01-01' + n, 'plain ' || n, 100 FROM generate_series(1, 250) n";

async fn ready(client: &mut Client) {
    let answer = client.get("/readyz?wait=25").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

async fn keyz(client: &mut Client) -> Value {
    let answer = client.get_inside("/keyz").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Waits until every row is sealed with this version, as `/keyz` tells it.
async fn all_sealed_with(client: &mut Client, version: u32) -> Value {
    eventually("every row is sealed with the active key", async || {
        let progress = keyz(client).await;
        let done = progress["active"] == version
            && progress["stale"] == json!({})
            && progress["unsealed"] == 0;
        done.then_some(progress)
    })
    .await
}

#[tokio::test]
async fn descriptions_are_sealed_in_the_database() {
    let app = App::started().await;
    let mut client = app.client();
    let added = client.add("income", "10", "2026-01-01", "Secret hay").await;
    assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.text());
    assert_eq!(
        app.query::<String>("SELECT description FROM entry").await,
        "(encrypted)"
    );
    assert_eq!(app.query::<String>(PREFIXES).await, "0100000001:1");
    assert!(
        !app.query::<bool>("SELECT position('Secret'::bytea IN description_sealed) > 0 FROM entry")
            .await
    );
    assert!(client.get("/").await.text().contains("Secret hay"));
    let (_, id) = added.location().split_once("#entry-").unwrap();
    let confirm = client.get(&format!("/entries/{id}/delete")).await;
    assert!(confirm.text().contains("Secret hay"));
    assert_eq!(
        all_sealed_with(&mut client, 1).await,
        json!({"active": 1, "readable": [1], "stale": {}, "unsealed": 0, "unreadable": 0})
    );
}

#[tokio::test]
async fn what_an_older_build_wrote_is_shown_and_sealed() {
    let silo = Silo::without_keys().await;
    silo.migrate().await;
    let app = silo.serve().await;
    app.sql(PLAIN_ROWS).await;
    app.silo.put_key(1);
    app.silo.activate(1);
    let mut client = app.client();
    ready(&mut client).await;
    assert!(client.get("/").await.text().contains("plain 250"));
    all_sealed_with(&mut client, 1).await;
    assert_eq!(app.query::<String>(PREFIXES).await, "0100000001:250");
    assert_eq!(
        app.query::<i64>("SELECT count(*) FROM entry WHERE description <> '(encrypted)'")
            .await,
        0
    );
    let last = client.get("/?page=5").await.text();
    assert!(
        last.contains("plain 1 ") && !last.contains(UNREADABLE),
        "{last}"
    );
    // An older build that still runs beside writes one more.
    app.sql("INSERT INTO entry (request, on_date, description, amount) VALUES (gen_random_uuid(), '2026-01-01', 'late', 1)")
        .await;
    all_sealed_with(&mut client, 1).await;
    assert!(client.get("/").await.text().contains("late"));
}

#[tokio::test]
async fn a_form_sent_twice_is_one_entry_though_sealed_texts_differ() {
    let app = App::started().await;
    let mut client = app.client();
    let page = client.get("/").await;
    let (csrf, request) = (page.hidden("csrf"), page.hidden("request"));
    app.sql("INSERT INTO entry (request, on_date, description, amount) VALUES ('00000000-0000-4000-8000-000000000001', '2026-01-01', 'Coffee', -500)")
        .await;
    let plain = "00000000-0000-4000-8000-000000000001".to_owned();
    for request in [&request, &plain] {
        let form = [
            ("csrf", csrf.as_str()),
            ("request", request),
            ("kind", "expense"),
            ("amount", "5"),
            ("date", "2026-01-01"),
            ("description", "Coffee"),
        ];
        let first = client.post("/entries", &form).await.location().to_owned();
        assert_eq!(client.post("/entries", &form).await.location(), first);
    }
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 2);
}

#[tokio::test]
async fn which_keys_are_in_use_is_told_inside_the_cluster_only() {
    let app = App::started().await;
    let mut client = app.client();
    ready(&mut client).await;
    assert_eq!(client.get("/keyz").await.status, StatusCode::NOT_FOUND);
    assert_eq!(keyz(&mut client).await["active"], 1);
}

#[tokio::test]
async fn a_rotation_seals_everything_anew_without_a_restart() {
    let app = App::started().await;
    let mut client = app.client();
    ready(&mut client).await;
    app.sql(PLAIN_ROWS).await;
    all_sealed_with(&mut client, 1).await;

    app.silo.put_key(2);
    app.silo.activate(2);
    assert_eq!(
        client
            .add("income", "1", "2026-01-01", "After")
            .await
            .status,
        StatusCode::SEE_OTHER
    );
    assert!(
        app.query::<bool>(
            "SELECT count(*) > 0 FROM entry WHERE substring(description_sealed FROM 1 FOR 5) = '\\x0100000002'"
        )
        .await,
        "new texts are sealed with the new key at once"
    );
    let progress = all_sealed_with(&mut client, 2).await;
    assert_eq!(progress["readable"], json!([1, 2]));
    assert_eq!(app.query::<String>(PREFIXES).await, "0100000002:251");

    app.silo.remove_key(1);
    let page = client.get("/").await.text();
    assert!(
        page.contains("After") && page.contains("plain 250"),
        "{page}"
    );
    assert!(!page.contains(UNREADABLE), "the old key is needed no more");
    assert_eq!(keyz(&mut client).await["readable"], json!([2]));
}

#[tokio::test]
async fn the_old_version_is_read_until_it_is_gone() {
    let app = App::started().await;
    let mut client = app.client();
    client.add("income", "1", "2026-01-01", "Before").await;
    all_sealed_with(&mut client, 1).await;
    // Somebody holds the row, so that it stays under the old version.
    let mut holder = Cluster::shared().superuser(&app.silo.database).await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM entry FOR UPDATE")
        .execute(&mut holder)
        .await
        .unwrap();
    app.silo.put_key(2);
    app.silo.activate(2);
    let progress = keyz(&mut client).await;
    assert_eq!(progress["stale"], json!({"1": 1}), "{progress}");
    assert!(client.get("/").await.text().contains("Before"));
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    all_sealed_with(&mut client, 2).await;
    assert!(client.get("/").await.text().contains("Before"));
}

#[tokio::test]
async fn two_replicas_seal_anew_without_colliding() {
    let app = App::started().await;
    let other = app.silo.beside().serve().await;
    let (mut one, mut two) = (app.client(), other.client());
    ready(&mut one).await;
    ready(&mut two).await;
    app.sql(
        "INSERT INTO entry (request, on_date, description, amount) \
         SELECT gen_random_uuid(), date '2025-01-01', 'row ' || n, 100 FROM generate_series(1, 2000) n",
    )
    .await;
    all_sealed_with(&mut one, 1).await;
    for silo in [&app.silo, &other.silo] {
        silo.put_key(2);
        silo.activate(2);
    }
    // Both begin at once, and people write meanwhile.
    let mut written = 0;
    eventually("both are done", async || {
        let added = two.add("income", "1", "2026-01-01", "Meanwhile").await;
        assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.text());
        written += 1;
        let (one, two) = (keyz(&mut one).await, keyz(&mut two).await);
        let done = |progress: &Value| progress["stale"] == json!({}) && progress["active"] == 2;
        (done(&one) && done(&two)).then_some(())
    })
    .await;
    let all = format!("0100000002:{}", 2000 + written);
    assert_eq!(app.query::<String>(PREFIXES).await, all);
    for number in 1..=41 {
        let page = one.get(&format!("/?page={number}")).await.text();
        assert!(!page.contains(UNREADABLE), "page {number}");
    }
}

#[tokio::test]
async fn work_that_is_interrupted_is_taken_up_again() {
    let app = App::started().await;
    app.sql(
        "INSERT INTO entry (request, on_date, description, amount) \
         SELECT gen_random_uuid(), date '2025-01-01', 'row ' || n, 100 FROM generate_series(1, 1500) n",
    )
    .await;
    let mut client = app.client();
    eventually("some of it is done", async || {
        (keyz(&mut client).await["unsealed"].as_i64().unwrap() < 1500).then_some(())
    })
    .await;
    app.stop.cancel();
    app.running.await.unwrap();
    let silo = app.silo;
    silo.mount_app("app", 9);
    let app = silo.serve().await;
    let mut client = app.client();
    ready(&mut client).await;
    all_sealed_with(&mut client, 1).await;
    assert_eq!(app.query::<String>(PREFIXES).await, "0100000001:1500");
    assert!(!client.get("/").await.text().contains(UNREADABLE));
}

#[tokio::test]
async fn a_swapped_or_altered_description_is_told_and_spoils_nothing_else() {
    let app = App::started().await;
    let mut client = app.client();
    for (day, description) in [
        ("2026-01-01", "First"),
        ("2026-01-02", "Second"),
        ("2026-01-03", "Third"),
        ("2026-01-04", "Fourth"),
        ("2026-01-05", "Fifth"),
    ] {
        client.add("income", "1", day, description).await;
    }
    all_sealed_with(&mut client, 1).await;
    app.sql(
        "UPDATE entry SET description_sealed = other.description_sealed FROM entry AS other \
            WHERE (entry.on_date, other.on_date) IN (('2026-01-01', '2026-01-02'), ('2026-01-02', '2026-01-01')); \
         UPDATE entry SET description_sealed = set_byte(description_sealed, 20, get_byte(description_sealed, 20) # 1) \
            WHERE on_date = '2026-01-03'; \
         UPDATE entry SET description_sealed = substring(description_sealed FROM 1 FOR 34) WHERE on_date = '2026-01-04'",
    )
    .await;
    let page = client.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    let text = page.text();
    assert_eq!(text.matches(UNREADABLE).count(), 4, "{text}");
    assert!(
        text.contains("Fifth") && text.contains("Balance 5.00"),
        "{text}"
    );
    for gone in ["First", "Second", "Third", "Fourth"] {
        assert!(!text.contains(gone), "{text}");
    }

    // A rotation leaves them as they are, and says how many.
    app.silo.put_key(2);
    app.silo.activate(2);
    let progress = eventually("only those are left", async || {
        let progress = keyz(&mut client).await;
        (progress["stale"] == json!({"1": 4}) && progress["unreadable"] == 4).then_some(progress)
    })
    .await;
    assert_eq!(progress["active"], 2);

    // They can be deleted like all others.
    let id: i64 = app
        .query("SELECT id FROM entry WHERE on_date = '2026-01-01'")
        .await;
    let path = format!("/entries/{id}/delete");
    let confirm = client.get(&path).await;
    assert_eq!(confirm.status, StatusCode::OK);
    assert!(confirm.text().contains(UNREADABLE));
    let csrf = confirm.hidden("csrf");
    assert_eq!(
        client.post(&path, &[("csrf", &csrf)]).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn another_tenant_reads_nothing_with_the_same_key_and_database() {
    let app = App::started().await;
    app.client().add("income", "1", "2026-01-01", "Ours").await;
    let silo = app.silo.beside();
    let mut args = silo.serve_args();
    args.tenant_uid = Uuid::from_u128(1);
    let foreign = silo.serve_as(&args).await;
    let page = foreign.client().get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains(UNREADABLE) && !page.text().contains("Ours"));
}

#[tokio::test]
async fn not_ready_without_keys() {
    let silo = Silo::without_keys().await;
    silo.migrate().await;
    let app = silo.serve().await;
    let mut client = app.client();
    let reason = eventually("the reason is the keys", async || {
        let answer = client.get("/readyz").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        answer
            .body
            .contains("keys are missing")
            .then_some(answer.body)
    })
    .await;
    assert!(!reason.contains('/'), "the reason names no file: {reason}");
    assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
    for path in ["/", "/keyz"] {
        let answer = client.get_inside(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(
            answer.text().contains("cannot be opened right now"),
            "{path}"
        );
    }
    let mut held = app.client();
    let probe = tokio::spawn(async move { held.get("/readyz?wait=25").await });
    app.silo.put_key(1);
    assert_eq!(
        client.get("/readyz").await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "not before it is said which one writes"
    );
    app.silo.activate(1);
    assert_eq!(probe.await.unwrap().status, StatusCode::OK);
    assert_eq!(client.get("/").await.status, StatusCode::OK);
}
