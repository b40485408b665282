//! The HTTPS listener: accepts, serves and stops without cutting a request off.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ServeArgs;
use crate::database::Database;
use crate::keys::{self, Keyring};
use crate::readiness::Readiness;
use crate::reseal::Resealing;
use crate::tls;
use crate::vault::Vault;
use crate::web::{self, App};

/// Connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 512;
/// A client that takes longer over its TLS handshake is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes longer over the head of a request is dropped. Also how long an idle HTTP/1 connection is kept:
/// longer than gateways keep theirs (90 s is common), so that the app is not the one who hangs up on a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(100);
/// Running requests get this long to end after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the system could not accept a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The purpose of the keys that the app uses: their directory.
const KEYS: &str = "app";
/// The largest head of an HTTP/1 request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's own certificate cannot be used.
    #[error("cannot set TLS up")]
    Tls(#[source] tls::Error),
    /// Nothing could be prepared to reach the database with.
    #[error("cannot make the private socket to the database")]
    Database(#[source] io::Error),
    /// The port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A server that listens, but does not accept yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    args: ServeArgs,
    database: Arc<Database>,
    vault: Arc<Vault>,
}

impl Server {
    /// Reads the certificate and listens. Neither the database nor the keys are needed for it.
    pub async fn bind(args: &ServeArgs) -> Result<Self, Error> {
        Self::bind_looking(args, tls::CHECK_INTERVAL, keys::CHECK_INTERVAL).await
    }

    /// As [`Self::bind`], with other intervals between looks at the files of certificates and keys.
    pub async fn bind_looking(
        args: &ServeArgs,
        certificates: Duration,
        keys: Duration,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: args.listen,
            source,
        };
        // First of all, so that a probe that comes at once waits in the queue: one that finds nobody listening comes
        // back only after its period.
        let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
        let tls = tls::server_config(&args.tls_dir, certificates).map_err(Error::Tls)?;
        let keyring = Keyring::new(args.keys_dir.join(KEYS), keys);
        let database = Database::new(&args.database).map_err(Error::Database)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls: TlsAcceptor::from(Arc::new(tls)),
            args: args.clone(),
            database: Arc::new(database),
            vault: Arc::new(Vault::new(args.tenant_uid, keyring)),
        })
    }

    /// Where it listens; the port is the real one when 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled and the running requests are done.
    pub async fn run(self, stop: CancellationToken) {
        let pool = self.database.pool();
        let readiness = Arc::new(Readiness::new(
            pool.clone(),
            Arc::clone(&self.vault),
            stop.clone(),
        ));
        let prober = tokio::spawn({
            let (readiness, database) = (Arc::clone(&readiness), Arc::clone(&self.database));
            async move { readiness.probe(&database).await }
        });
        let resealing = Arc::new(Resealing::new(Arc::clone(&self.vault), pool.clone()));
        let resealer = tokio::spawn({
            let (resealing, readiness) = (Arc::clone(&resealing), Arc::clone(&readiness));
            let (database, stop) = (Arc::clone(&self.database), stop.clone());
            async move { resealing.run(&database, &readiness, stop).await }
        });
        let router = web::router(App::new(
            &self.args,
            pool.clone(),
            self.vault,
            readiness,
            resealing,
        ));
        tracing::info!(address = %self.address, "listening");

        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let serving =
                        serve_connection(stream, self.tls.clone(), router.clone(), stop.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(reason = %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }

        drop(self.listener);
        tracing::info!(
            connections = connections.len(),
            "stopping: finishing what runs"
        );
        connections.close();
        if timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "some requests did not end in time and are cut off"
            );
        }
        // Both end with `stop`; a panic in one was already reported.
        let _ = tokio::join!(prober, resealer);
        let _ = timeout(Duration::from_secs(1), pool.close()).await;
        tracing::info!("stopped");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn serve_connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small and should leave at once; a socket that cannot be told so still works.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(reason = %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!("TLS handshake took too long");
            return;
        }
    };
    // The protocol was agreed on in the handshake; nothing has to be guessed from the first bytes.
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_mins(1))
        .max_concurrent_streams(64);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(reason = %error, "connection ended early");
    }
}
