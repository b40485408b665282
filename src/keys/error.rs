//! Why a KMS did not do what it was asked.

use super::{Context, EnvelopeError, KeyId, KeyState, ProviderName, StoreError, TenantUid};

/// Why a KMS did not do what it was asked. Messages name the key and what to do next, and hold no key bytes: what a KMS
/// answers is never kept as a source, because an answer may contain a key.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// The KMS knows the caller, or does not, and refuses.
    #[error(
        "the KMS denies {action} for {object}: {detail}. Give the key server's identity that right, or look at its credentials"
    )]
    Denied {
        /// The KMS's name of the operation.
        action: &'static str,
        /// The key or alias.
        object: String,
        /// What the KMS said.
        detail: String,
    },
    /// The key exists, or existed, and is in a state in which this cannot be done.
    #[error("key {key} is {state}: {}", advice(.state))]
    Disabled {
        /// The key.
        key: KeyId,
        /// Its state.
        state: KeyState,
    },
    /// The KMS knows no such key.
    #[error(
        "the KMS knows no key {key}: look whether the key server is connected to the right KMS, account and region"
    )]
    NotFound {
        /// The key.
        key: String,
    },
    /// Too many requests; the bounded retries are used up.
    #[error(
        "the KMS throttles {action} for {object}; trying again later helps, and so does a higher request quota"
    )]
    Throttled {
        /// The KMS's name of the operation.
        action: &'static str,
        /// The key or alias.
        object: String,
    },
    /// No answer, or one that says that the KMS is not well. What was asked may have been done.
    #[error("the KMS did not carry out {action} for {object}: {detail}. It will be tried again")]
    Unreachable {
        /// The KMS's name of the operation.
        action: &'static str,
        /// The key or alias.
        object: String,
        /// What went wrong.
        detail: String,
    },
    /// A change of the same key is under way.
    #[error("key {key} is being changed by somebody else: {detail}. It will be tried again")]
    Busy {
        /// The key.
        key: KeyId,
        /// What is under way.
        detail: String,
    },
    /// A quota of the account, such as the number of keys or of rotations, is used up.
    #[error("the KMS refuses {action} for {object}: {detail}. Raise that quota")]
    Quota {
        /// The KMS's name of the operation.
        action: &'static str,
        /// The key or alias.
        object: String,
        /// What the KMS said.
        detail: String,
    },
    /// The wrapped key is for something else than the caller says.
    #[error("this is {found}, and {asked} was asked for: nothing is unwrapped for another context")]
    WrongContext {
        /// What the header says.
        found: Context,
        /// What the caller says.
        asked: Context,
    },
    /// The wrapped key belongs to another key of the KMS, or to another KMS.
    #[error(
        "{context} is wrapped by {found_provider} under {found}, not by {provider} under {key}: look which key the registry names for this tenant"
    )]
    WrongKey {
        /// What is wrapped.
        context: Context,
        /// The KMS that the header names.
        found_provider: ProviderName,
        /// The key that the header names.
        found: KeyId,
        /// This KMS.
        provider: ProviderName,
        /// The key that was asked for.
        key: KeyId,
    },
    /// Header or ciphertext were altered, or wrapped under other key material.
    #[error(
        "{context} cannot be unwrapped with key {key}: header or ciphertext were altered. Restore it from a backup of the registry"
    )]
    Corrupt {
        /// The key.
        key: KeyId,
        /// What the header says is wrapped.
        context: Context,
    },
    /// The bytes are no wrapped key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The alias that this tenant's key should have is another key's.
    #[error(
        "{alias} already names key {key}, {}: it is not touched. Find out whose it is, and remove the alias",
        whose(.owner.as_deref())
    )]
    AliasTaken {
        /// The alias.
        alias: String,
        /// The key it names.
        key: KeyId,
        /// The tenant in that key's tag.
        owner: Option<String>,
    },
    /// This tenant's key was destroyed, and its UID is never used again.
    #[error(
        "the key of tenant {tenant} was destroyed; a UID gets no second key. Onboard a new tenant"
    )]
    Ended {
        /// The tenant.
        tenant: TenantUid,
    },
    /// The waiting time before a deletion is out of bounds.
    #[error("a key is destroyed after 7 to 30 days, not after {days}")]
    DeletionWindow {
        /// The days asked for.
        days: u32,
    },
    /// The name is none that this KMS gives to keys.
    #[error("{key} is no key of provider {provider}: {expected}")]
    ForeignKey {
        /// The name.
        key: KeyId,
        /// This KMS.
        provider: ProviderName,
        /// What a name looks like.
        expected: &'static str,
    },
    /// The stored key of a tenant cannot be opened.
    #[error(
        "the stored key {key} cannot be opened: {detail}. Restore the root key file or the store from the same backup"
    )]
    Unopenable {
        /// The key.
        key: KeyId,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The store of the local provider failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system's random generator failed.
    #[error("the system's random generator gives no bytes; without them no key is made")]
    Random,
    /// An answer that fits nothing known.
    #[error("{action} for {object} failed at the KMS in a way that is not known: {detail}")]
    Unexpected {
        /// The KMS's name of the operation.
        action: &'static str,
        /// The key or alias.
        object: String,
        /// What is unexpected.
        detail: String,
    },
}

impl KmsError {
    /// Whether the same call may succeed later with nothing changed by people.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. }
            | Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Random => true,
            Self::Store(error) => error.transient,
            Self::Denied { .. }
            | Self::Disabled { .. }
            | Self::NotFound { .. }
            | Self::Quota { .. }
            | Self::WrongContext { .. }
            | Self::WrongKey { .. }
            | Self::Corrupt { .. }
            | Self::Envelope(_)
            | Self::AliasTaken { .. }
            | Self::Ended { .. }
            | Self::DeletionWindow { .. }
            | Self::ForeignKey { .. }
            | Self::Unopenable { .. }
            | Self::Unexpected { .. } => false,
        }
    }

    /// A stable word for conditions, metrics and audit entries.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "KmsDenied",
            Self::Disabled { .. } => "KeyNotEnabled",
            Self::NotFound { .. } => "KeyNotFound",
            Self::Throttled { .. } => "KmsThrottled",
            Self::Unreachable { .. } => "KmsUnreachable",
            Self::Busy { .. } => "KeyBusy",
            Self::Quota { .. } => "KmsQuota",
            Self::WrongContext { .. } => "WrongContext",
            Self::WrongKey { .. } => "WrongKey",
            Self::Corrupt { .. } | Self::Envelope(_) => "WrappedKeyCorrupt",
            Self::AliasTaken { .. } => "KeyAliasTaken",
            Self::Ended { .. } => "KeyDestroyed",
            Self::DeletionWindow { .. } => "DeletionWindow",
            Self::ForeignKey { .. } => "ForeignKey",
            Self::Unopenable { .. } => "KeyUnopenable",
            Self::Store(_) => "KeyStoreFailed",
            Self::Random => "NoRandomness",
            Self::Unexpected { .. } => "KmsUnexpected",
        }
    }
}

const fn advice(state: &KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "what was asked for does not fit an enabled key",
        KeyState::Disabled => "enable it first",
        KeyState::PendingDeletion { .. } => "cancel its deletion and enable it first",
        KeyState::Destroyed | KeyState::Missing => {
            "what it wrapped cannot be unwrapped by anybody any more"
        }
    }
}

fn whose(owner: Option<&str>) -> String {
    owner.map_or_else(
        || "which carries no tenant's tag".to_owned(),
        |owner| format!("which is tagged for tenant {owner}"),
    )
}
