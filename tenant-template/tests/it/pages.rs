//! What a person does with the book.

use axum::http::{Method, StatusCode};

use crate::app::App;

#[tokio::test]
async fn an_empty_book_says_so() {
    let app = App::started().await;
    let page = app.client().get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.text().contains("Nothing in the book yet"),
        "{}",
        page.text()
    );
    assert!(
        page.body.contains("Acme &#60;Farms&#62; &#38; Söns"),
        "the name is shown, encoded"
    );
    assert!(
        page.text().contains("staging"),
        "an environment that is not production is shown"
    );
}

#[tokio::test]
async fn entries_are_added_listed_and_deleted() {
    let app = App::started().await;
    let mut client = app.client();
    let added = client
        .add("income", "1,000.00", "2026-01-31", "Opening <b>balance</b>")
        .await;
    assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.text());
    assert!(added.location().starts_with("/?page=1&done=added#entry-"));
    client.add("expense", "12.50", "2026-02-01", "Hay").await;
    client
        .add("expense", "0.01", "2026-01-15", "Earlier than the first")
        .await;

    let page = client.get("/?done=added").await;
    let text = page.text();
    assert!(text.contains("The entry was added."));
    assert!(text.contains("Balance 987.49"), "{text}");
    assert!(
        page.body.contains("Opening &#60;b&#62;balance"),
        "what people type is encoded"
    );
    let order = [
        "February 2026",
        "Hay",
        "\u{2212}12.50",
        "987.49",
        "January 2026",
        "+1,000.00",
        "Opening",
        "999.99",
        "Earlier",
        "\u{2212}0.01",
    ];
    let mut rest = text.split_once("Entries").unwrap().1;
    for next in order {
        rest = rest
            .split_once(next)
            .unwrap_or_else(|| panic!("{next} is missing after the one before it in: {text}"))
            .1;
    }

    let (_, id) = added.location().split_once("#entry-").unwrap();
    let path = format!("/entries/{id}/delete");
    let confirm = client.get(&path).await;
    assert_eq!(confirm.status, StatusCode::OK);
    assert!(
        confirm.text().contains("31 January 2026"),
        "{}",
        confirm.text()
    );
    assert_eq!(
        app.query::<i64>("SELECT count(*) FROM entry").await,
        3,
        "asking deletes nothing"
    );
    let csrf = confirm.hidden("csrf");
    let deleted = client.post(&path, &[("csrf", &csrf), ("page", "1")]).await;
    assert_eq!(
        (deleted.status, deleted.location()),
        (StatusCode::SEE_OTHER, "/?page=1&done=deleted")
    );
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 2);
    assert_eq!(
        client.post(&path, &[("csrf", &csrf)]).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(client.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn mistakes_are_shown_by_the_field_and_the_input_is_kept() {
    let app = App::started().await;
    let mut client = app.client();
    let page = client
        .add("income", "12,5", "2026-02-30", "Kept \"as typed\"")
        .await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    for shown in [
        "Write decimals with a point",
        "Enter a date as year-month-day",
        "value=\"12,5\"",
        "value=\"2026-02-30\"",
        "value=\"Kept &#34;as typed&#34;\"",
        "value=\"income\" checked",
        "aria-describedby=\"amount-error\"",
        "id=\"date-error\"",
    ] {
        assert!(
            page.body.contains(shown),
            "{shown} is missing in:\n{}",
            page.body
        );
    }
    assert!(
        !page.body.contains("description-error"),
        "a field without a mistake is not marked"
    );
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 0);

    let csrf = page.hidden("csrf");
    let nothing = client.post("/entries", &[("csrf", &csrf)]).await;
    assert_eq!(nothing.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(nothing.text().contains("Choose income or expense"));
}

#[tokio::test]
async fn the_same_form_sent_twice_is_one_entry() {
    let app = App::started().await;
    let mut client = app.client();
    let page = client.get("/").await;
    let (csrf, request) = (page.hidden("csrf"), page.hidden("request"));
    let form = |description: &'static str| {
        [
            ("csrf", csrf.clone()),
            ("request", request.clone()),
            ("kind", "expense".to_owned()),
            ("amount", "5".to_owned()),
            ("date", "2026-01-01".to_owned()),
            ("description", description.to_owned()),
        ]
    };
    let mut send = async |description| {
        let form = form(description);
        let form: Vec<(&str, &str)> = form
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client.post("/entries", &form).await.location().to_owned()
    };
    let first = send("Coffee").await;
    assert_eq!(send("Coffee").await, first);
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 1);
    assert_ne!(send("Tea").await, first, "another content is another entry");
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 2);
}

#[tokio::test]
async fn long_books_have_pages_and_balances_go_on_over_them() {
    let app = App::started().await;
    app.sql(
        "INSERT INTO entry (request, on_date, description, amount) \
         SELECT gen_random_uuid(), date '2025-01-01' + n, 'entry ' || n, 100 FROM generate_series(1, 120) n",
    )
    .await;
    let mut client = app.client();
    let first = client.get("/").await.text();
    assert!(
        first.contains("120 in all, page 1 of 3") && first.contains("Balance 120.00"),
        "{first}"
    );
    assert!(first.contains("Older") && !first.contains("Newer"));
    let second = client.get("/?page=2").await.text();
    assert!(second.contains("entry 70 +1.00 Balance 70.00"), "{second}");
    assert!(second.contains("Newer") && second.contains("Older"));
    assert!(
        second.contains("March 2025 in +31.00"),
        "totals are those of the whole month: {second}"
    );
    let last = client.get("/?page=3").await.text();
    assert!(last.contains("entry 1 +1.00 Balance 1.00") && !last.contains("Older"));
    for odd in [
        "/?page=4",
        "/?page=9999999999999999999",
        "/?page=0",
        "/?page=-1",
        "/?page=x",
    ] {
        assert_eq!(client.get(odd).await.status, StatusCode::OK, "{odd}");
    }
    let added = client
        .add("expense", "1", "2025-01-02", "Late for page three")
        .await;
    assert!(
        added.location().starts_with("/?page=3&"),
        "{}",
        added.location()
    );
}

#[tokio::test]
async fn hostile_text_is_only_text() {
    let app = App::started().await;
    let mut client = app.client();
    let nasty = "'); DROP TABLE entry; -- <script>alert(1)</script> {{7*7}} \u{1F33E}";
    assert_eq!(
        client.add("expense", "1", "2026-01-01", nasty).await.status,
        StatusCode::SEE_OTHER
    );
    let page = client.get("/").await;
    assert!(page.body.contains("&#60;script&#62;alert(1)") && !page.body.contains("<script"));
}

#[tokio::test]
async fn unknown_pages_and_methods_are_told_apart() {
    let app = App::started().await;
    let mut client = app.client();
    for path in [
        "/nothing",
        "/entries/x/delete",
        "/entries/1/delete",
        "/entries/99999999999999999999/delete",
        "/%00",
        "/../etc/passwd",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text().contains("Nothing here"), "{path}");
    }
    for (method, path) in [
        (Method::DELETE, "/"),
        (Method::GET, "/entries"),
        (Method::PUT, "/entries/1/delete"),
    ] {
        let answer = client.request(method.clone(), path).await;
        assert_eq!(
            answer.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_failing_query_shows_a_reference_and_nothing_else() {
    let app = App::started().await;
    let mut client = app.client();
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    app.sql("ALTER TABLE entry RENAME TO hidden_away").await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let reference = answer.headers["x-request-id"].to_str().unwrap();
    assert!(answer.body.contains(reference));
    for inside in ["entry\"", "SELECT", "sqlx", "postgres", "relation", ".rs"] {
        assert!(
            !answer.body.contains(inside),
            "{inside} in:\n{}",
            answer.body
        );
    }
}
