//! Who may talk to a silo's database, and what they may do there.
//!
//! The database is reached through the kubelet, past the network policies, so that it has to defend itself.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection, Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::plane::shared;
use crate::silo::{Forward, Silo};
use crate::support::{cleaning_up, client, unique};

/// What a client that wants TLS sends to PostgreSQL first.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A role's certificate: chain and key.
pub struct Identity {
    chain: String,
    key: String,
}

impl Identity {
    /// The certificate in one of the silo's Secrets: `app-tls` has that of role `app`, `migrate-tls` that of `owner`.
    pub async fn of(silo: &Silo, secret: &str) -> Self {
        let mut data = silo.secret(secret).await;
        Self {
            chain: data.remove("client.crt").expect("a certificate"),
            key: data.remove("client.key").expect("a key"),
        }
    }
}

/// A way to the silo's database, with what its authority is.
pub struct Database {
    forward: Forward,
    bundle: String,
}

impl Database {
    pub async fn of(silo: &Silo) -> Self {
        Self {
            forward: silo.forward("database-0", 5432).await,
            bundle: silo
                .secret("app-tls")
                .await
                .remove("ca.crt")
                .expect("a bundle"),
        }
    }

    fn options(&self, role: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .port(self.forward.address.port())
            .database("app")
            .username(role)
            .ssl_root_cert_from_pem(self.bundle.clone().into_bytes())
    }

    /// A session over TLS with everything verified.
    pub async fn session(
        &self,
        role: &str,
        identity: Option<&Identity>,
    ) -> Result<PgConnection, sqlx::Error> {
        let mut options = self.options(role).ssl_mode(PgSslMode::VerifyFull);
        if let Some(Identity { chain, key }) = identity {
            options = options
                .ssl_client_cert_from_pem(chain)
                .ssl_client_key_from_pem(key);
        }
        PgConnection::connect_with(&options).await
    }

    /// The certificate that PostgreSQL serves over this version of TLS.
    pub async fn certificate(
        &self,
        version: &'static SupportedProtocolVersion,
    ) -> Result<CertificateDer<'static>, std::io::Error> {
        let mut stream = TcpStream::connect(self.forward.address).await?;
        stream.write_all(&SSL_REQUEST).await?;
        assert_eq!(stream.read_u8().await?, b'S');
        served(stream, &self.bundle, "database", version, None).await
    }
}

/// The certificate that the other end of `stream` serves.
pub async fn served(
    stream: TcpStream,
    bundle: &str,
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    identity: Option<&Identity>,
) -> Result<CertificateDer<'static>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let config =
        ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
    let config = match identity {
        Some(Identity { chain, key }) => config
            .with_client_auth_cert(
                CertificateDer::pem_slice_iter(chain.as_bytes())
                    .map(|certificate| certificate.expect("PEM"))
                    .collect(),
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
            )
            .expect("an identity"),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from(name).expect("a name");
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let chain = tls.get_ref().1.peer_certificates().expect("a chain");
    Ok(chain[0].clone().into_owned())
}

#[tokio::test]
async fn only_the_silos_own_certificates_open_its_database() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("door");
    cleaning_up(&client, &test, async {
        let (silo, other) = Silo::onboard_two(&client, &test, "door").await;
        let (app, owner) = (
            Identity::of(&silo, "app-tls").await,
            Identity::of(&silo, "migrate-tls").await,
        );
        let stranger = Identity::of(&other, "app-tls").await;
        let database = Database::of(&silo).await;

        database.session("app", Some(&app)).await.expect("the app");
        database
            .session("owner", Some(&owner))
            .await
            .expect("the migration");
        let elsewhere = Database::of(&other).await;
        elsewhere
            .session("app", Some(&stranger))
            .await
            .expect("the other silo's app at home");

        for (role, identity, why) in [
            ("app", Some(&stranger), ""),
            ("app", Some(&owner), "certificate authentication failed"),
            ("owner", Some(&app), "certificate authentication failed"),
            ("postgres", Some(&owner), "no pg_hba.conf entry"),
            ("app", None, "requires a valid client certificate"),
        ] {
            let refused = database.session(role, identity).await;
            let error = refused.expect_err(role).to_string();
            assert!(error.contains(why), "{role}: {error}");
        }
        let plain = database.options("app").ssl_mode(PgSslMode::Disable);
        let error = PgConnection::connect_with(&plain)
            .await
            .expect_err("plaintext")
            .to_string();
        assert!(error.contains("no encryption"), "{error}");
        database.certificate(&TLS13).await.expect("TLS 1.3");
        let error = database
            .certificate(&TLS12)
            .await
            .expect_err("TLS 1.2")
            .to_string();
        assert!(error.contains("ProtocolVersion"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_app_changes_rows_and_nothing_else() {
    const IDENTITY: &str = "SELECT system_identifier::text FROM pg_control_system()";
    let _plane = shared().await;
    let client = client().await;
    let test = unique("role");
    cleaning_up(&client, &test, async {
        let (silo, other) = Silo::onboard_two(&client, &test, "role").await;
        let app = Identity::of(&silo, "app-tls").await;
        let database = Database::of(&silo).await;
        let mut session = database.session("app", Some(&app)).await.unwrap();

        let tables: Vec<String> =
            sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                .fetch_all(&mut session)
                .await
                .unwrap();
        let table = tables
            .iter()
            .find(|table| !table.starts_with('_'))
            .expect("the migration made a table");
        for (forbidden, why) in [
            ("CREATE TABLE mine (id int)".to_owned(), "permission denied"),
            (format!("DROP TABLE {table}"), "must be owner"),
            (format!("ALTER TABLE {table} ADD COLUMN mine int"), "must be owner"),
            (format!("TRUNCATE {table}"), "permission denied"),
            ("CREATE ROLE mine SUPERUSER".to_owned(), "permission denied"),
            ("SET ROLE owner".to_owned(), "permission denied"),
            ("SET ROLE postgres".to_owned(), "permission denied"),
            (format!("COPY {table} TO PROGRAM 'cat'"), "permission denied"),
            ("SELECT pg_read_file('/run/granary/tls/tls.key')".to_owned(), "permission denied"),
        ] {
            let forbidden = sqlx::AssertSqlSafe(forbidden);
            let said = forbidden.0.clone();
            let error = session.execute(forbidden).await.expect_err(&said).to_string();
            assert!(error.contains(why), "{said}: {error}");
        }
        session.execute(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"))).await.expect("rows");

        let powers: bool = sqlx::query_scalar(
            "SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls) \
             FROM pg_roles WHERE rolname IN ('app', 'owner')",
        )
        .fetch_one(&mut session)
        .await
        .unwrap();
        assert!(!powers, "a role that is reached over the network has powers");
        let checksums: String =
            sqlx::query_scalar("SHOW data_checksums").fetch_one(&mut session).await.unwrap();
        assert_eq!(checksums, "on");

        let other_database = Database::of(&other).await;
        let other_app = Identity::of(&other, "app-tls").await;
        let mut other_session = other_database.session("app", Some(&other_app)).await.unwrap();
        let one: String = sqlx::query_scalar(IDENTITY).fetch_one(&mut session).await.unwrap();
        let two: String = sqlx::query_scalar(IDENTITY).fetch_one(&mut other_session).await.unwrap();
        assert_ne!(one, two, "two databases are copies of one another");
    })
    .await;
}
