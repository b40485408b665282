//! What a pod tells the part that fetches its keys, by environment or by flag.

use std::path::PathBuf;
use std::time::Duration;

use crate::keys::Purpose;
use crate::keyserver::client::ClientArgs;

/// Seconds between two looks for new versions, at most.
pub const KEYS_PERIOD: u64 = 60;

/// Arguments of `granary agent keys`. Each default fits the pods that the operator builds.
#[derive(Clone, Debug, clap::Args)]
pub struct KeysArgs {
    /// Which keys: app or backup
    #[arg(long)]
    pub purpose: Purpose,

    /// Folder in memory; the keys are in a folder of their purpose below it
    #[arg(long, env = "GRANARY_KEYS_DIR", default_value = "/run/granary/keys")]
    pub dir: PathBuf,

    /// How the key server is reached
    #[command(flatten)]
    pub client: ClientArgs,

    /// Seconds between two looks for new versions; the key server may ask for sooner ones
    #[arg(long, default_value_t = KEYS_PERIOD, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every_seconds: u64,
}

impl KeysArgs {
    /// The longest time between two looks for new versions.
    #[must_use]
    pub fn every(&self) -> Duration {
        Duration::from_secs(self.every_seconds)
    }
}

/// Arguments of `granary agent keys-ready`.
#[derive(Clone, Debug, clap::Args)]
pub struct KeysReadyArgs {
    /// Which keys: app or backup
    #[arg(long)]
    pub purpose: Purpose,

    /// Folder in memory; the keys are in a folder of their purpose below it
    #[arg(long, env = "GRANARY_KEYS_DIR", default_value = "/run/granary/keys")]
    pub dir: PathBuf,

    /// Seconds after which it gives up
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout_seconds: u64,
}
