//! Clients of the agent and of PostgreSQL.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

use super::pki::Leaf;
use super::pod::Pod;

/// What a client that wants TLS sends to PostgreSQL first.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

impl Pod<'_> {
    /// A request to the agent: status code and body.
    pub fn get(&self, path: &str, client: Option<&Leaf>) -> io::Result<(u16, String)> {
        let mut stream = self.tls(self.connect(self.agent_port)?, client)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let code = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((code, body.to_owned()))
    }

    /// The agent's `/status`, as the operator.
    pub fn status(&self) -> serde_json::Value {
        let (code, body) = self
            .get("/status", Some(&self.silo.authority.client("operator")))
            .unwrap();
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The certificate that the agent serves.
    pub fn agent_certificate(&self) -> CertificateDer<'static> {
        served(
            self.tls(self.connect(self.agent_port).unwrap(), None)
                .unwrap(),
        )
    }

    /// The certificate that PostgreSQL serves.
    pub fn postgres_certificate(&self) -> CertificateDer<'static> {
        served(self.tls(self.ask_for_tls(), None).unwrap())
    }

    /// A connection to PostgreSQL that was told to become TLS.
    pub fn ask_for_tls(&self) -> TcpStream {
        let mut stream = self.connect(self.port).unwrap();
        stream.write_all(&SSL_REQUEST).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"S");
        stream
    }

    /// A session of PostgreSQL over TLS, with everything verified.
    pub async fn session(&self, role: &str, client: &Leaf) -> Result<PgConnection, sqlx::Error> {
        let options = self.options(role).ssl_mode(PgSslMode::VerifyFull);
        let options = options.ssl_root_cert_from_pem(self.silo.authority.pem().into_bytes());
        let options = options
            .ssl_client_cert_from_pem(&client.certificate)
            .ssl_client_key_from_pem(&client.key);
        PgConnection::connect_with(&options).await
    }

    /// How to reach PostgreSQL, without TLS yet.
    pub fn options(&self, role: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .port(self.port)
            .username(role)
            .database("app")
            .ssl_mode(PgSslMode::Disable)
    }

    /// A plain connection.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(("localhost", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    fn tls(
        &self,
        mut stream: TcpStream,
        client: Option<&Leaf>,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.silo.authority.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let certificate =
                    CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        let mut connection =
            ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        connection.complete_io(&mut stream)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn served(stream: StreamOwned<ClientConnection, TcpStream>) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

/// First record that a TLS server answers with to a hello of this version alone: its type and, of an alert, its code.
/// Made by hand, because no library in this project can speak less than TLS 1.3.
pub fn answer_to_hello(mut stream: TcpStream, version: [u8; 2]) -> (u8, u8) {
    let extension = |kind: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        [&[0, kind, 0, length], content].concat()
    };
    let extensions = [
        extension(10, &[0, 2, 0, 23]),                 // group secp256r1
        extension(13, &[0, 4, 4, 3, 8, 4]),            // ECDSA with SHA-256, RSA-PSS
        extension(43, &[&[2], &version[..]].concat()), // versions offered
        extension(51, &[0, 0]),                        // no key yet: a willing server asks for one
    ]
    .concat();
    let suites: &[u8] = &[0, 4, 0x13, 0x01, 0xc0, 0x2b]; // AES-128-GCM, for TLS 1.3 and for TLS 1.2
    let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
    let body = [
        &[3, 3],
        &[7; 32][..],
        &[0],
        suites,
        &[1, 0],
        &length,
        &extensions,
    ]
    .concat();
    let handshake = [
        &[1, 0],
        &u16::try_from(body.len()).unwrap().to_be_bytes()[..],
        &body,
    ]
    .concat();
    let record = [
        &[22, 3, 1],
        &u16::try_from(handshake.len()).unwrap().to_be_bytes()[..],
        &handshake,
    ]
    .concat();
    stream.write_all(&record).unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    (answer[0], answer[6])
}
