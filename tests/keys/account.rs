//! An AWS account of its own for each test, and what somebody else may do in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_kms::types::{KeyState, Tag};
use granary::keys::{Aws, AwsSettings, KeyId, TenantUid};
use uuid::Uuid;

use super::proxy::Proxy;
use super::tls::Authority;

/// How long a client waits for an answer. moto makes RSA keys nobody needs, which takes a busy machine a moment.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An account, the proxy that all its requests go through, and a client for what Granary does not do.
pub struct Account {
    pub proxy: Proxy,
    pub admin: Client,
}

impl Account {
    pub async fn new() -> Self {
        Self::behind(Proxy::start(&number()).await)
    }

    fn behind(proxy: Proxy) -> Self {
        let config = aws_sdk_kms::config::Builder::from(&sdk()).endpoint_url(proxy.url());
        Self {
            proxy,
            admin: Client::from_conf(config.build()),
        }
    }

    /// An account that is reached over TLS.
    pub async fn over_tls(authority: &Authority) -> Self {
        Self::behind(Proxy::start_tls(&number(), authority).await)
    }

    /// Granary's provider, of the installation `granary`.
    pub fn provider(&self) -> Aws {
        self.provider_with("granary", TIMEOUT)
    }

    pub fn provider_with(&self, plane: &str, timeout: Duration) -> Aws {
        let settings = AwsSettings {
            plane: plane.to_owned(),
            timeout,
            ..self.settings()
        };
        Aws::new(&sdk(), &settings).unwrap()
    }

    /// Granary's provider, which trusts these authorities.
    pub fn provider_trusting(&self, authorities: &Path) -> Aws {
        let settings = AwsSettings {
            ca_file: authorities.to_owned(),
            ..self.settings()
        };
        Aws::new(&sdk(), &settings).unwrap()
    }

    fn settings(&self) -> AwsSettings {
        AwsSettings {
            plane: "granary".to_owned(),
            region: None,
            endpoint: Some(self.proxy.url()),
            ca_file: PathBuf::new(),
            timeout: TIMEOUT,
        }
    }

    /// Makes a key with tags as somebody else, or a Granary that was stopped in the middle, would.
    pub async fn make_key(&self, tags: &[(&str, &str)]) -> KeyId {
        let mut request = self.admin.create_key();
        for (name, value) in tags {
            let tag = Tag::builder().tag_key(*name).tag_value(*value);
            request = request.tags(tag.build().unwrap());
        }
        let made = request.send().await.unwrap().key_metadata.unwrap();
        made.arn.unwrap().parse().unwrap()
    }

    /// What a Granary leaves that ends between making a key and naming it.
    pub async fn make_nameless(&self, tenant: TenantUid) -> KeyId {
        let uid = tenant.to_string();
        self.make_key(&[
            ("granary.dev/tenant-uid", &uid),
            ("granary.dev/plane", "granary"),
        ])
        .await
    }

    pub async fn name(&self, alias: &str, key: &KeyId) {
        let request = self.admin.create_alias().alias_name(alias);
        request.target_key_id(key.as_str()).send().await.unwrap();
    }

    /// The key that an alias names.
    pub async fn named(&self, alias: &str) -> Option<KeyId> {
        let answer = self.admin.describe_key().key_id(alias).send().await;
        let arn = answer.ok()?.key_metadata?.arn?;
        Some(arn.parse().unwrap())
    }

    /// All keys of the account that are not going to be destroyed.
    pub async fn live_keys(&self) -> Vec<KeyId> {
        let mut live = Vec::new();
        for key in self.admin.list_keys().send().await.unwrap().keys() {
            let described = self.admin.describe_key().key_id(key.key_id().unwrap());
            let metadata = described.send().await.unwrap().key_metadata.unwrap();
            if metadata.key_state != Some(KeyState::PendingDeletion) {
                live.push(metadata.arn.unwrap().parse().unwrap());
            }
        }
        live
    }
}

pub fn alias_of(tenant: TenantUid) -> String {
    format!("alias/granary-{tenant}")
}

/// The number of an account: twelve digits. That two tests draw the same is improbable enough.
fn number() -> String {
    format!("{:012}", Uuid::new_v4().as_u128() % 1_000_000_000_000)
}

fn sdk() -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "test", "test", None, None, "test",
        )))
        .build()
}
