//! Asks for one tenant's page over one kept connection until it answers 200.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(10);

/// A browser that knows the way to the gateway.
#[derive(Clone)]
pub struct Browser {
    gateway: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Browser {
    /// A browser that trusts the authority in this file.
    pub fn new(gateway: SocketAddr, ca: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)
            .with_context(|| format!("cannot read {}", ca.display()))?
        {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            gateway,
            tls: Arc::new(tls),
        })
    }

    /// Waits until `https://host:port/` answers 200 and returns when that was.
    pub async fn until_served(&self, host: &str, limit: Duration) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(served) = self.look(host, deadline).await {
                return Ok(served);
            }
            if Instant::now() > deadline {
                bail!("https://{host} did not answer 200 within {limit:?}");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks over one connection until the page is served, the connection breaks or the time is over.
    async fn look(&self, host: &str, deadline: Instant) -> Result<Instant> {
        let stream = TcpStream::connect(self.gateway).await?;
        stream.set_nodelay(true)?;
        let tls = TlsConnector::from(self.tls.clone())
            .connect(ServerName::try_from(host.to_owned())?, stream)
            .await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        let connection = tokio::spawn(connection);
        while Instant::now() < deadline {
            let request = Request::get("/")
                .header("host", format!("{host}:{}", self.gateway.port()))
                .body(Empty::<Bytes>::new())?;
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            if status == 200 {
                connection.abort();
                return Ok(Instant::now());
            }
            tokio::time::sleep(EVERY).await;
        }
        bail!("time is over")
    }
}
