//! Which KMS, and how to reach it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Aws, AwsSettings, EndpointError, KekStore, KmsError, Local, Provider, ProviderName,
    RootKeyError, StoreError, TrustError,
};

/// Settings of the KMS. Every flag can be given as an environment variable, which is what the chart does.
#[derive(clap::Args, Clone, Debug)]
pub struct KmsSettings {
    /// Which KMS holds the tenants' keys; `local` is for evaluation only.
    #[arg(long = "kms-provider", env = "GRANARY_KMS_PROVIDER", value_enum)]
    pub provider: ProviderName,
    /// `local`: file with the root key, 32 bytes that nobody else can read.
    #[arg(
        long = "kms-root-key-file",
        env = "GRANARY_KMS_ROOT_KEY_FILE",
        default_value = "/run/granary/root-key/root.key"
    )]
    pub root_key_file: PathBuf,
    /// `aws`: region of the keys; from AWS's own settings when left out.
    #[arg(long = "kms-aws-region", env = "GRANARY_KMS_AWS_REGION")]
    pub aws_region: Option<String>,
    /// `aws`: where the KMS answers, if not at AWS's own address; https, or http on this machine.
    #[arg(long = "kms-aws-endpoint", env = "GRANARY_KMS_AWS_ENDPOINT")]
    pub aws_endpoint: Option<String>,
    /// `aws`: certificate authorities (PEM) that the KMS's certificate is checked against.
    #[arg(
        long = "kms-aws-ca-file",
        env = "GRANARY_KMS_AWS_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    pub aws_ca_file: PathBuf,
    /// `aws`: name of this installation; only keys that are tagged with it are listed.
    #[arg(
        long = "kms-aws-plane",
        env = "GRANARY_KMS_AWS_PLANE",
        default_value = "granary"
    )]
    pub aws_plane: String,
    /// `aws`: seconds to wait for the answer to one request; a call makes up to four.
    #[arg(long = "kms-aws-timeout", env = "GRANARY_KMS_AWS_TIMEOUT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub aws_timeout: u64,
}

impl KmsSettings {
    /// The KMS that they name; `store` is where `local` keeps the tenants' keys.
    pub async fn open(&self, store: Arc<dyn KekStore>) -> Result<Provider, StartError> {
        match self.provider {
            ProviderName::Local => Local::open(&self.root_key_file, store)
                .await
                .map(Provider::Local),
            ProviderName::Aws => Aws::connect(&self.aws()).await.map(Provider::Aws),
        }
    }

    /// What the AWS provider is told.
    #[must_use]
    pub fn aws(&self) -> AwsSettings {
        AwsSettings {
            plane: self.aws_plane.clone(),
            region: self.aws_region.clone(),
            endpoint: self.aws_endpoint.clone(),
            ca_file: self.aws_ca_file.clone(),
            timeout: Duration::from_secs(self.aws_timeout),
        }
    }
}

/// Why there is no KMS to work with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The root key is not usable.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The store of the local provider does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in the store does not fit the root key.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// The endpoint is not used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No certificate of a KMS can be checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Nobody says where the keys are.
    #[error("the KMS needs a region: set GRANARY_KMS_AWS_REGION or AWS_REGION")]
    Region,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::keys::FolderStore;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        kms: KmsSettings,
    }

    fn parse(arguments: &[&str]) -> Result<KmsSettings, clap::Error> {
        let arguments = std::iter::once("granary").chain(arguments.iter().copied());
        Command::try_parse_from(arguments).map(|command| command.kms)
    }

    fn store(folder: &Path) -> Arc<dyn KekStore> {
        Arc::new(FolderStore::open(folder).unwrap())
    }

    #[test]
    fn a_provider_has_to_be_chosen() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--kms-provider", "vault"]).is_err());
        assert!(parse(&["--kms-provider", "aws", "--kms-aws-timeout", "0"]).is_err());
        let settings = parse(&["--kms-provider", "aws"]).unwrap();
        assert_eq!(settings.aws().timeout, Duration::from_secs(3));
        assert_eq!(settings.aws().plane, "granary");
    }

    #[tokio::test]
    async fn a_plain_endpoint_is_refused_before_anything_is_sent() {
        let settings = parse(&[
            "--kms-provider",
            "aws",
            "--kms-aws-region",
            "eu-central-1",
            "--kms-aws-endpoint",
            "http://kms.example",
        ])
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = settings.open(store(folder.path())).await.unwrap_err();
        assert!(matches!(error, StartError::Endpoint(_)), "{error}");
    }

    #[tokio::test]
    async fn a_missing_root_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("root.key");
        let settings = parse(&[
            "--kms-provider",
            "local",
            "--kms-root-key-file",
            key.to_str().unwrap(),
        ])
        .unwrap();
        let error = settings.open(store(folder.path())).await.unwrap_err();
        assert!(error.to_string().contains("root.key"), "{error}");
    }
}
