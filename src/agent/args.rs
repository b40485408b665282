//! What a database pod tells its agent, by environment or by flag.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use super::keys::{KEYS_PERIOD, KeysArgs};
use crate::keys::Purpose;
use crate::keyserver::client::{ClientArgs, ClientFiles};

/// Arguments of `granary agent database`. Each default fits the pod that the operator builds.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseArgs {
    /// UID of the tenant that owns this database; a volume of another tenant is refused
    #[arg(long, env = "GRANARY_TENANT_UID")]
    pub tenant_uid: Uuid,

    /// Mount point of the data volume; the data directory is `pgdata` below it
    #[arg(long, default_value = "/var/lib/granary/postgresql")]
    pub volume: PathBuf,

    /// Folder in memory for the socket, the generated configuration and the certificates in use
    #[arg(long, default_value = "/run/granary/postgresql")]
    pub run_dir: PathBuf,

    /// Folder with `tls.crt`, `tls.key` and `ca.crt`, watched for changes
    #[arg(long, default_value = "/run/granary/tls")]
    pub tls_dir: PathBuf,

    /// Folder with PostgreSQL's programs
    #[arg(long, default_value = "/usr/lib/postgresql/17/bin")]
    pub bin_dir: PathBuf,

    /// Archive of the cluster that an empty volume starts from
    #[arg(long, default_value = "/usr/share/granary/template.tar")]
    pub template: PathBuf,

    /// Where the last words of a failed database go, for Kubernetes to show
    #[arg(long, default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,

    /// URL of the key server, for the keys that backups are encrypted with; without it there are none
    #[arg(long, env = "GRANARY_KEYSERVER")]
    pub keyserver: Option<String>,

    /// Folder in memory for those keys
    #[arg(long, env = "GRANARY_KEYS_DIR", default_value = "/run/granary/keys")]
    pub keys_dir: PathBuf,

    /// How the agent proves who it is to the key server
    #[command(flatten)]
    pub keyserver_files: ClientFiles,

    /// Port of the agent's own HTTPS server
    #[arg(long, default_value_t = 8443)]
    pub agent_port: u16,

    /// Port of PostgreSQL
    #[arg(long, default_value_t = 5432)]
    pub port: u16,

    /// Connections that PostgreSQL accepts, three of them reserved for the agent
    #[arg(long, env = "GRANARY_PG_MAX_CONNECTIONS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub max_connections: u32,

    /// Let role `auditor` log in too: for the plane's registry, which has an audit
    #[arg(long, env = "GRANARY_PG_AUDITOR")]
    pub auditor: bool,

    /// PostgreSQL's shared buffers
    #[arg(long, env = "GRANARY_PG_SHARED_BUFFERS", default_value = "16MB")]
    pub shared_buffers: MemorySize,

    /// Memory of one sort or hash
    #[arg(long, env = "GRANARY_PG_WORK_MEM", default_value = "4MB")]
    pub work_mem: MemorySize,

    /// Memory of one vacuum or index build
    #[arg(long, env = "GRANARY_PG_MAINTENANCE_WORK_MEM", default_value = "32MB")]
    pub maintenance_work_mem: MemorySize,

    /// Write-ahead log after which a checkpoint starts; twice that must fit on the volume
    #[arg(long, env = "GRANARY_PG_MAX_WAL_SIZE", default_value = "256MB")]
    pub max_wal_size: MemorySize,

    /// Seconds that a fast shutdown may take before it becomes an immediate one; less than the pod's grace period
    #[arg(long, env = "GRANARY_SHUTDOWN_SECONDS", default_value_t = 25)]
    pub shutdown_seconds: u64,
}

impl DatabaseArgs {
    /// How the keys for backups are fetched, if there is a key server.
    #[must_use]
    pub fn keys(&self) -> Option<KeysArgs> {
        Some(KeysArgs {
            purpose: Purpose::Backup,
            dir: self.keys_dir.clone(),
            client: ClientArgs {
                server: self.keyserver.clone()?,
                files: self.keyserver_files.clone(),
            },
            every_seconds: KEYS_PERIOD,
        })
    }

    /// How long a fast shutdown may take.
    #[must_use]
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

/// An amount of memory as PostgreSQL writes it: digits and `kB`, `MB` or `GB`. Nothing else can be in the text, so it
/// goes into a configuration file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySize(String);

impl MemorySize {
    /// The text, for a configuration file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no amount of memory.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no amount of memory: write digits and kB, MB or GB, such as 128MB")]
pub struct MemorySizeError(String);

impl FromStr for MemorySize {
    type Err = MemorySizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = &text[digits.len()..];
        let plausible =
            (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if plausible && matches!(unit, "kB" | "MB" | "GB") {
            Ok(Self(text.to_owned()))
        } else {
            Err(MemorySizeError(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("16MB")]
    #[case("8192kB")]
    #[case("2GB")]
    fn sizes_that_postgresql_takes(#[case] text: &str) {
        assert_eq!(text.parse::<MemorySize>().unwrap().as_str(), text);
    }

    #[rstest::rstest]
    #[case("")]
    #[case("MB")]
    #[case("16")]
    #[case("16Mi")]
    #[case("-1MB")]
    #[case("16MB'\nlisten_addresses = '*")]
    #[case("1 MB")]
    #[case("99999999999MB")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(text.parse::<MemorySize>().is_err());
    }
}
