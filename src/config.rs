//! The operator's settings, read once from flags and the environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::keys::ProviderName;

/// Settings of `granary operator`. Every flag can be given as an environment variable, which is what the chart does.
#[derive(clap::Args, Clone, Debug)]
pub struct OperatorSettings {
    /// Domain under which every tenant gets its name: `acme` answers at `acme.<base domain>`.
    #[arg(long, env = "GRANARY_BASE_DOMAIN")]
    pub base_domain: String,
    /// Port that browsers use to reach the gateway.
    #[arg(long, env = "GRANARY_EXTERNAL_PORT", default_value_t = 443)]
    pub external_port: u16,
    /// Name of the Gateway that routes hang on.
    #[arg(long, env = "GRANARY_GATEWAY_NAME", default_value = "granary")]
    pub gateway_name: String,
    /// Namespace of that Gateway; the operator's own when left out.
    #[arg(long, env = "GRANARY_GATEWAY_NAMESPACE")]
    pub gateway_namespace: Option<String>,
    /// Namespace of the pods that are the gateway: the only ones that may reach an app.
    #[arg(long, env = "GRANARY_GATEWAY_DATAPLANE_NAMESPACE")]
    pub gateway_dataplane_namespace: String,
    /// `host:port` at which the operator reaches the gateway to look at tenants' pages.
    #[arg(long, env = "GRANARY_GATEWAY_PROBE_ADDRESS")]
    pub gateway_probe_address: String,
    /// Certificates (PEM) that the gateway's certificate is checked against.
    #[arg(
        long,
        env = "GRANARY_GATEWAY_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    pub gateway_ca_file: PathBuf,
    /// Image of the database, by digest.
    #[arg(long, env = "GRANARY_POSTGRES_IMAGE")]
    pub postgres_image: String,
    /// Image of Granary itself, by digest: it fetches an app's data keys.
    #[arg(long, env = "GRANARY_IMAGE")]
    pub granary_image: String,
    /// Where tenants' keys are; the operator makes a root key for `local`.
    #[arg(long, env = "GRANARY_KMS_PROVIDER", value_enum, default_value_t = ProviderName::Local)]
    pub kms_provider: ProviderName,
    /// URL of the key server; the one of the operator's own namespace when left out.
    #[arg(long, env = "GRANARY_KEYSERVER")]
    pub keyserver: Option<String>,
    /// File with this pod's projected token for the key server.
    #[arg(
        long,
        env = "GRANARY_KEYSERVER_TOKEN_FILE",
        default_value = "/run/granary/token/token"
    )]
    pub keyserver_token_file: PathBuf,
    /// Folder in memory for what the operator needs of the plane's certificates.
    #[arg(long, env = "GRANARY_PLANE_DIR", default_value = "/run/granary/plane")]
    pub plane_dir: PathBuf,
    /// Host of the registry's database; the one of the operator's own namespace when left out.
    #[arg(long, env = "GRANARY_REGISTRY_HOST")]
    pub registry_host: Option<String>,
    /// Port of the registry's database.
    #[arg(long, env = "GRANARY_REGISTRY_PORT", default_value_t = 5432)]
    pub registry_port: u16,
    /// Name of the registry's database.
    #[arg(long, env = "GRANARY_REGISTRY_DATABASE", default_value = "app")]
    pub registry_database: String,
    /// Certificates (PEM) that the registry's certificate is checked against, if the plane's own authority did not sign it.
    #[arg(long, env = "GRANARY_REGISTRY_CA_FILE")]
    pub registry_ca_file: Option<PathBuf>,
    /// Whether the API server writes down, by the chart's admission policy, who changes a tenant.
    #[arg(long, env = "GRANARY_REQUESTERS_KNOWN", action = clap::ArgAction::Set, default_value_t = false)]
    pub requesters_known: bool,
    /// Namespace of the cluster's DNS.
    #[arg(long, env = "GRANARY_DNS_NAMESPACE", default_value = "kube-system")]
    pub dns_namespace: String,
    /// Namespace of this operator.
    #[arg(long, env = "GRANARY_NAMESPACE", default_value = "granary-system")]
    pub namespace: String,
    /// Name of this pod: its identity in the leader election.
    #[arg(long, env = "GRANARY_POD_NAME", default_value = "granary-operator")]
    pub pod_name: String,
    /// How long a certificate of a silo lives; it is renewed at two thirds.
    #[arg(long, env = "GRANARY_LEAF_LIFETIME", default_value = "7d", value_parser = duration)]
    pub leaf_lifetime: Duration,
    /// How long a silo's certificate authority lives.
    #[arg(long, env = "GRANARY_CA_LIFETIME", default_value = "90d", value_parser = duration)]
    pub ca_lifetime: Duration,
    /// How many tenants are worked on at the same time.
    #[arg(long, env = "GRANARY_CONCURRENCY", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,
    /// Where `/healthz`, `/readyz` and `/metrics` are served, over HTTPS.
    #[arg(long, env = "GRANARY_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// How logs are written.
    #[arg(long, env = "GRANARY_LOG_FORMAT", value_enum, default_value_t = crate::telemetry::LogFormat::Json)]
    pub log_format: crate::telemetry::LogFormat,
}

/// A positive duration as people write it: `7d`, `36h`, `90s`.
fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text
        .parse()
        .map_err(|error| format!("{error}; write for example 7d, 36h or 90s"))?;
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|error| format!("{error}; write it in days, hours, minutes or seconds"))?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("a duration has to be positive".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "0s", "-1h", "7", "1 month", "soon"] {
            assert!(duration(bad).is_err(), "{bad:?} is no duration");
        }
    }
}
