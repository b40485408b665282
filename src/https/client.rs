//! One request over TLS 1.3, to an address of our choosing and under a name of our choosing.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

/// Longest answer that is read, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing listens there, or it hung up.
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    /// The peer does not speak HTTP properly.
    #[error("HTTP: {0}")]
    Http(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The host name or the request could not be formed.
    #[error("{0} cannot be asked for")]
    Request(String),
}

/// What to get, from where.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` to connect to.
    pub address: String,
    /// Name in SNI and in the certificate.
    pub server_name: String,
    /// `Host` header.
    pub host: String,
    /// Path and query.
    pub path: &'static str,
}

/// GETs `target` within `limit`.
///
/// # Errors
/// See [`FetchError`]; any status is an answer.
pub async fn get(
    config: Arc<ClientConfig>,
    target: &Target,
    limit: Duration,
) -> Result<(StatusCode, Bytes), FetchError> {
    let request = Request::get(target.path)
        .header(header::HOST, &target.host)
        .header(header::USER_AGENT, "granary-operator")
        .body(Full::default())
        .map_err(|_| FetchError::Request(target.host.clone()))?;
    send(config, &target.address, &target.server_name, request, limit).await
}

/// Sends `request` on a connection of its own to `address` (`host:port`), whose certificate has to be for
/// `server_name`, and reads the answer, all within `limit`.
///
/// # Errors
/// See [`FetchError`]; any status is an answer.
pub async fn send(
    config: Arc<ClientConfig>,
    address: &str,
    server_name: &str,
    request: Request<Full<Bytes>>,
    limit: Duration,
) -> Result<(StatusCode, Bytes), FetchError> {
    tokio::time::timeout(limit, exchange(config, address, server_name, request))
        .await
        .unwrap_or(Err(FetchError::TimedOut(limit)))
}

/// An answer that is read piece by piece.
pub struct Download {
    /// What the server answered.
    pub status: StatusCode,
    body: Incoming,
    limit: Duration,
    /// Ends with the download.
    _connection: AbortOnDropHandle<()>,
}

impl Download {
    /// The next piece; none after the last. Each may take as long as the whole head of the answer.
    ///
    /// # Errors
    /// Where the answer is cut short or nothing more comes: what was read is then not the whole.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = tokio::time::timeout(self.limit, self.body.frame())
                .await
                .map_err(|_| FetchError::TimedOut(self.limit))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(FetchError::Http(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Sends `request` like [`send`], for an answer of any length. `limit` is for its head, and then for each piece.
///
/// # Errors
/// See [`FetchError`]; any status is an answer.
pub async fn download(
    config: Arc<ClientConfig>,
    address: &str,
    server_name: &str,
    request: Request<Full<Bytes>>,
    limit: Duration,
) -> Result<Download, FetchError> {
    let begin = async {
        let (mut sender, connection) = connect(config, address, server_name).await?;
        let connection = tokio::spawn(async move {
            // Its failure is that of the body.
            let _ = connection.await;
        });
        let connection = AbortOnDropHandle::new(connection);
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| FetchError::Http(error.to_string()))?;
        Ok(Download {
            status: answer.status(),
            body: answer.into_body(),
            limit,
            _connection: connection,
        })
    };
    tokio::time::timeout(limit, begin)
        .await
        .unwrap_or(Err(FetchError::TimedOut(limit)))
}

type Tls = TokioIo<TlsStream<TcpStream>>;

async fn connect(
    config: Arc<ClientConfig>,
    address: &str,
    server_name: &str,
) -> Result<
    (
        SendRequest<Full<Bytes>>,
        http1::Connection<Tls, Full<Bytes>>,
    ),
    FetchError,
> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| FetchError::Request(server_name.to_owned()))?;
    let tcp = TcpStream::connect(address)
        .await
        .map_err(FetchError::Connect)?;
    let tls = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(FetchError::Tls)?;
    http1::handshake(TokioIo::new(tls))
        .await
        .map_err(|error| FetchError::Http(error.to_string()))
}

async fn exchange(
    config: Arc<ClientConfig>,
    address: &str,
    server_name: &str,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), FetchError> {
    let (mut sender, connection) = connect(config, address, server_name).await?;
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| FetchError::Http(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map_err(|error| FetchError::Http(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

/// TLS 1.3 for a client that trusts the authorities in `roots_pem` and shows `identity`, a chain and a key in PEM.
///
/// # Errors
/// Where the PEM holds no usable certificate or key.
pub fn client_config(
    roots_pem: &[u8],
    identity: Option<(&str, &str)>,
) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots_pem) {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots);
    let config = match identity {
        Some((chain, key)) => {
            let chain =
                CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}
