//! The way to the registry: who gets in, and what happens when it is not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use granary::registry::{
    Endpoint, Identity, Registry, RegistryError, RegistrySettings, Role, Stream, tenants,
};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::postgres::{Authority, Leaf, Postgres, VOLATILE, free_port};

/// What a caller may be made to wait while the registry is away.
const SOON: Duration = Duration::from_secs(6);

fn pem(authority: &Authority, leaf: &Leaf) -> Identity {
    Identity::Pem {
        ca: authority.pem(),
        certificate: leaf.certificate.clone(),
        key: leaf.key.clone().into(),
    }
}

fn tcp(port: u16) -> Endpoint {
    Endpoint::Tcp {
        host: "localhost".to_owned(),
        port,
    }
}

async fn error(settings: &RegistrySettings) -> RegistryError {
    let registry = Registry::connect(settings).unwrap();
    registry.acquire().await.map(drop).unwrap_err()
}

/// That the registry is away, in time, and why.
async fn away(settings: &RegistrySettings) -> String {
    let began = Instant::now();
    let error = error(settings).await;
    assert!(began.elapsed() < SOON, "{:?}: {error}", began.elapsed());
    assert!(
        matches!(error, RegistryError::Unavailable { .. }) && error.is_transient(),
        "{error:?}"
    );
    error.to_string()
}

#[tokio::test]
async fn each_role_gets_in_with_its_own_certificate() {
    let postgres = Postgres::shared();
    for role in [Role::Owner, Role::App, Role::Auditor] {
        let settings = postgres.settings("app", role);
        Registry::connect(&settings)
            .unwrap()
            .acquire()
            .await
            .unwrap();
    }
    for (role, certificate) in [
        (Role::Owner, "app"),
        (Role::App, "auditor"),
        (Role::Auditor, "app"),
    ] {
        let leaf = postgres.authority.client(certificate);
        let settings =
            RegistrySettings::new(tcp(postgres.port), role, pem(&postgres.authority, &leaf));
        let error = error(&settings).await;
        assert!(
            matches!(&error, RegistryError::Refused { reason } if reason.contains("certificate authentication failed")),
            "{error:?}"
        );
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn strangers_and_plain_text_are_refused() {
    let postgres = Postgres::shared();
    let (own, stranger) = (&postgres.authority, Authority::new());
    let settings = |identity| RegistrySettings::new(tcp(postgres.port), Role::App, identity);

    let wrong_authority = pem(&stranger, &own.client("app"));
    let reason = away(&settings(wrong_authority)).await;
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    let wrong_client = pem(own, &stranger.client("app"));
    let reason = away(&settings(wrong_client)).await;
    assert!(reason.contains("the connection broke"), "{reason}");

    // This project's own client cannot leave its certificate out; the library's can.
    let bare = PgConnectOptions::new_without_pgpass()
        .host("localhost")
        .port(postgres.port)
        .username("app")
        .database("app");
    let nameless = bare
        .clone()
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(own.pem().into_bytes());
    for (options, why) in [
        (nameless, "requires a valid client certificate"),
        (bare.ssl_mode(PgSslMode::Disable), "no encryption"),
    ] {
        let error = PgConnection::connect_with(&options)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn nothing_older_than_tls_13_is_spoken() {
    let old = [
        "ssl_min_protocol_version=TLSv1.2",
        "ssl_max_protocol_version=TLSv1.2",
    ];
    let postgres = Postgres::start(&[&VOLATILE[..], &old].concat());
    let reason = away(&postgres.settings("app", Role::App)).await;
    assert!(reason.contains("TLS with localhost"), "{reason}");
    // The positive control: an old client gets in there.
    let leaf = postgres.authority.client("app");
    let library = PgConnectOptions::new_without_pgpass()
        .host("localhost")
        .port(postgres.port)
        .username("app")
        .database("app")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(postgres.authority.pem().into_bytes())
        .ssl_client_cert_from_pem(&leaf.certificate)
        .ssl_client_key_from_pem(&leaf.key);
    PgConnection::connect_with(&library).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_is_away_is_an_error_soon_and_the_pool_recovers() {
    let mut postgres = Postgres::start(&VOLATILE);
    let database = postgres.database().await;
    let registry = postgres.registry(&database, Role::App);
    let mut transaction = registry.begin().await.unwrap();
    tenants::list(&mut transaction).await.unwrap();

    postgres.stop();
    let broken = tenants::list(&mut transaction).await.unwrap_err();
    assert!(broken.is_transient(), "{broken:?}");
    drop(transaction);
    for _ in 0..3 {
        let began = Instant::now();
        let error = registry.begin().await.map(drop).unwrap_err();
        assert!(
            matches!(error, RegistryError::Unavailable { .. }),
            "{error:?}"
        );
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }

    postgres.restart();
    let mut connection = registry.acquire().await.unwrap();
    tenants::list(&mut connection).await.unwrap();
    registry.check().await.unwrap();
}

#[tokio::test]
async fn a_port_that_does_not_answer_is_an_error_soon() {
    let postgres = Postgres::shared();
    let identity = || pem(&postgres.authority, &postgres.authority.client("app"));
    let settings = |port| RegistrySettings::new(tcp(port), Role::App, identity());
    let reason = away(&settings(free_port())).await;
    assert!(reason.contains("no connection to localhost"), "{reason}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reason = away(&settings(silent.local_addr().unwrap().port())).await;
    assert!(reason.contains("no answer"), "{reason}");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.read_exact(&mut [0; 8]).await.unwrap();
        stream.write_all(b"N").await.unwrap();
    });
    let reason = away(&settings(port)).await;
    assert!(reason.contains("does not offer TLS"), "{reason}");
}

#[tokio::test]
async fn a_connection_can_come_from_elsewhere() {
    let postgres = Postgres::shared();
    let port = postgres.port;
    let endpoint = |server_name: &str| Endpoint::Stream {
        server_name: server_name.to_owned(),
        dial: Arc::new(move || {
            async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                Ok(Box::new(stream) as Stream)
            }
            .boxed()
        }),
    };
    let identity = || pem(&postgres.authority, &postgres.authority.client("auditor"));
    let settings = RegistrySettings::new(endpoint("localhost"), Role::Auditor, identity());
    Registry::connect(&settings)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let settings = RegistrySettings::new(endpoint("elsewhere"), Role::Auditor, identity());
    let reason = away(&settings).await;
    assert!(reason.contains("not valid for name"), "{reason}");
}

#[tokio::test]
async fn certificates_are_read_anew_for_each_connection() {
    let postgres = Postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let install = |leaf: &Leaf| {
        std::fs::write(file("tls.crt"), &leaf.certificate).unwrap();
        std::fs::write(file("tls.key"), &leaf.key).unwrap();
    };
    let identity = Identity::Files {
        ca: file("ca.crt"),
        certificate: file("tls.crt"),
        key: file("tls.key"),
    };
    let settings = RegistrySettings::new(tcp(postgres.port), Role::App, identity);
    let registry = Registry::connect(&settings).unwrap();
    let reason = registry.acquire().await.map(drop).unwrap_err().to_string();
    assert!(
        reason.contains("cannot read") && reason.contains("ca.crt"),
        "{reason}"
    );
    std::fs::write(file("ca.crt"), postgres.authority.pem()).unwrap();
    install(&Authority::new().client("app"));
    assert!(registry.acquire().await.is_err());
    install(&postgres.authority.client("app"));
    registry.acquire().await.unwrap();
}

#[tokio::test]
async fn nobody_else_can_open_the_socket_and_it_goes_with_the_registry() {
    use std::os::unix::fs::PermissionsExt;
    let postgres = Postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = postgres.settings("app", Role::App);
    folder.path().clone_into(&mut settings.socket_dir);
    let registry = Registry::connect(&settings).unwrap();
    let inside = || {
        std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let socket = inside().next().unwrap();
    let mode = std::fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    registry.close().await;
    drop(registry);
    assert_eq!(inside().count(), 0);

    settings.socket_dir = folder.path().join("missing");
    let error = Registry::connect(&settings).unwrap_err();
    assert!(matches!(error, RegistryError::Socket { .. }), "{error}");
}
