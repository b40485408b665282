//! The reference tenant app: a cash book in the tenant's own database.
//!
//! It keeps the contract that any tenant app keeps: HTTPS on 8443 with the mounted certificate, a
//! database reached only with a client certificate, a column encrypted with the tenant's own key, `/healthz`, `/readyz`,
//! a `migrate` command and JSON logs on standard output.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | command line and environment, read once |
//! | [`serve`], [`tls`] | connections: accept, TLS 1.3 with reloaded certificates, graceful stop |
//! | [`web`] | routes, pages, request guards, health |
//! | [`readiness`] | whether database, schema and keys are what this build needs |
//! | [`book`] | the cash book's queries |
//! | [`keys`], [`vault`] | the tenant's keys, read again when they change; texts sealed with them |
//! | [`reseal`] | sealing anew what is not sealed with the active key |
//! | [`entry`], [`money`] | what a valid entry is; exact amounts |
//! | [`database`], `tunnel` | connecting to the database and waiting for it; TLS to it |
//! | [`migrate`] | schema changes |
//! | [`logging`] | JSON logs |

pub mod book;
pub mod config;
pub mod database;
pub mod entry;
pub mod keys;
pub mod logging;
pub mod migrate;
pub mod money;
pub mod readiness;
pub mod reseal;
pub mod serve;
pub mod tls;
mod tunnel;
pub mod vault;
pub mod web;

use config::Command;
use tokio_util::sync::CancellationToken;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime or the signal handlers could not be set up.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
    /// The server could not start.
    #[error("cannot serve")]
    Serve(#[source] serve::Error),
    /// The schema could not be brought up to date.
    #[error("cannot migrate")]
    Migrate(#[source] migrate::Error),
    /// A signal came before the schema was up to date.
    #[error("a signal ended the migration; run `migrate` again")]
    Interrupted,
}

/// Runs `command` to its end. One thread is enough for one tenant and keeps memory small.
pub fn run(command: Command) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(Error::Start)?;
    let outcome = runtime.block_on(async {
        // As the first process of a container, only a handled signal ends it.
        let stop = stop_on_signal().map_err(Error::Start)?;
        match command {
            Command::Serve(serve) => {
                let server = serve::Server::bind(&serve).await.map_err(Error::Serve)?;
                server.run(stop).await;
                Ok(())
            }
            Command::Migrate(migrate) => tokio::select! {
                done = migrate::run(&migrate) => done.map_err(Error::Migrate),
                () = stop.cancelled() => Err(Error::Interrupted),
            },
        }
    });
    // A name that is still being looked up must not delay the end.
    runtime.shutdown_background();
    outcome
}

/// A token that is cancelled by SIGTERM or SIGINT.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    Ok(stop)
}
