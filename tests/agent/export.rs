//! The database handed out: sealed, whole, and to the operator alone.

use std::io::Read;
use std::time::Duration;

use granary::https::client::{client_config, download};
use http::{Request, StatusCode};
use http_body_util::Full;
use sqlx::Executor;

use super::pki::Leaf;
use super::pod::{Pod, Silo};

/// Longest wait for the next piece.
const PATIENCE: Duration = Duration::from_secs(30);

impl Pod<'_> {
    async fn export(&self, recipient: &str, client: &Leaf) -> (StatusCode, Vec<u8>) {
        let identity = Some((client.certificate.as_str(), client.key.as_str()));
        let tls = client_config(self.silo.authority.pem().as_bytes(), identity).unwrap();
        let request = Request::get(format!("/export?recipient={recipient}"))
            .header("host", "database")
            .body(Full::default())
            .unwrap();
        let address = format!("127.0.0.1:{}", self.agent_port);
        let mut download = download(tls, &address, "localhost", request, PATIENCE)
            .await
            .unwrap();
        let mut body = Vec::new();
        while let Some(piece) = download.piece().await.unwrap() {
            body.extend_from_slice(&piece);
        }
        (download.status, body)
    }
}

#[tokio::test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
async fn an_export_is_opened_by_its_recipient_alone() {
    let silo = Silo::new(24);
    let pod = silo.start();
    let operator = silo.authority.client("operator");
    let mut owner = pod
        .session("owner", &silo.authority.client("owner"))
        .await
        .unwrap();
    owner
        .execute("CREATE TABLE distinctive_ledger AS SELECT md5(n::text) FROM generate_series(1, 50000) n")
        .await
        .unwrap();

    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let (status, sealed) = pod.export(&recipient, &operator).await;
    assert_eq!(status, StatusCode::OK);
    assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
    let opened = |identity: &age::x25519::Identity| {
        let decryptor = age::Decryptor::new(&sealed[..]).unwrap();
        let mut reader = decryptor.decrypt(std::iter::once(identity as _)).ok()?;
        let mut dump = Vec::new();
        reader.read_to_end(&mut dump).unwrap();
        Some(dump)
    };
    let dump = opened(&identity).expect("its recipient opens it");
    assert!(dump.starts_with(b"PGDMP"));
    let has_name = |bytes: &[u8]| {
        bytes
            .windows(18)
            .any(|window| window == b"distinctive_ledger")
    };
    assert!(has_name(&dump) && !has_name(&sealed));
    assert!(opened(&age::x25519::Identity::generate()).is_none());

    let (status, _) = pod.export("age1nobody", &operator).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = pod.export(&recipient, &silo.authority.client("app")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, again) = pod.export(&recipient, &operator).await;
    assert_eq!(status, StatusCode::OK, "one after the other is fine");
    assert_ne!(again, sealed, "sealed with another file key");
}

#[tokio::test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
async fn an_export_that_fails_on_the_way_is_not_taken_for_a_whole_one() {
    let silo = Silo::new(25);
    let pod = silo.start();
    let mut owner = pod
        .session("owner", &silo.authority.client("owner"))
        .await
        .unwrap();
    // What pg_dump waits for, and gives up when it is ended.
    owner
        .execute("CREATE TABLE locked (x int); BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let identity = age::x25519::Identity::generate();
    let operator = silo.authority.client("operator");
    let keys = Some((operator.certificate.as_str(), operator.key.as_str()));
    let tls = client_config(silo.authority.pem().as_bytes(), keys).unwrap();
    let request = Request::get(format!("/export?recipient={}", identity.to_public()))
        .header("host", "database")
        .body(Full::default())
        .unwrap();
    let address = format!("127.0.0.1:{}", pod.agent_port);
    let mut download = download(tls, &address, "localhost", request, PATIENCE)
        .await
        .unwrap();
    let dump = super::pod::wait_for(|| {
        let found = pod.processes("pg_dump");
        found.first().copied().ok_or_else(|| pod.log())
    });
    nix::sys::signal::kill(dump, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = loop {
        match download.piece().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert!(ended.is_err(), "{ended:?}");
    assert!(pod.log().contains("an export failed"), "{}", pod.log());
}
