//! TLS versions, and certificates that change while the app runs.

use axum::http::StatusCode;
use rustls_pki_types::CertificateDer;

use crate::app::App;
use crate::certificates::{Authority, mount};
use crate::client::Client;
use crate::eventually;

#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let app = App::started().await;
    let client = app.client();
    let modern = client.handshake(&[&rustls::version::TLS13]).await.unwrap();
    assert_eq!(
        modern.get_ref().1.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    let refused = client
        .handshake(&[&rustls::version::TLS12])
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
}

async fn shown_certificate(client: &Client) -> CertificateDer<'static> {
    let stream = client.handshake(&[&rustls::version::TLS13]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

#[tokio::test]
async fn a_renewed_server_certificate_is_used_without_a_restart() {
    let app = App::started().await;
    let client = app.client();
    let before = shown_certificate(&client).await;
    assert_eq!(
        shown_certificate(&client).await,
        before,
        "it does not change by itself"
    );
    app.silo.mount_app("app", 2);
    let after = shown_certificate(&client).await;
    assert_ne!(after, before);

    // A pair that does not belong together is not taken; the good one stays.
    let (one, other) = (
        app.silo.authority.server(&["localhost"]),
        app.silo.authority.server(&["localhost"]),
    );
    mount(
        app.silo.mounted.path(),
        &[("tls.crt", &one.certificate), ("tls.key", &other.key)],
    );
    assert_eq!(shown_certificate(&client).await, after);
    mount(
        app.silo.mounted.path(),
        &[("tls.crt", "no certificate"), ("tls.key", &other.key)],
    );
    assert_eq!(shown_certificate(&client).await, after);
    app.silo.mount_app("app", 3);
    assert_ne!(shown_certificate(&client).await, after);
}

#[tokio::test]
async fn a_new_authority_is_used_without_a_restart() {
    let app = App::started().await;
    let next = Authority::new();
    let leaf = next.server(&["localhost"]);
    mount(
        app.silo.mounted.path(),
        &[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)],
    );
    let trusting_next = Client::new(app.address, &next.pem);
    trusting_next
        .handshake(&[&rustls::version::TLS13])
        .await
        .unwrap();
    assert!(
        app.client()
            .handshake(&[&rustls::version::TLS13])
            .await
            .is_err(),
        "the old authority signed nothing in use"
    );
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_for_new_connections() {
    const SERIALS: &str = "SELECT coalesce(string_agg(DISTINCT client_serial::text, ','), '') FROM pg_stat_ssl JOIN pg_stat_activity \
         USING (pid) WHERE datname = current_database() AND usename = 'app'";
    let app = App::started().await;
    let mut client = app.client();
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    assert_eq!(app.query::<String>(SERIALS).await, "1");
    app.silo.mount_app("app", 2);
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    // Also one that was still logging in with the old certificate just now.
    let end_old = "SELECT pg_terminate_backend(pid) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE datname = current_database() AND usename = 'app' AND client_serial = 1";
    eventually("only the renewed certificate is in use", async || {
        app.sql(end_old).await;
        let page = client.get("/").await;
        (page.status == StatusCode::OK && app.query::<String>(SERIALS).await == "2").then_some(())
    })
    .await;
}
