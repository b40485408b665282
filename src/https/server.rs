//! An HTTPS server: accepts, shakes hands, serves, and lets requests end when it is told to stop.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take for the TLS handshake or for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end; an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Common name of its certificate, which an authority of the server's configuration signed; `None` without one.
    pub common_name: Option<String>,
}

/// What is served, and how.
pub struct Server {
    /// Where connections come in.
    pub listener: TcpListener,
    /// TLS with the certificate, replaced when its files change.
    pub tls: Arc<ArcSwap<ServerConfig>>,
    /// What answers.
    pub router: Router,
    /// More clients than this wait their turn.
    pub connections: usize,
    /// More connections than this from one address are closed at once, so that nobody takes them all.
    pub per_address: usize,
}

/// How many connections each address has.
#[derive(Clone, Debug, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of an address; counted until it is dropped.
#[derive(Debug)]
struct Counted {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more, unless there are `most` already.
    fn count(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Listens on all addresses, on those of IPv4 alone where the machine has no IPv6.
///
/// # Errors
/// Where the port is taken or may not be used.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        listener => listener,
    }
}

impl Server {
    /// Serves until `stop`; then no connection is accepted any more, and it returns when the requests that run are
    /// answered.
    pub async fn serve(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.connections));
        let clients = TaskTracker::new();
        let addresses = Addresses::default();
        let accepting = async {
            while let Ok(slot) = slots.clone().acquire_owned().await {
                match self.listener.accept().await {
                    Ok((stream, address)) => {
                        let address = address.ip().to_canonical();
                        let Some(counted) = addresses.count(address, self.per_address) else {
                            tracing::debug!(%address, "a connection too many was closed");
                            continue;
                        };
                        let (tls, router) = (self.tls.load_full(), self.router.clone());
                        let stop = stop.clone();
                        clients.spawn(async move {
                            connection(stream, address, tls, router, stop).await;
                            drop((slot, counted));
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        let _ = stop.run_until_cancelled(accepting).await;
        clients.close();
        clients.wait().await;
    }
}

/// One client, from the handshake to its end. Failures are the client's: probes and scanners cause them daily.
async fn connection(
    stream: TcpStream,
    address: IpAddr,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(PATIENCE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let chain = stream.get_ref().1.peer_certificates();
    let peer = Peer {
        address,
        common_name: chain.and_then(|chain| common_name(chain.first()?)),
    };
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    // Two names would let two readers disagree about who this is.
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}
