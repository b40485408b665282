//! What is refused before a page sees it, and what every answer carries.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};

use crate::app::{App, HOST, URL};
use crate::client::Answer;

const FORM: [(&str, &str); 4] = [
    ("kind", "income"),
    ("amount", "1"),
    ("date", "2026-01-01"),
    ("description", "x"),
];

fn with_csrf(csrf: &str) -> Vec<(&str, &str)> {
    FORM.into_iter().chain([("csrf", csrf)]).collect()
}

#[tokio::test]
async fn a_form_needs_our_origin_and_our_token() {
    let app = App::started().await;
    let mut client = app.client();
    let csrf = client.get("/").await.hidden("csrf");
    let form = with_csrf(&csrf);
    for origin in [
        None,
        Some("null"),
        Some("https://evil.example.com"),
        Some("http://acme.granary.localhost:8443"),
    ] {
        let refused = client.post_from(origin, "/entries", &form).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{origin:?}");
        assert!(refused.text().contains("Not sent from this book"));
    }
    for token in ["", "00000000000000000000000000000000"] {
        let refused = client.post("/entries", &with_csrf(token)).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{token:?}");
        assert!(
            refused.text().contains("open for too long") && refused.body.contains("value=\"1\""),
            "the input is kept"
        );
        let refused = client.post("/entries/1/delete", &[("csrf", token)]).await;
        assert_ne!(refused.status, StatusCode::SEE_OTHER);
    }
    let mut other = app.client();
    assert_eq!(
        other.post("/entries", &form).await.status,
        StatusCode::FORBIDDEN,
        "another browser's token"
    );
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 0);

    assert_eq!(
        client.post_from(Some(URL), "/entries", &form).await.status,
        StatusCode::SEE_OTHER
    );
    client.forget_cookie();
    assert_eq!(
        client.post("/entries", &form).await.status,
        StatusCode::FORBIDDEN,
        "a token without its cookie"
    );
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 1);

    let id: i64 = app.query("SELECT id FROM entry").await;
    let delete = format!("/entries/{id}/delete");
    let csrf = client.get(&delete).await.hidden("csrf");
    assert_eq!(
        client.post(&delete, &[]).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        client
            .post_from(None, &delete, &[("csrf", &csrf)])
            .await
            .status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(app.query::<i64>("SELECT count(*) FROM entry").await, 1);
    assert_eq!(
        client.post(&delete, &[("csrf", &csrf)]).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn only_the_tenants_host_is_served() {
    let app = App::started().await;
    let mut client = app.client();
    let mut ask = async |host: &'static str, path: &str| {
        client
            .send(
                Request::get(path)
                    .header(header::HOST, host)
                    .body(Body::empty())
                    .unwrap(),
            )
            .await
            .status
    };
    for ours in [
        HOST,
        "acme.granary.localhost",
        "ACME.granary.localhost.:8443",
        "app.silo-acme-1.svc:8443",
        "localhost",
    ] {
        assert_eq!(ask(ours, "/").await, StatusCode::OK, "{ours}");
    }
    for foreign in [
        "bravo.granary.localhost",
        "granary.localhost",
        "10.0.0.7:8443",
        "app.evil.com",
        "",
    ] {
        assert_eq!(
            ask(foreign, "/").await,
            StatusCode::MISDIRECTED_REQUEST,
            "{foreign}"
        );
    }
    assert_eq!(ask("10.0.0.7:8443", "/healthz").await, StatusCode::OK);
    assert_eq!(
        ask("10.0.0.7:8443", "/readyz?wait=20").await,
        StatusCode::OK
    );
}

#[tokio::test]
async fn http_2_is_served_and_guarded_alike() {
    let app = App::started().await;
    let client = app.client();
    assert_eq!(client.get_http2(URL).await, StatusCode::OK);
    assert_eq!(
        client
            .get_http2("https://bravo.granary.localhost:8443/")
            .await,
        StatusCode::MISDIRECTED_REQUEST
    );
}

#[tokio::test]
async fn too_much_and_unreadable_is_refused() {
    let app = App::started().await;
    let mut client = app.client();
    let large = "x".repeat(20_000);
    assert_eq!(
        client
            .post("/entries", &[("description", &large)])
            .await
            .status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        client
            .post("/entries", &[("unknown", "field")])
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        client
            .post("/entries", &[("kind", "a"), ("kind", "b")])
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    let json = Request::post("/entries")
        .header(header::ORIGIN, URL)
        .header(header::CONTENT_TYPE, "application/json");
    assert_eq!(
        client.send(json.body("{}".into()).unwrap()).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[track_caller]
fn carries_every_header(what: &str, answer: &Answer) {
    for (name, value) in [
        ("strict-transport-security", "max-age=63072000"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("content-security-policy", "default-src 'none'"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", ""),
        ("x-request-id", ""),
    ] {
        let sent = answer
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("{what}: no {name}"))
            .to_str()
            .unwrap();
        assert!(sent.starts_with(value), "{what}: {name}: {sent}");
    }
    assert!(
        !answer.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("unsafe")
    );
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let app = App::started().await;
    let mut client = app.client();
    for (path, status) in [
        ("/", 200),
        ("/nothing", 404),
        ("/entries", 405),
        ("/healthz", 200),
        ("/readyz?wait=20", 200),
        ("/readyz?wait=x", 400),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        carries_every_header(path, &answer);
    }
    let refused = client.post_from(None, "/entries", &FORM).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    carries_every_header("a refused form", &refused);
    carries_every_header(
        "an invalid form",
        &client.add("income", "x", "x", "x").await,
    );
    carries_every_header(
        "a redirect",
        &client.add("income", "1", "2026-01-01", "x").await,
    );
    carries_every_header(
        "a wrong method",
        &client.request(Method::DELETE, "/healthz").await,
    );
    let foreign = client
        .send(
            Request::get("/")
                .header(header::HOST, "evil.com")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    carries_every_header("a wrong host", &foreign);
    app.sql("ALTER TABLE entry RENAME TO gone").await;
    let failed = client.get("/").await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    carries_every_header("a failure", &failed);
}

#[tokio::test]
async fn assets_may_be_kept_and_pages_may_not() {
    let app = App::started().await;
    let mut client = app.client();
    let page = client.get("/").await;
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let style = page
        .body
        .split_once("rel=\"stylesheet\" href=\"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap();
    let sheet = client.get(style).await;
    assert_eq!(
        sheet.headers[header::CONTENT_TYPE],
        "text/css; charset=utf-8"
    );
    assert!(
        sheet.headers[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    carries_every_header("the style sheet", &sheet);
    for inline in ["style=", "<style", "<script", "onclick"] {
        assert!(!page.body.contains(inline), "the policy forbids {inline}");
    }
}

#[tokio::test]
async fn a_request_id_of_the_gateway_is_kept() {
    let app = App::started().await;
    let request = Request::get("/healthz")
        .header("x-request-id", "gateway-0123456789")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        app.client().send(request).await.headers["x-request-id"],
        "gateway-0123456789"
    );
}
