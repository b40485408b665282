//! What Granary asks of a KMS.

use std::future::Future;

use jiff::Timestamp;

use super::{
    Aws, Context, KeyId, KeyState, KmsError, Local, PlainKey, ProviderName, TenantUid, WrappedKey,
};

/// Days that a key can be cancelled from deletion: what AWS allows, and so what all backends do.
pub const DELETION_DAYS: std::ops::RangeInclusive<u32> = 7..=30;

/// A KMS with one key per tenant. Every method may be called again after a failure or a lost answer, and then does what
/// is left to do.
pub trait Kms: Send + Sync {
    /// Which backend this is.
    fn provider(&self) -> ProviderName;

    /// The tenant's key, made if there is none. Of several callers at once, all get the same key. A key that is disabled
    /// is returned too, one that is going to be destroyed is [`KmsError::Disabled`].
    ///
    /// `aws`: a key counts as the tenant's if it carries the tenant's tag; an alias without that is
    /// [`KmsError::AliasTaken`]. 2 calls where the key exists, 5 where it is made, and one more per page (1000 keys or
    /// 100 aliases) and per nameless key of the account.
    fn create_key(&self, tenant: TenantUid)
    -> impl Future<Output = Result<KeyId, KmsError>> + Send;

    /// What the key can do now. An unknown key is [`KeyState::Missing`], not an error. `aws`: 1 call.
    fn describe(&self, key: &KeyId) -> impl Future<Output = Result<KeyState, KmsError>> + Send;

    /// A new data key, wrapped. `aws`: 1 call, and nobody but the KMS sees the key.
    fn generate(
        &self,
        key: &KeyId,
        context: &Context,
    ) -> impl Future<Output = Result<WrappedKey, KmsError>> + Send;

    /// The data key in the clear, if header, `key` and `context` agree exactly and the key is enabled: this is asked
    /// anew each time. `aws`: 2 calls.
    fn unwrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> impl Future<Output = Result<PlainKey, KmsError>> + Send;

    /// The same data key under the newest version of its key, under the conditions of [`unwrap`](Self::unwrap).
    /// `aws`: 2 calls, and nobody but the KMS sees the data key.
    fn rewrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> impl Future<Output = Result<WrappedKey, KmsError>> + Send;

    /// Gives the key new material if its newest version is `from`, and returns the newest version. Older versions keep
    /// unwrapping. A fresh key has version 1. `aws`: 3 calls; on-demand rotations are limited to 25 per key.
    fn rotate_key(
        &self,
        key: &KeyId,
        from: u32,
    ) -> impl Future<Output = Result<u32, KmsError>> + Send;

    /// Makes the key refuse everything until [`enable`](Self::enable). `aws`: 2 calls.
    fn disable(&self, key: &KeyId) -> impl Future<Output = Result<(), KmsError>> + Send;

    /// Makes a disabled key work again; not one that is going to be destroyed. `aws`: 2 calls.
    fn enable(&self, key: &KeyId) -> impl Future<Output = Result<(), KmsError>> + Send;

    /// Has the key destroyed in `days` ([`DELETION_DAYS`]); until then it refuses everything. Returns when it will be
    /// destroyed; if that was scheduled before, the first schedule holds. `aws`: 2 calls.
    fn schedule_deletion(
        &self,
        key: &KeyId,
        days: u32,
    ) -> impl Future<Output = Result<Timestamp, KmsError>> + Send;

    /// Keeps a key that was to be destroyed. It is disabled afterwards. `aws`: 2 calls.
    fn cancel_deletion(&self, key: &KeyId) -> impl Future<Output = Result<(), KmsError>> + Send;

    /// Every key that carries a tenant's tag of this installation, whatever its state: one that the registry does not
    /// know is an orphan. A tenant may be listed more than once. `aws`: 1 call per page, 1 to 2 per key.
    fn list_keys(
        &self,
    ) -> impl Future<Output = Result<Vec<(TenantUid, KeyId, KeyState)>, KmsError>> + Send;
}

/// The KMS that the settings name.
#[derive(Debug, Clone)]
pub enum Provider {
    /// Keys under a root key in a file. For evaluation only.
    Local(Local),
    /// AWS KMS.
    Aws(Aws),
}

/// Hands a call to the backend.
macro_rules! dispatch {
    ($self:ident, $kms:ident => $call:expr) => {
        match $self {
            Provider::Local($kms) => $call,
            Provider::Aws($kms) => $call,
        }
    };
}

impl Kms for Provider {
    fn provider(&self) -> ProviderName {
        dispatch!(self, kms => kms.provider())
    }

    async fn create_key(&self, tenant: TenantUid) -> Result<KeyId, KmsError> {
        dispatch!(self, kms => kms.create_key(tenant).await)
    }

    async fn describe(&self, key: &KeyId) -> Result<KeyState, KmsError> {
        dispatch!(self, kms => kms.describe(key).await)
    }

    async fn generate(&self, key: &KeyId, context: &Context) -> Result<WrappedKey, KmsError> {
        dispatch!(self, kms => kms.generate(key, context).await)
    }

    async fn unwrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<PlainKey, KmsError> {
        dispatch!(self, kms => kms.unwrap(key, wrapped, context).await)
    }

    async fn rewrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<WrappedKey, KmsError> {
        dispatch!(self, kms => kms.rewrap(key, wrapped, context).await)
    }

    async fn rotate_key(&self, key: &KeyId, from: u32) -> Result<u32, KmsError> {
        dispatch!(self, kms => kms.rotate_key(key, from).await)
    }

    async fn disable(&self, key: &KeyId) -> Result<(), KmsError> {
        dispatch!(self, kms => kms.disable(key).await)
    }

    async fn enable(&self, key: &KeyId) -> Result<(), KmsError> {
        dispatch!(self, kms => kms.enable(key).await)
    }

    async fn schedule_deletion(&self, key: &KeyId, days: u32) -> Result<Timestamp, KmsError> {
        dispatch!(self, kms => kms.schedule_deletion(key, days).await)
    }

    async fn cancel_deletion(&self, key: &KeyId) -> Result<(), KmsError> {
        dispatch!(self, kms => kms.cancel_deletion(key).await)
    }

    async fn list_keys(&self) -> Result<Vec<(TenantUid, KeyId, KeyState)>, KmsError> {
        dispatch!(self, kms => kms.list_keys().await)
    }
}

/// What has to hold before a KMS is asked to unwrap.
pub(super) fn check_header(
    provider: ProviderName,
    key: &KeyId,
    wrapped: &WrappedKey,
    context: &Context,
) -> Result<(), KmsError> {
    let header = &wrapped.header;
    if header.context != *context {
        return Err(KmsError::WrongContext {
            found: header.context,
            asked: *context,
        });
    }
    if header.provider != provider || header.key != *key {
        return Err(KmsError::WrongKey {
            context: *context,
            found_provider: header.provider,
            found: header.key.clone(),
            provider,
            key: key.clone(),
        });
    }
    Ok(())
}

/// That a key in this state cannot do what was asked.
pub(super) fn unusable(key: &KeyId, state: KeyState) -> KmsError {
    match state {
        KeyState::Missing => KmsError::NotFound {
            key: key.to_string(),
        },
        state => KmsError::Disabled {
            key: key.clone(),
            state,
        },
    }
}

/// Refuses a waiting time that no backend takes.
pub(super) fn check_days(days: u32) -> Result<(), KmsError> {
    if DELETION_DAYS.contains(&days) {
        Ok(())
    } else {
        Err(KmsError::DeletionWindow { days })
    }
}

/// The present, to the second: envelope headers know no parts of one.
pub(super) fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
