//! Which databases the app talks to: TLS 1.3, signed by the silo's authority, for the right name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tenant_template::config::DatabaseArgs;
use tenant_template::database::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::app::Silo;
use crate::certificates::{Authority, mount};
use crate::cluster::Cluster;

/// A port that answers the request for TLS with `answer` and, if that is yes, speaks `version` with a certificate of
/// the silo's authority. What comes after the handshake is `Some` first byte of the database protocol.
async fn fake(
    answer: u8,
    version: &'static SupportedProtocolVersion,
) -> (u16, tokio::task::JoinHandle<Option<u8>>) {
    let leaf = Cluster::shared().authority.server(&["localhost"]);
    let config = ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[version])
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(
            request,
            [0, 0, 0, 8, 4, 210, 22, 47],
            "nothing is said before TLS is asked for"
        );
        stream.write_all(&[answer]).await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await
            .ok()?;
        stream.read_u8().await.ok()
    });
    (port, served)
}

async fn refusal(args: &DatabaseArgs) -> String {
    Database::new(args)
        .unwrap()
        .connect()
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn only_tls_1_3_is_spoken_to_the_database() {
    let silo = Silo::new().await;
    let mut args = silo.serve_args().database;

    let (port, served) = fake(b'S', &rustls::version::TLS12).await;
    args.port = port;
    let reason = refusal(&args).await;
    assert!(
        reason.contains("TLS with localhost") && reason.contains("ProtocolVersion"),
        "{reason}"
    );
    assert_eq!(
        served.await.unwrap(),
        None,
        "nothing of the database protocol was sent"
    );

    let (port, served) = fake(b'N', &rustls::version::TLS13).await;
    args.port = port;
    assert!(refusal(&args).await.contains("does not offer TLS"));
    assert_eq!(served.await.unwrap(), None);

    let (port, served) = fake(b'S', &rustls::version::TLS13).await;
    args.port = port;
    let _ends_without_answer = Database::new(&args).unwrap().connect().await;
    assert_eq!(
        served.await.unwrap(),
        Some(0),
        "with TLS 1.3 the login is sent"
    );
}

#[tokio::test]
async fn only_the_silos_authority_and_the_right_name_are_trusted() {
    let silo = Silo::new().await;
    let args = silo.serve_args().database;
    Database::new(&args).unwrap().connect().await.unwrap();

    let mut other_name = args.clone();
    other_name.host = "127.0.0.1".to_owned();
    let reason = refusal(&other_name).await;
    assert!(reason.contains("not valid for name"), "{reason}");

    let client = Cluster::shared().authority.client("app", 5);
    let foreign = Authority::new();
    let mut files = [
        ("ca.crt", foreign.pem.as_str()),
        ("client.crt", &client.certificate),
        ("client.key", &client.key),
    ];
    mount(silo.mounted.path(), &files);
    let reason = refusal(&args).await;
    assert!(
        reason.contains("BadSignature") || reason.contains("UnknownIssuer"),
        "{reason}"
    );

    // A bundle with both, as while an authority is replaced.
    let both = format!("{}{}", foreign.pem, Cluster::shared().authority.pem);
    files[0].1 = &both;
    mount(silo.mounted.path(), &files);
    Database::new(&args).unwrap().connect().await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_refused_with_the_reason() {
    let silo = Silo::new().await;
    let args = silo.serve_args().database;
    let stranger = Authority::new().client("app", 6);
    let ca = &Cluster::shared().authority.pem;
    mount(
        silo.mounted.path(),
        &[
            ("ca.crt", ca),
            ("client.crt", &stranger.certificate),
            ("client.key", &stranger.key),
        ],
    );
    let reason = refusal(&args).await;
    assert!(
        reason.contains("the connection to the database broke") && reason.contains("alert"),
        "{reason}"
    );
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_its_database() {
    let silo = Silo::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut args = silo.serve_args().database;
    args.socket_dir = dir.path().to_owned();
    let database = Database::new(&args).unwrap();
    let mut connection = database.connect().await.unwrap();
    let made: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(made.len(), 1);
    assert_eq!(
        fs::metadata(&made[0]).unwrap().permissions().mode() & 0o777,
        0o700
    );
    drop(database);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let after = sqlx::query("SELECT 1").execute(&mut connection).await;
    assert!(after.is_err(), "its connections end with it");
}
