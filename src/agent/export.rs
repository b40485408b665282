//! The tenant's whole database, handed out sealed: `pg_dump` through age (<https://age-encryption.org/v1>), so that nothing
//! leaves this pod in the clear. Whoever has the recipient's identity opens it; the operator, which fetches it, cannot.
//!
//! What the app has encrypted with the tenant's key stays encrypted inside.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use age::x25519::Recipient;
use axum::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::DatabaseArgs;
use super::children::Children;

/// Sealed pieces on their way to the client; more wait in `pg_dump`.
const IN_FLIGHT: usize = 8;

/// Bytes of one piece.
const PIECE: usize = 64 * 1024;

/// Why there is no export, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The recipient is not an X25519 recipient of age.
    #[error("{0:?} is no recipient of age: write it as age1…, the way age-keygen prints it")]
    Recipient(String),
    /// One at a time: each reads the whole database.
    #[error("another export is running")]
    Busy,
    /// `pg_dump` could not be started.
    #[error("pg_dump cannot be started")]
    Start(#[source] io::Error),
    /// It could not be sealed or handed over.
    #[error("the export was cut short")]
    Sealing(#[source] io::Error),
    /// `pg_dump` failed.
    #[error("pg_dump failed ({0})")]
    Failed(ExitStatus),
    /// Nobody knows how `pg_dump` ended.
    #[error("the end of pg_dump was not seen")]
    Unknown,
}

/// Makes exports of one database.
#[derive(Clone, Debug)]
pub struct Exporter {
    pg_dump: PathBuf,
    run_dir: PathBuf,
    port: u16,
    children: Children,
    running: Arc<Semaphore>,
}

impl Exporter {
    /// Of the database whose socket is in the run folder.
    pub fn new(args: &DatabaseArgs, children: Children) -> Self {
        Self {
            pg_dump: args.bin_dir.join("pg_dump"),
            run_dir: args.run_dir.clone(),
            port: args.port,
            children,
            running: Arc::new(Semaphore::new(1)),
        }
    }

    /// Begins one. The body ends with an error, and not as a whole, where `pg_dump` fails on the way.
    pub fn start(&self, recipient: &str) -> Result<Body, ExportError> {
        let recipient: Recipient = recipient
            .parse()
            .map_err(|_| ExportError::Recipient(recipient.to_owned()))?;
        let permit = self.running.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ExportError::Busy)?;
        let (mut dump, ended) = self
            .children
            .spawn(&mut command(&self.pg_dump, &self.run_dir, self.port))
            .map_err(ExportError::Start)?;
        let stdout = dump.stdout.take().ok_or(ExportError::Unknown)?;
        let (pieces, mut body) = mpsc::channel(IN_FLIGHT);
        tokio::task::spawn_blocking(move || {
            let done = hand_over(stdout, ended, &recipient, &pieces, permit);
            if let Err(error) = done {
                tracing::warn!(error = %error, cause = std::error::Error::source(&error).map(ToString::to_string), "an export failed");
                // A client that is gone is told nothing.
                let _ = pieces.blocking_send(Err(io::Error::other(error)));
            }
        });
        let stream = futures::stream::poll_fn(move |context| body.poll_recv(context));
        Ok(Body::from_stream(stream))
    }
}

fn command(pg_dump: &Path, run_dir: &Path, port: u16) -> Command {
    let mut command = Command::new(pg_dump);
    command
        .args(["--format=custom", "--no-password", "--username=postgres"])
        .arg("--dbname=app")
        .arg(format!("--port={port}"))
        .arg("--host")
        .arg(run_dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it says of an error may quote a row.
        .stderr(Stdio::null());
    command
}

/// Seals all that comes out of `pg_dump`. Only an export that is whole is ended properly.
fn hand_over(
    mut dump: ChildStdout,
    ended: oneshot::Receiver<ExitStatus>,
    recipient: &Recipient,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    _permit: OwnedSemaphorePermit,
) -> Result<(), ExportError> {
    let cut =
        |error: &dyn std::error::Error| ExportError::Sealing(io::Error::other(error.to_string()));
    let recipients: [&dyn age::Recipient; 1] = [recipient];
    let encryptor =
        age::Encryptor::with_recipients(recipients.into_iter()).map_err(|error| cut(&error))?;
    let mut sealed = encryptor
        .wrap_output(Pieces::new(pieces))
        .map_err(ExportError::Sealing)?;
    let mut piece = vec![0; PIECE];
    loop {
        match dump.read(&mut piece).map_err(ExportError::Sealing)? {
            0 => break,
            read => sealed
                .write_all(&piece[..read])
                .map_err(ExportError::Sealing)?,
        }
    }
    match ended.blocking_recv() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(ExportError::Failed(status)),
        Err(_) => return Err(ExportError::Unknown),
    }
    let mut pieces = sealed.finish().map_err(ExportError::Sealing)?;
    pieces.flush().map_err(ExportError::Sealing)
}

/// Gathers what is written and sends it in pieces; waits while the client is slow.
struct Pieces<'a> {
    to: &'a mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn new(to: &'a mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            to,
            gathered: Vec::with_capacity(PIECE),
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        self.to
            .blocking_send(Ok(Bytes::from(piece)))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
