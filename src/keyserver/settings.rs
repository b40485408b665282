//! The key server's settings, read once from flags and the environment.

use std::path::PathBuf;

use crate::api::plane::{OPERATOR, REGISTRY};
use crate::keys::KmsSettings;
use crate::registry::{Endpoint, Identity, RegistrySettings, Role};
use crate::telemetry::LogFormat;

/// Settings of `granary keyserver`. Every flag can be given as an environment variable, which is what the chart does.
#[derive(clap::Args, Clone, Debug)]
pub struct KeyServerSettings {
    /// Port of the HTTPS server, for pods, the operator, probes and metrics alike.
    #[arg(long, env = "GRANARY_PORT", default_value_t = 8443)]
    pub port: u16,
    /// Folder with the server's certificate (`tls.crt`, `tls.key`), the client certificate for the registry
    /// (`client.crt`, `client.key`) and the plane's authorities (`ca.crt`), watched for changes.
    #[arg(long, env = "GRANARY_TLS_DIR", default_value = "/run/granary/tls")]
    pub tls_dir: PathBuf,
    /// Namespace of the plane.
    #[arg(long, env = "GRANARY_NAMESPACE", default_value = "granary-system")]
    pub namespace: String,
    /// ServiceAccount of the operator in that namespace: the only one that may manage keys, and it never reads one.
    #[arg(
        long,
        env = "GRANARY_OPERATOR_ACCOUNT",
        default_value = OPERATOR
    )]
    pub operator_account: String,
    /// Host of the registry, for which its certificate has to be.
    #[arg(
        long,
        env = "GRANARY_REGISTRY_HOST",
        default_value = REGISTRY
    )]
    pub registry_host: String,
    /// Port of the registry.
    #[arg(long, env = "GRANARY_REGISTRY_PORT", default_value_t = 5432)]
    pub registry_port: u16,
    /// Name of the registry's database.
    #[arg(long, env = "GRANARY_REGISTRY_DATABASE", default_value = "app")]
    pub registry_database: String,
    /// Authorities that the registry's certificate is checked against; the plane's own when left out.
    #[arg(long, env = "GRANARY_REGISTRY_CA_FILE")]
    pub registry_ca_file: Option<PathBuf>,
    /// The KMS.
    #[command(flatten)]
    pub kms: KmsSettings,
    /// Requests a second that one pod may make in the long run.
    #[arg(long, env = "GRANARY_POD_RATE", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub pod_rate: u16,
    /// Requests that one pod may make at once.
    #[arg(long, env = "GRANARY_POD_BURST", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub pod_burst: u16,
    /// How logs are written.
    #[arg(long, env = "GRANARY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

impl KeyServerSettings {
    /// How the registry is reached.
    #[must_use]
    pub fn registry(&self) -> RegistrySettings {
        let file = |name: &str| self.tls_dir.join(name);
        let endpoint = Endpoint::Tcp {
            host: self.registry_host.clone(),
            port: self.registry_port,
        };
        let identity = Identity::Files {
            ca: self
                .registry_ca_file
                .clone()
                .unwrap_or_else(|| file("ca.crt")),
            certificate: file("client.crt"),
            key: file("client.key"),
        };
        RegistrySettings {
            database: self.registry_database.clone(),
            max_connections: CONNECTIONS,
            ..RegistrySettings::new(endpoint, Role::App, identity)
        }
    }
}

/// Connections to the registry: audit rows queue for one another, so more would only wait.
const CONNECTIONS: u32 = 16;
