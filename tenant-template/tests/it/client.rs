//! A browser of few abilities: TLS 1.3 (or what is asked for), one cookie, forms.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::app::{HOST, URL};

pub struct Client {
    address: SocketAddr,
    authority: String,
    cookie: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Client {
    pub fn new(address: SocketAddr, authority: &str) -> Self {
        Self {
            address,
            authority: authority.to_owned(),
            cookie: None,
        }
    }

    pub async fn handshake(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.negotiate(versions, &[]).await
    }

    /// A handshake that offers the protocols `alpn`.
    async fn negotiate(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    /// Sends a request over its own connection. `Host` is the tenant's unless the request has one.
    pub async fn send(&mut self, mut request: Request<Body>) -> Answer {
        let stream = self.handshake(&[&rustls::version::TLS13]).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let headers = request.headers_mut();
        headers.entry(header::HOST).or_insert(HOST.parse().unwrap());
        if let Some(cookie) = &self.cookie {
            headers.insert(header::COOKIE, cookie.parse().unwrap());
        }
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        if let Some(cookie) = parts.headers.get(header::SET_COOKIE) {
            self.cookie = cookie
                .to_str()
                .unwrap()
                .split(';')
                .next()
                .map(str::to_owned);
        }
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Asks for the book over HTTP/2, as gateways do.
    pub async fn get_http2(&self, url: &str) -> StatusCode {
        let stream = self
            .negotiate(&[&rustls::version::TLS13], &[b"h2"])
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = Request::get(url).body(Body::empty()).unwrap();
        sender.send_request(request).await.unwrap().status()
    }

    /// Asks as those do who come by the Service and not by the gateway.
    pub async fn get_inside(&mut self, path: &str) -> Answer {
        let request = Request::get(path).header(header::HOST, "app");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub async fn request(&mut self, method: Method, path: &str) -> Answer {
        self.send(
            Request::builder()
                .method(method)
                .uri(path)
                .header(header::ORIGIN, URL)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    /// Sends a form from our own origin.
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.post_from(Some(URL), path, form).await
    }

    pub async fn post_from(
        &mut self,
        origin: Option<&str>,
        path: &str,
        form: &[(&str, &str)],
    ) -> Answer {
        let mut request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let body: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        self.send(request.body(body.join("&").into()).unwrap())
            .await
    }

    /// Opens the book, fills its form and sends it.
    pub async fn add(&mut self, kind: &str, amount: &str, date: &str, description: &str) -> Answer {
        let page = self.get("/").await;
        let (csrf, request) = (page.hidden("csrf"), page.hidden("request"));
        let form = [
            ("csrf", csrf.as_str()),
            ("request", &request),
            ("kind", kind),
            ("amount", amount),
            ("date", date),
            ("description", description),
        ];
        self.post("/entries", &form).await
    }

    pub fn forget_cookie(&mut self) {
        self.cookie = None;
    }
}

impl Answer {
    /// The value of a hidden field.
    pub fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) = self
            .body
            .split_once(&start)
            .unwrap_or_else(|| panic!("no field {name} in:\n{}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }

    pub fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The text of the page without its tags, blanks collapsed.
    pub fn text(&self) -> String {
        let text: String = self
            .body
            .split('<')
            .map(|part| part.split_once('>').map_or(part, |(_, text)| text))
            .collect::<Vec<_>>()
            .join(" ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn encode(value: &str) -> String {
    value
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
