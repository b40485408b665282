//! The life of a database pod, from an empty volume to a clean end.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStderr;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::DatabaseArgs;
use super::certificates::Certificates;
use super::children::Children;
use super::export::Exporter;
use super::keys::Keeper;
use super::log::Log;
use super::postmaster::Postmaster;
use super::probe::Probe;
use super::readiness::{Readiness, Reason};
use super::server::Checked;
use super::volume::{Volume, VolumeError};
use super::{server, settings};
use crate::https;

/// How often a starting server is looked at.
const READY_TICK: Duration = Duration::from_millis(5);
/// How often the certificate files are looked at; kubelet renews them within a minute or two.
const CERTIFICATE_TICK: Duration = Duration::from_secs(2);
/// How long the rest of the server's log is read after its end.
const LAST_LINES: Duration = Duration::from_millis(500);
/// What Kubernetes keeps of a termination message.
const TERMINATION_MESSAGE: usize = 4096;

/// Runs one silo's database until it is told to stop or the server ends. A failure's reason is also left where Kubernetes
/// looks for it.
pub async fn database(args: DatabaseArgs) -> anyhow::Result<()> {
    let outcome = Agent::run(&args).await;
    if let Err(error) = &outcome {
        let mut message = format!("{error:#}");
        message.truncate(message.floor_char_boundary(TERMINATION_MESSAGE));
        // Only where Kubernetes made it: nowhere else would anybody look.
        if args.termination_log.exists() {
            let _ = std::fs::write(&args.termination_log, message);
        }
    }
    outcome
}

/// What stays the same while the server runs.
struct Agent<'a> {
    args: &'a DatabaseArgs,
    certificates: Certificates,
    tls: Arc<ArcSwap<ServerConfig>>,
    readiness: watch::Sender<Readiness>,
    probe: Probe,
    checked: Checked,
    terminate: Signal,
    interrupt: Signal,
    children: Signal,
    exited: Children,
    /// Ended with the agent.
    tasks: JoinSet<()>,
}

impl<'a> Agent<'a> {
    async fn run(args: &'a DatabaseArgs) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut agent = Self::listen(args).await?;
        let Some(volume) = agent.prepare().await? else {
            return Ok(());
        };
        let config = settings::write(args, &volume.pgdata(), &agent.certificates.installed())
            .with_context(|| {
                format!(
                    "cannot write PostgreSQL's configuration to {}",
                    args.run_dir.display()
                )
            })?;
        let outcome = agent.supervise(&config, began).await;
        drop(volume);
        outcome
    }

    /// First of all a server for the probes: one that finds nobody listening comes back only after its period.
    async fn listen(args: &'a DatabaseArgs) -> anyhow::Result<Self> {
        let listener = https::server::bind(args.agent_port)
            .await
            .with_context(|| format!("cannot listen on port {}", args.agent_port))?;
        let mut certificates = Certificates::new(&args.tls_dir, &args.run_dir);
        let tls = Arc::new(ArcSwap::new(
            certificates
                .load()
                .context("the server certificate cannot be used")?,
        ));
        let probe = Probe::new(&args.run_dir, args.port, &args.volume);
        let (readiness, known) = watch::channel(Readiness::not(
            Reason::Initialising,
            "the data volume is being prepared",
        ));
        let (checked, exited) = (Checked::default(), Children::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(
            listener,
            server::Shared::new(
                probe.clone(),
                known,
                tls.clone(),
                checked.clone(),
                Exporter::new(args, exited.clone()),
            ),
        ));
        // Beside the database, which does not need them to start.
        if let Some(keys) = args.keys() {
            let keeper = Keeper::new(&keys).context("the keys for backups cannot be kept")?;
            tasks.spawn(keeper.run());
        }
        let signals = || -> std::io::Result<_> {
            Ok((
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::child())?,
            ))
        };
        let (terminate, interrupt, children) = signals().context("cannot handle signals")?;
        Ok(Self {
            args,
            certificates,
            tls,
            readiness,
            probe,
            checked,
            terminate,
            interrupt,
            children,
            exited,
            tasks,
        })
    }

    /// Prepares the volume on a thread of its own, so that probes are answered and a signal ends it at once: what it
    /// leaves unfinished is begun again. `None` if a signal came.
    async fn prepare(&mut self) -> anyhow::Result<Option<Volume>> {
        let (done, prepared) = oneshot::channel();
        let args = self.args.clone();
        std::thread::Builder::new()
            .name("volume".to_owned())
            .spawn(move || {
                let volume = Volume::lock(&args.volume).and_then(|volume| {
                    volume.prepare(args.tenant_uid, &args.template, &args.bin_dir)?;
                    Ok::<_, VolumeError>(volume)
                });
                // Nobody waits any more when a signal came.
                let _ = done.send(volume);
            })
            .context("cannot start a thread")?;
        tokio::select! {
            volume = prepared => Ok(Some(volume.context("preparing the data volume was cut short")??)),
            _ = self.terminate.recv() => Ok(None),
            _ = self.interrupt.recv() => Ok(None),
        }
    }

    async fn supervise(mut self, config: &Path, began: Instant) -> anyhow::Result<()> {
        let program = self.args.bin_dir.join("postgres");
        let (postmaster, stderr) = Postmaster::start(&self.args.bin_dir, config)
            .with_context(|| format!("cannot start {}", program.display()))?;
        self.readiness
            .send_replace(Readiness::not(Reason::Starting, "PostgreSQL is starting"));
        self.tasks.spawn(announce(
            self.probe.clone(),
            self.readiness.clone(),
            self.checked.clone(),
            began,
        ));

        let mut log = Log::default();
        let mut lines = Some(BufReader::new(stderr).lines());
        let mut certificate_tick = interval(CERTIFICATE_TICK);
        certificate_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = None;
        let status = loop {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => deadline = deadline.or(Some(self.stop(&postmaster))),
                _ = self.interrupt.recv() => deadline = deadline.or(Some(self.stop(&postmaster))),
                () = expiry(deadline), if deadline.is_some() => {
                    tracing::warn!(seconds = self.args.shutdown_seconds, "PostgreSQL did not stop in time; stopping it at once");
                    postmaster.abort().context("cannot signal PostgreSQL")?;
                    deadline = Some(tokio::time::Instant::now() + self.args.shutdown_timeout());
                }
                line = next_line(&mut lines) => match line {
                    Some(line) => log.line(&line),
                    None => lines = None,
                },
                _ = self.children.recv() => if let Some(status) = postmaster.reap(&self.exited) { break status },
                _ = certificate_tick.tick() => self.renew(&postmaster),
            }
        };
        // What the server said last is still in the pipe; an orphan may keep its other end open.
        if let Some(mut lines) = lines {
            let drain = async {
                while let Ok(Some(line)) = lines.next_line().await {
                    log.line(&line);
                }
            };
            let _ = tokio::time::timeout(LAST_LINES, drain).await;
        }
        conclude(status, deadline.is_some(), &log)
    }

    /// Begins a fast shutdown and returns when it must be over.
    fn stop(&self, postmaster: &Postmaster) -> tokio::time::Instant {
        tracing::info!("stopping PostgreSQL");
        self.readiness.send_replace(Readiness::not(
            Reason::ShuttingDown,
            "the pod was told to stop",
        ));
        if let Err(error) = postmaster.stop() {
            tracing::warn!(%error, "cannot signal PostgreSQL");
        }
        tokio::time::Instant::now() + self.args.shutdown_timeout()
    }

    /// Takes changed certificate files into use, in PostgreSQL and here, without a restart.
    fn renew(&mut self, postmaster: &Postmaster) {
        if !self.certificates.changed() {
            return;
        }
        let renewed = self
            .certificates
            .load()
            .map_err(anyhow::Error::from)
            .and_then(|config| {
                self.tls.store(config);
                postmaster.reload().context("cannot signal PostgreSQL")
            });
        match renewed {
            Ok(()) => tracing::info!("certificates renewed"),
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the new certificate files cannot be used; the old ones stay"
            ),
        }
    }
}

/// Says once that the server answers, the moment it does.
async fn announce(
    probe: Probe,
    readiness: watch::Sender<Readiness>,
    checked: Checked,
    began: Instant,
) {
    let mut tick = interval(READY_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !probe.says_ready() {
            continue;
        }
        let now = probe.readiness().await;
        if now.reason == Some(Reason::NotAccepting) {
            continue;
        }
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(millis, ready = now.ready, "PostgreSQL answers");
        *checked.lock().await = now.ready.then(tokio::time::Instant::now);
        // From here on every probe looks for itself; a shutdown that began meanwhile keeps its word.
        readiness.send_if_modified(|known| {
            let starting = known.reason == Some(Reason::Starting);
            if starting {
                *known = Readiness::ready();
            }
            starting
        });
        return;
    }
}

/// The next line of the server's log; `None` for ever once it was closed.
async fn next_line(lines: &mut Option<Lines<BufReader<ChildStderr>>>) -> Option<String> {
    match lines {
        Some(lines) => lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// Waits for a deadline, for ever if there is none.
async fn expiry(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Turns the server's end into the agent's.
fn conclude(status: ExitStatus, wanted: bool, log: &Log) -> anyhow::Result<()> {
    let words = log.last_words();
    let because = if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    };
    match (status.success(), wanted) {
        (true, true) => {
            tracing::info!("PostgreSQL stopped cleanly");
            Ok(())
        }
        (true, false) => bail!("PostgreSQL stopped although nobody asked it to{because}"),
        (false, _) => bail!("PostgreSQL failed ({status}){because}"),
    }
}
