//! Why a step of an offboarding could not be done.

use std::borrow::Cow;

use crate::{
    control::{exports::ExportError, tenant_keys::KeysError},
    evidence::{DataKey, Impossible, KeyError},
    keyserver::client::ClientError,
    registry::RegistryError,
};

/// Why a step of an offboarding could not be done. It is tried again, and nothing after it is done before.
#[derive(Debug, thiserror::Error)]
pub enum OffboardingError {
    /// Registry or key server did not do what was asked.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The database could not be exported, which its plan asks for.
    #[error("the database could not be exported, and nothing is destroyed before it is: {0}")]
    Export(#[source] Box<ExportError>),
    /// What the registry says of the offboarding is nothing that this version wrote.
    #[error("the registry's notes on the offboarding cannot be read: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// An offboarding that is running does not say how it was announced.
    #[error("the registry's notes on the offboarding do not say how it was announced")]
    Unannounced,
    /// A key that should refuse did not.
    #[error("the KMS still unwraps data key {0}; nothing is deleted before it refuses")]
    NotRefused(DataKey),
    /// The KMS was told to destroy the key, and does not say when it will.
    #[error("the KMS does not say when it destroys the tenant's key")]
    NoDate,
    /// The record would not be one that can be true.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// The record could not be signed.
    #[error(transparent)]
    Signing(#[from] KeyError),
    /// The record could not be written down.
    #[error("the signed record cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// There is no signing key yet.
    #[error("the plane has no key to sign the record with yet; the operator's log says why")]
    NoSigningKey,
}

impl OffboardingError {
    /// Stable reason for a condition.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        let word = match self {
            Self::Keys(error) => return error.reason(),
            Self::Export(error) => return error.reason(),
            Self::Unreadable(_) | Self::Unannounced => "RegistryUnreadable",
            Self::NotRefused(_) => "KeyNotRefused",
            Self::NoDate => "DestructionUndated",
            Self::Impossible(_) => "RecordImpossible",
            Self::Signing(_) | Self::Encode(_) => "RecordNotSigned",
            Self::NoSigningKey => "SigningKeyMissing",
        };
        Cow::Borrowed(word)
    }
}

impl From<ExportError> for OffboardingError {
    fn from(error: ExportError) -> Self {
        Self::Export(Box::new(error))
    }
}

impl From<RegistryError> for OffboardingError {
    fn from(error: RegistryError) -> Self {
        Self::Keys(error.into())
    }
}

impl From<ClientError> for OffboardingError {
    fn from(error: ClientError) -> Self {
        Self::Keys(error.into())
    }
}
