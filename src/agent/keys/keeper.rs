//! Fetches a pod's keys, again and again, and says clearly what does not work.

use std::time::Duration;

use anyhow::Context as _;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::signal::unix::{SignalKind, signal};

use super::args::KeysArgs;
use super::folder::{Change, FolderError, KeyFolder};
use crate::keys::Purpose;
use crate::keyserver::client::{Client, ClientError};

/// The first pause after a failure: the app waits for its keys, and what fails at a pod's start passes in moments.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause while there are no keys yet, and an app waits for them.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The key server may ask for looks at this distance, not for closer ones.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// Why the keys could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The key server gave none.
    #[error("no keys of purpose {purpose}")]
    Fetch {
        /// Which keys.
        purpose: Purpose,
        /// What went wrong.
        #[source]
        source: ClientError,
    },
    /// They could not be put into memory.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl KeeperError {
    /// How long the key server asked to wait.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fetch { source, .. } => source.retry_after(),
            Self::Folder(_) => None,
        }
    }
}

/// Runs `granary agent keys`: keeps the pod's keys in memory until the process is told to stop.
///
/// # Errors
/// Where the arguments cannot work: no memory to write to, a URL that is none.
pub async fn keep(args: KeysArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let keeper = Keeper::new(&args)?;
    tokio::select! {
        () = keeper.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The keys of one purpose of a pod.
#[derive(Debug)]
pub struct Keeper {
    client: Client,
    folder: KeyFolder,
    purpose: Purpose,
    every: Duration,
}

impl Keeper {
    /// Prepares the folder; asks nobody yet.
    pub fn new(args: &KeysArgs) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::new(&args.client)?,
            folder: KeyFolder::create(&args.dir, args.purpose)?,
            purpose: args.purpose,
            every: args.every(),
        })
    }

    /// Looks at once and then every so often, for ever. What is in memory stays there whatever fails: an app that runs
    /// does not notice that the key server is away.
    pub async fn run(self) {
        let mut pauses = pauses();
        loop {
            let pause = match self.look().await {
                Ok((change, again_in)) => {
                    self.tell(&change);
                    pauses = self::pauses();
                    again_in
                }
                Err(error) => {
                    let wanted = pauses.next().unwrap_or(LONGEST_PAUSE);
                    let pause = wanted.max(error.retry_after().unwrap_or_default());
                    let error = anyhow::Error::from(error);
                    tracing::warn!(
                        purpose = %self.purpose,
                        error = format!("{error:#}"),
                        again_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "the keys could not be fetched"
                    );
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once, and makes the folder what the answer says. Also says when to ask again.
    pub async fn look(&self) -> Result<(Change, Duration), KeeperError> {
        let have = self.folder.versions()?;
        let answer = self
            .client
            .unwrap(self.purpose, &have)
            .await
            .map_err(|source| KeeperError::Fetch {
                purpose: self.purpose,
                source,
            })?;
        let change = self.folder.update(&answer.keys)?;
        let wanted = answer.again_in.unwrap_or(self.every);
        Ok((
            change,
            wanted.clamp(SHORTEST_PERIOD.min(self.every), self.every),
        ))
    }

    fn tell(&self, change: &Change) {
        if !change.is_empty() {
            tracing::info!(
                purpose = %self.purpose,
                added = ?change.added,
                removed = ?change.removed,
                active = ?self.folder.active(),
                "keys in memory changed"
            );
        }
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}
