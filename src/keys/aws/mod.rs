//! AWS KMS, or a service that speaks its protocol.
//!
//! Each tenant has a customer key `alias/granary-<uid>` with the tags `granary.dev/tenant-uid` and `granary.dev/plane`.
//! What makes a key a tenant's is its tag, which is set as the key is made; the alias is how it is found again with one
//! call, and of several keys made at the same time the one that got the alias is the tenant's.
//!
//! Data keys are bound to the encryption context `{tenant-uid, purpose, version, header}`, the last being the SHA-256 of
//! the envelope's header. Whether a key may be used is asked with `DescribeKey` before each decryption: services that
//! imitate KMS are known to decrypt with disabled keys.

mod create;
mod endpoint;
mod failure;
mod http;
mod kms;
mod list;

use std::{collections::HashMap, fmt::Write, path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::{
    Client,
    config::{SharedHttpClient, retry::RetryConfig, timeout::TimeoutConfig},
    types::{KeyMetadata, KeyState as AwsState},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use self::endpoint::{HttpsOutsideLoopback, Transport};
use super::{Header, KeyId, KeyState, KmsError, ProviderName, StartError, TenantUid};

pub use endpoint::EndpointError;
pub use http::TrustError;

/// Whose key it is.
const TENANT_TAG: &str = "granary.dev/tenant-uid";
/// Which installation made it.
const PLANE_TAG: &str = "granary.dev/plane";
/// What every tenant's alias begins with.
const ALIAS: &str = "alias/granary-";

/// What the AWS provider is told; credentials come from AWS's default chain.
#[derive(Debug, Clone)]
pub struct AwsSettings {
    /// Name of this installation, among those that share the AWS account. Only keys tagged with it are listed.
    pub plane: String,
    /// Region of the keys; from AWS's default chain when left out.
    pub region: Option<String>,
    /// Where the KMS answers, if not at AWS's own address.
    pub endpoint: Option<String>,
    /// Certificate authorities (PEM) that the KMS's certificate is checked against.
    pub ca_file: PathBuf,
    /// Longest wait for the answer to one request. A call makes up to four, and ends after four times as long.
    pub timeout: Duration,
}

/// AWS KMS.
#[derive(Debug, Clone)]
pub struct Aws {
    client: Client,
    plane: String,
}

impl Aws {
    /// Connects with the credentials of AWS's default chain: environment, web identity of a pod, container or machine.
    /// Nothing is sent to the KMS yet.
    pub async fn connect(settings: &AwsSettings) -> Result<Self, StartError> {
        let http = settings.http_client()?;
        let mut loader =
            aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http.clone());
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        Self::with_client(&loader.load().await, settings, http)
    }

    /// Connects with a configuration that was loaded before.
    pub fn new(sdk: &SdkConfig, settings: &AwsSettings) -> Result<Self, StartError> {
        Self::with_client(sdk, settings, settings.http_client()?)
    }

    fn with_client(
        sdk: &SdkConfig,
        settings: &AwsSettings,
        http: SharedHttpClient,
    ) -> Result<Self, StartError> {
        if settings.region.is_none() && sdk.region().is_none() {
            return Err(StartError::Region);
        }
        let mut config = aws_sdk_kms::config::Builder::from(sdk)
            .http_client(http)
            .timeout_config(timeouts(settings.timeout))
            .retry_config(retries())
            // AWS's own settings (`AWS_ENDPOINT_URL_KMS`, profiles) can name an endpoint too.
            .interceptor(HttpsOutsideLoopback);
        if let Some(region) = &settings.region {
            config = config.region(Region::new(region.clone()));
        }
        if let Some(url) = &settings.endpoint {
            config = config.endpoint_url(url);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            plane: settings.plane.clone(),
        })
    }
}

impl AwsSettings {
    /// A client for this endpoint, if it is one that may be used.
    fn http_client(&self) -> Result<SharedHttpClient, StartError> {
        let transport = match &self.endpoint {
            Some(url) => endpoint::check(url)?,
            None => Transport::Tls,
        };
        Ok(match transport {
            Transport::Tls => http::trusting(&self.ca_file)?,
            Transport::Loopback => http::without_tls()?,
        })
    }
}

/// A request that nobody answers, and the four attempts together.
fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(attempt.min(Duration::from_secs(2)))
        .operation_attempt_timeout(attempt)
        .operation_timeout(attempt * 4)
        .build()
}

/// Not `adaptive`: there one throttled tenant would slow down all.
fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(4)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_secs(2))
}

/// For calls that do more when they are repeated: whoever calls has to look first what was done.
fn once() -> aws_sdk_kms::config::Builder {
    aws_sdk_kms::config::Builder::new().retry_config(RetryConfig::disabled())
}

fn alias_of(tenant: TenantUid) -> String {
    format!("{ALIAS}{tenant}")
}

/// The encryption context of a data key: whoever decrypts must give exactly this.
fn encryption_context(header: &Header) -> HashMap<String, String> {
    let mut digest = String::new();
    for byte in Sha256::digest(header.to_bytes()) {
        // Writing into a text cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    let context = &header.context;
    [
        ("tenant-uid", context.tenant.to_string()),
        ("purpose", context.purpose.to_string()),
        ("version", context.version.to_string()),
        ("header", digest),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Keys are named by ARN: a bare id means another key in another account, and an alias can be turned to another key.
fn check_arn(key: &KeyId) -> Result<&str, KmsError> {
    let text = key.as_str();
    if text.starts_with("arn:") && text.contains(":kms:") && text.contains(":key/") {
        Ok(text)
    } else {
        Err(KmsError::ForeignKey {
            key: key.clone(),
            provider: ProviderName::Aws,
            expected: "its keys are named by their ARN",
        })
    }
}

/// The id in an ARN, for calls that AWS takes for keys of the caller's own account only; not all services that imitate it
/// take an ARN there.
fn id_of(key: &KeyId) -> &str {
    let arn = key.as_str();
    arn.rsplit_once(":key/").map_or(arn, |(_, id)| id)
}

fn arn_of(metadata: &KeyMetadata) -> Result<KeyId, KmsError> {
    metadata
        .arn()
        .and_then(|arn| arn.parse().ok())
        .ok_or_else(|| KmsError::Unexpected {
            action: "DescribeKey",
            object: metadata.key_id().to_owned(),
            detail: "no ARN".to_owned(),
        })
}

/// What the metadata say. A state that is none of ours is one in which the key cannot be used, but is not gone.
fn state_of(metadata: &KeyMetadata) -> KeyState {
    match metadata.key_state() {
        // Updating: its multi-Region primary moves; it can be used meanwhile.
        Some(AwsState::Enabled | AwsState::Updating) => KeyState::Enabled,
        Some(AwsState::PendingDeletion) => KeyState::PendingDeletion {
            at: metadata.deletion_date().map_or(Timestamp::MAX, time),
        },
        _ => KeyState::Disabled,
    }
}

fn time(time: &aws_sdk_kms::primitives::DateTime) -> Timestamp {
    Timestamp::from_second(time.secs()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
