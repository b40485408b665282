//! Between a client and moto: an AWS account for each test, a record of what was asked, and faults on order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::moto;
use super::tls::Authority;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this status and AWS error code, without reaching the KMS.
    Refused(u16, &'static str),
    /// Never answered, without reaching the KMS.
    Silence,
    /// Carried out, and the connection ends before the answer.
    LostAnswer,
    /// Carried out, and answered with the last byte missing.
    CutAnswer,
}

/// AWS's way of throttling.
pub const THROTTLED: Fault = Fault::Refused(400, "ThrottlingException");
/// AWS's way of denying.
pub const DENIED: Fault = Fault::Refused(400, "AccessDeniedException");
/// A service that is not well.
pub const UNWELL: Fault = Fault::Refused(503, "ServiceUnavailable");

/// A fault on order.
struct Order {
    operation: &'static str,
    /// What the request has to contain, such as a key's id.
    about: String,
    fault: Fault,
    left: u32,
}

#[derive(Default)]
struct State {
    asked: Vec<String>,
    orders: Vec<Order>,
}

/// A proxy of its own for each test.
pub struct Proxy {
    url: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// Listens for the test's client, and sends what it asks to moto as requests of `account`.
    pub async fn start(account: &str) -> Self {
        Self::listen(account, None).await
    }

    /// The same over TLS, with a certificate of this authority.
    pub async fn start_tls(account: &str, authority: &Authority) -> Self {
        Self::listen(account, Some(authority.acceptor())).await
    }

    async fn listen(account: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(Mutex::new(State::default()));
        let upstream = Upstream {
            client: Client::builder(TokioExecutor::new()).build_http(),
            moto: moto::address(),
            account: account.to_owned(),
            state: Arc::clone(&state),
        };
        let server = tokio::spawn(async move {
            // Connections end with the listener.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (upstream, tls) = (upstream.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => upstream.converse(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                upstream.converse(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            url: format!("{scheme}://{address}"),
            state,
            server,
        }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Orders a fault for the next `times` requests of this operation whose body contains `about`.
    pub fn order(&self, operation: &'static str, about: &str, fault: Fault, times: u32) {
        self.state.lock().unwrap().orders.push(Order {
            operation,
            about: about.to_owned(),
            fault,
            left: times,
        });
    }

    /// Takes back all orders.
    pub fn heal(&self) {
        self.state.lock().unwrap().orders.clear();
    }

    /// What was asked since the last look, in order: names of operations.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Stops listening, as a KMS that is not there.
    pub async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    moto: SocketAddr,
    account: String,
    state: Arc<Mutex<State>>,
}

/// The connection is to end without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer, on order")]
struct NoAnswer;

impl Upstream {
    /// Answers what comes over one connection.
    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| self.serve(request));
        // A connection that ends in the middle is what some tests want.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
        let target = head.headers["x-amz-target"].to_str().unwrap();
        let operation = target.rsplit('.').next().unwrap().to_owned();
        match self.fault(&operation, &String::from_utf8_lossy(&body)) {
            None => Ok(self.forward(head, body).await),
            Some(Fault::Refused(status, code)) => Ok(refusal(status, code)),
            Some(Fault::Silence) => match std::future::pending::<Infallible>().await {},
            Some(Fault::LostAnswer) => {
                self.forward(head, body).await;
                Err(NoAnswer)
            }
            Some(Fault::CutAnswer) => {
                let (mut head, body) = self.forward(head, body).await.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                head.headers.remove("content-length");
                Ok(Response::from_parts(
                    head,
                    Full::new(body.slice(..body.len() - 1)),
                ))
            }
        }
    }

    /// Takes a note of the request, and the fault that was ordered for it.
    fn fault(&self, operation: &str, body: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.asked.push(operation.to_owned());
        let order = state.orders.iter_mut().find(|order| {
            order.left > 0 && order.operation == operation && body.contains(&order.about)
        })?;
        order.left -= 1;
        Some(order.fault)
    }

    async fn forward(&self, head: http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        let mut request = Request::from_parts(head, Full::new(body));
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(self.moto.to_string())
            .path_and_query("/")
            .build()
            .unwrap();
        request
            .headers_mut()
            .insert("x-moto-account-id", self.account.parse().unwrap());
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(head, Full::new(body))
    }
}

fn refusal(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"__type": code, "message": "on order"}).to_string();
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Full::new(body.into()))
        .unwrap()
}
