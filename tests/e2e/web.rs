//! A browser's part: HTTPS through the gateway, and the forms of the tenant app's page.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, pki_types::ServerName,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::eventually;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer, and over what it came.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: String,
    pub protocol: Option<ProtocolVersion>,
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn trust(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let file = std::env::var("GRANARY_CA").expect("GRANARY_CA names the gateway's authority");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).expect("GRANARY_CA can be read") {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let config = ClientConfig::builder_with_protocol_versions(versions);
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// `GET https://{host}{path}`; `host` may have a port, which is only said.
pub async fn get(host: &str, path: &str) -> Result<Answer, String> {
    let request = Request::get(path).header(header::HOST, host);
    send(host, request.body(Full::default()).expect("a request")).await
}

/// Sends a request over TLS under this server name.
pub async fn send(server_name: &str, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    tokio::time::timeout(PATIENCE, exchange(server_name, &[&TLS13], request))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

/// Whether the gateway completes a handshake of TLS 1.2.
pub async fn speaks_tls_12(host: &str) -> bool {
    let request = Request::get("/").header(header::HOST, host);
    let request = request.body(Full::default()).expect("a request");
    exchange(host, &[&TLS12], request).await.is_ok()
}

async fn exchange(
    server_name: &str,
    versions: &[&'static SupportedProtocolVersion],
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let name = server_name.split(':').next().unwrap_or_default().to_owned();
    let address = setting("GRANARY_GATEWAY", "127.0.0.1:8443");
    let tcp = TcpStream::connect(&address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let tls = TlsConnector::from(trust(versions))
        .connect(ServerName::try_from(name).expect("a name"), tcp)
        .await
        .map_err(|error| format!("TLS: {error}"))?;
    let protocol = tls.get_ref().1.protocol_version();
    let answer = converse(TokioIo::new(tls), request).await?;
    Ok(Answer { protocol, ..answer })
}

/// `GET http://{host}{path}`, without TLS.
pub async fn get_plain(host: &str, path: &str) -> Result<Answer, String> {
    let address = setting("GRANARY_GATEWAY_HTTP", "127.0.0.1:8080");
    let tcp = TcpStream::connect(&address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let request = Request::get(path).header(header::HOST, host);
    converse(
        TokioIo::new(tcp),
        request.body(Full::default()).expect("a request"),
    )
    .await
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            protocol: None,
        })
    }
    .await
    .map_err(|error| error.to_string());
    connection.abort();
    answer
}

/// Enters an expense in a tenant's book, as a browser does, and again if the app asks for patience.
pub async fn add_entry(host: &str, description: &str) {
    eventually(&format!("{host} takes an entry"), async || {
        let Ok(page) = get(host, "/").await else {
            return false;
        };
        if page.status == StatusCode::SERVICE_UNAVAILABLE {
            return false;
        }
        let answer = send_entry(host, &page, description).await;
        assert!(
            answer.status.is_redirection() || answer.status == StatusCode::SERVICE_UNAVAILABLE,
            "{answer:?}"
        );
        answer.status.is_redirection()
    })
    .await;
}

/// Sends the form of `page` as an expense.
pub async fn send_entry(host: &str, page: &Answer, description: &str) -> Answer {
    let cookie = page.headers[header::SET_COOKIE]
        .to_str()
        .expect("text")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let hidden = |name: &str| {
        let (_, rest) = page
            .body
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap_or_else(|| panic!("no field {name} in {}", page.body));
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let form = format!(
        "csrf={}&request={}&kind=expense&amount=12.34&date={}&description={description}",
        hidden("csrf"),
        hidden("request"),
        hidden_date(&page.body),
    );
    let request = Request::post("/entries")
        .header(header::HOST, host)
        .header(header::ORIGIN, format!("https://{host}"))
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .expect("a request");
    send(host, request).await.expect("an answer")
}

/// The day that the page's own form proposes.
fn hidden_date(page: &str) -> &str {
    let (_, field) = page.split_once("name=\"date\"").expect("a date field");
    let (_, value) = field.split_once("value=\"").expect("its value");
    value.split('"').next().unwrap_or_default()
}
