//! Looking at a page the way a browser would: TLS 1.3, certificate checked, by the
//! page's own name, at an address of our choice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a page may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A URL's parts, as far as pages here need them.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// Gets `https://…` and returns the status, from the server at `address` (`host:port`), whose certificate
/// must be signed by the authority in the file `ca`.
pub fn status(url: &str, address: &str, ca: &Path) -> Result<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, fetch(url, address, ca))
            .await
            .with_context(|| format!("{url} did not answer within {} s", LIMIT.as_secs()))?
            .with_context(|| format!("{url} (at {address})"))
    })
}

async fn fetch(url: &str, address: &str, ca: &Path) -> Result<u16> {
    let parts = parts(url)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)
        .with_context(|| format!("cannot read {}", ca.display()))?
    {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(parts.host.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let host = if parts.port == 443 {
        parts.host.to_owned()
    } else {
        format!("{}:{}", parts.host, parts.port)
    };
    let request = hyper::Request::get(parts.path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    connection.abort();
    Ok(status)
}

fn parts(url: &str) -> Result<Parts<'_>> {
    let Some(rest) = url.strip_prefix("https://") else {
        bail!("{url} is not an https URL")
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    Ok(Parts {
        host,
        port: port.parse().with_context(|| format!("the port in {url}"))?,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(
            parts("https://a.b:8443/x").unwrap(),
            Parts {
                host: "a.b",
                port: 8443,
                path: "/x"
            }
        );
        assert_eq!(
            parts("https://a.b").unwrap(),
            Parts {
                host: "a.b",
                port: 443,
                path: "/"
            }
        );
        assert!(parts("http://a.b").is_err());
        assert!(parts("https://a.b:x").is_err());
    }
}
