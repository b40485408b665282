//! The TLS connection to the registry, behind a private socket.
//!
//! The database library brings its own TLS, which accepts older versions, trusts every public authority besides the
//! registry's, asks for a key exchange that PostgreSQL answers with "try again", and cannot go through a port-forward.
//! So TLS is done here, and the library speaks plainly to a socket that only this user can open.

use std::error::Error;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::settings::{Endpoint, Identity, RegistrySettings, Role, Stream};
use super::tls::{self, TlsError};

/// The number in the socket's name.
pub(super) const PORT: u16 = 5432;

/// How long reaching the port may take: time for a packet that was lost to be sent again, once.
const REACH_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long the TLS handshake may take once the port is reached. Where the way is longer, the caller's patience counts.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the registry may leave a question without any answer: longer than any statement may take. A host that
/// vanishes does not close its connections.
const SILENCE: Duration = Duration::from_secs(15);

/// Asks PostgreSQL for TLS; it answers with one byte. The number is the protocol's.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// SQLSTATE for "cannot establish the connection" and for "the connection broke".
const CANNOT_CONNECT: &str = "08001";
const BROKE: &str = "08006";

/// Bytes that are carried at once.
const CHUNK: usize = 16 * 1024;

/// Why the registry could not be reached over TLS.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the certificates cannot be used")]
    Certificates(#[source] TlsError),
    #[error("no connection to {target}")]
    Unreachable {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("{target} does not offer TLS")]
    Plain { target: String },
    #[error("TLS with {target} failed")]
    Handshake {
        target: String,
        #[source]
        source: io::Error,
    },
}

/// A folder with the socket. Both go when it is dropped; connections that are open last until they are closed.
#[derive(Debug)]
pub(super) struct Tunnel {
    folder: PathBuf,
    _open: DropGuard,
}

/// Where connections go.
struct Target {
    endpoint: Endpoint,
    identity: Identity,
    handshake: Duration,
    /// `None` where statements may take their time.
    silence: Option<Duration>,
}

impl Tunnel {
    /// Opens the socket. Every connection to it becomes one to the registry, with the certificate files read anew.
    pub fn open(settings: &RegistrySettings) -> io::Result<Self> {
        let name = format!("granary-{}", Uuid::new_v4().simple());
        let folder = settings.socket_dir.join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        let open = CancellationToken::new();
        let closed = open.clone();
        let tunnel = Self {
            _open: open.drop_guard(),
            folder,
        };
        let listener = UnixListener::bind(tunnel.folder.join(format!(".s.PGSQL.{PORT}")))?;
        let target = Arc::new(Target {
            endpoint: settings.endpoint.clone(),
            identity: settings.identity.clone(),
            handshake: match settings.endpoint {
                Endpoint::Tcp { .. } => HANDSHAKE_TIMEOUT,
                Endpoint::Stream { .. } => settings.patience,
            },
            silence: (settings.role != Role::Owner).then_some(SILENCE),
        });
        tokio::spawn(async move { closed.run_until_cancelled(listen(&listener, &target)).await });
        Ok(tunnel)
    }

    /// Where the database library finds the socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // What cannot be removed is an empty socket without a listener.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn listen(listener: &UnixListener, target: &Arc<Target>) {
    loop {
        match listener.accept().await {
            Ok((local, _)) => {
                let target = Arc::clone(target);
                tokio::spawn(async move { carry(local, &target).await });
            }
            Err(error) => {
                tracing::warn!(reason = %error, "cannot open a connection to the registry");
                sleep(REACH_TIMEOUT).await;
            }
        }
    }
}

/// Carries one connection; why it cannot is told in the database's own protocol.
async fn carry(mut local: UnixStream, target: &Target) {
    let (code, reason) = match dial(target).await {
        Ok(remote) => match exchange(&mut local, remote, target.silence).await {
            Ok(()) => return,
            // With TLS 1.3 this is also how a refused client certificate shows.
            Err(error) => (BROKE, format!("the connection broke: {error}")),
        },
        Err(error) => {
            // The library expects its first message to be read.
            let _ = read_startup(&mut local).await;
            (CANNOT_CONNECT, chain(&error))
        }
    };
    // The library may have gone already.
    let _ = local.write_all(&error_response(code, &reason)).await;
}

/// Copies both ways until one side ends, or the registry leaves something unanswered for too long.
async fn exchange(
    local: &mut UnixStream,
    remote: TlsStream<Stream>,
    silence: Option<Duration>,
) -> io::Result<()> {
    let (mut from_local, mut to_local) = local.split();
    let (mut from_remote, mut to_remote) = tokio::io::split(remote);
    let (waiting, waits) = watch::channel(false);
    let asking = copy(&mut from_local, &mut to_remote, || {
        waiting.send_replace(true);
    });
    let answering = copy(&mut from_remote, &mut to_local, || {
        waiting.send_replace(false);
    });
    tokio::select! {
        ended = asking => ended,
        ended = answering => ended,
        () = unanswered(waits, silence) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", SILENCE.as_secs()),
        )),
    }
}

/// Copies until the end, and says of each piece that it was carried.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    carried: impl Fn(),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
        to.flush().await?;
        carried();
    }
}

/// Returns when something was asked and nothing at all came back for `silence`.
async fn unanswered(mut waits: watch::Receiver<bool>, silence: Option<Duration>) {
    let Some(silence) = silence else {
        return std::future::pending().await;
    };
    loop {
        if waits.wait_for(|waiting| *waiting).await.is_err() {
            return std::future::pending().await;
        }
        // A piece that came meanwhile starts the time anew.
        if timeout(silence, waits.changed()).await.is_err() {
            return;
        }
    }
}

async fn read_startup(local: &mut UnixStream) -> io::Result<()> {
    let length = local.read_u32().await?;
    let rest = u64::from(length.saturating_sub(4));
    tokio::io::copy(&mut local.take(rest), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn dial(target: &Target) -> Result<TlsStream<Stream>, DialError> {
    let place = || target.endpoint.to_string();
    let unreachable = |source| DialError::Unreachable {
        target: place(),
        source,
    };
    let failed = |source| DialError::Handshake {
        target: place(),
        source,
    };
    let config = tls::client_config(&target.identity).map_err(DialError::Certificates)?;
    let name = ServerName::try_from(target.endpoint.server_name().to_owned())
        .map_err(|error| failed(io::Error::other(error)))?;
    let mut stream = reach(&target.endpoint).await.map_err(unreachable)?;
    let securing = async {
        stream.write_all(&SSL_REQUEST).await?;
        if stream.read_u8().await? != b'S' {
            return Ok(None);
        }
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map(Some)
    };
    timeout(target.handshake, securing)
        .await
        .unwrap_or_else(|_| Err(no_answer()))
        .map_err(failed)?
        .ok_or_else(|| DialError::Plain { target: place() })
}

async fn reach(endpoint: &Endpoint) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let reaching = TcpStream::connect((host.as_str(), *port));
            let stream = timeout(REACH_TIMEOUT, reaching)
                .await
                .unwrap_or_else(|_| Err(no_answer()))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Endpoint::Stream { dial, .. } => dial().await,
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}

/// The error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A fatal error as PostgreSQL would send it.
fn error_response(code: &str, reason: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, value) in [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', code),
        (b'M', reason),
    ] {
        fields.push(kind);
        fields.extend(value.bytes().filter(|byte| *byte != 0));
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    [b"E", length.to_be_bytes().as_slice(), &fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(60);

    #[tokio::test]
    async fn only_an_open_question_without_any_answer_ends_a_connection() {
        let (waiting, waits) = watch::channel(false);
        let mut watching = tokio::spawn(unanswered(waits, Some(SHORT)));
        assert!(timeout(2 * SHORT, &mut watching).await.is_err(), "idle");
        for _ in 0..5 {
            waiting.send_replace(true);
            sleep(SHORT / 3).await;
            waiting.send_replace(false);
            waiting.send_replace(true);
        }
        assert!(!watching.is_finished(), "answers in pieces");
        waiting.send_replace(false);
        assert!(timeout(2 * SHORT, &mut watching).await.is_err(), "answered");
        waiting.send_replace(true);
        assert!(timeout(20 * SHORT, watching).await.is_ok(), "unanswered");
    }

    #[tokio::test]
    async fn where_statements_take_their_time_nothing_is_ended() {
        let (waiting, waits) = watch::channel(true);
        assert!(timeout(2 * SHORT, unanswered(waits, None)).await.is_err());
        drop(waiting);
    }

    #[test]
    fn a_reason_is_told_in_the_databases_own_protocol() {
        assert_eq!(
            error_response(CANNOT_CONNECT, "no\0pe"),
            b"E\0\0\0\x20SFATAL\0VFATAL\0C08001\0Mnope\0\0"
        );
    }
}
