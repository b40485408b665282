//! The TLS connection to the database, behind a private socket.
//!
//! The database library brings its own TLS, which accepts older versions, trusts every public authority besides the
//! silo's, asks for a key exchange that PostgreSQL answers with "try again", and lets small packets wait for each
//! other: two pauses of 40 ms a login. So TLS is done here, and the library speaks plainly to a socket that only this
//! user can open.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::config::DatabaseArgs;
use crate::logging::chain;
use crate::tls;

/// How long reaching the port may take: a packet lost while the network is still being set up must not cost the
/// whole second that TCP takes to send it again.
const REACH_TIMEOUT: Duration = Duration::from_millis(300);

/// How long the TLS handshake may take once the port is reached.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks PostgreSQL for TLS; it answers with one byte. The number is the protocol's.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// SQLSTATE for "cannot establish the connection".
const CANNOT_CONNECT: &str = "08001";

/// Why the database could not be reached over TLS.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the certificates cannot be used")]
    Certificates(#[source] tls::Error),
    #[error("cannot reach {target}")]
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

/// A directory with the socket; both go when it is dropped, and so do the connections.
#[derive(Debug)]
pub struct Tunnel {
    dir: PathBuf,
    _open: DropGuard,
}

impl Tunnel {
    /// Opens the socket. Every connection to it becomes one to the database, with the certificate files read anew.
    pub fn open(args: &DatabaseArgs) -> io::Result<Self> {
        let name = format!("tenant-template-{}", Uuid::new_v4().simple());
        let dir = args.socket_dir.join(name);
        DirBuilder::new().mode(0o700).create(&dir)?;
        let open = CancellationToken::new();
        let closed = open.clone();
        let tunnel = Self {
            _open: open.drop_guard(),
            dir,
        };
        let listener = UnixListener::bind(tunnel.dir.join(format!(".s.PGSQL.{}", args.port)))?;
        let args = Arc::new(args.clone());
        tokio::spawn(async move {
            closed
                .run_until_cancelled(listen(&listener, &args, &closed))
                .await;
        });
        Ok(tunnel)
    }

    /// Where the database library finds the socket.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // What cannot be removed is an empty socket without a listener.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn listen(listener: &UnixListener, args: &Arc<DatabaseArgs>, closed: &CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((local, _)) => {
                let (args, closed) = (Arc::clone(args), closed.clone());
                tokio::spawn(async move { closed.run_until_cancelled(carry(local, &args)).await });
            }
            Err(error) => {
                tracing::warn!(reason = %error, "cannot open a connection to the database");
                tokio::time::sleep(REACH_TIMEOUT).await;
            }
        }
    }
}

/// Carries one connection; why it cannot is told in the database's own protocol.
async fn carry(mut local: UnixStream, args: &DatabaseArgs) {
    let reason = match dial(args).await {
        Ok(mut remote) => match copy_bidirectional(&mut local, &mut remote).await {
            Ok(_) => return,
            // With TLS 1.3 this is also how a refused client certificate shows.
            Err(error) => format!("the connection to the database broke: {error}"),
        },
        Err(error) => {
            // The library expects its first message to be read.
            let _ = read_startup(&mut local).await;
            chain(&error)
        }
    };
    // The library may have gone already.
    let _ = local.write_all(&error_response(&reason)).await;
}

async fn read_startup(local: &mut UnixStream) -> io::Result<()> {
    let length = local.read_u32().await?;
    let rest = u64::from(length.saturating_sub(4));
    tokio::io::copy(&mut local.take(rest), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn dial(args: &DatabaseArgs) -> Result<TlsStream<TcpStream>, DialError> {
    let target = || format!("{}:{}", args.host, args.port);
    let unreachable = |source| DialError::Unreachable {
        target: target(),
        source,
    };
    let failed = |source| DialError::Handshake {
        target: target(),
        source,
    };
    let config =
        tls::client_config(&args.ca, &args.cert, &args.key).map_err(DialError::Certificates)?;
    let name =
        ServerName::try_from(args.host.clone()).map_err(|error| failed(io::Error::other(error)))?;
    let reaching = TcpStream::connect((args.host.as_str(), args.port));
    let mut stream = timeout(REACH_TIMEOUT, reaching)
        .await
        .unwrap_or_else(|_| Err(no_answer()))
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let securing = async {
        stream.write_all(&SSL_REQUEST).await?;
        if stream.read_u8().await? != b'S' {
            return Ok(None);
        }
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map(Some)
    };
    timeout(HANDSHAKE_TIMEOUT, securing)
        .await
        .unwrap_or_else(|_| Err(no_answer()))
        .map_err(failed)?
        .ok_or_else(|| DialError::Plain { target: target() })
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer yet")
}

/// A fatal error as PostgreSQL would send it.
fn error_response(reason: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, value) in [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', CANNOT_CONNECT),
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
