//! The local provider: what a KMS does, with a file for a root key. For evaluation only.
//!
//! ```text
//! root key (file) ─seals→ record of a tenant: state, key-encryption keys by version ─seal→ data keys
//! ```
//!
//! Each tenant has key-encryption keys of its own, kept in one record that the root key seals. Destroying a tenant's key
//! replaces that record by one without keys, so that nothing is left for the root key to open, and no other tenant
//! notices. State and keys are sealed together: who can write the store cannot enable a key again. Who can bring back
//! an old copy of a record can, and the key server's memory holds data keys while it wraps them: a real KMS does
//! neither, which is why this one is for evaluation only.

mod folder;
mod kms;
mod record;
mod root_key;
mod seal;
mod store;

use std::{fmt, path::Path, sync::Arc};

use jiff::Timestamp;

use self::record::Record;
use super::{KeyId, KeyState, KmsError, ProviderName, StartError, TenantUid, kms::unusable};

pub use folder::FolderStore;
pub use root_key::{RootKey, RootKeyError};
pub use store::{KekStore, StoreError};

/// How often a change is tried anew when somebody else changed the same record meanwhile.
const ATTEMPTS: u32 = 16;

/// The local provider.
#[derive(Clone)]
pub struct Local {
    root: Arc<RootKey>,
    store: Arc<dyn KekStore>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Local {
    /// Reads the root key and sees whether it opens what is in the store.
    pub async fn open(root_key: &Path, store: Arc<dyn KekStore>) -> Result<Self, StartError> {
        let local = Self {
            root: Arc::new(RootKey::read(root_key)?),
            store,
            clock: Arc::new(Timestamp::now),
        };
        if let Some(tenant) = local.store.list().await?.first() {
            local.settled(*tenant).await?;
        }
        tracing::warn!(
            root_key = %root_key.display(),
            "keys are kept by the local provider, under a root key in a file: for evaluation only, use a KMS for anything that matters"
        );
        Ok(local)
    }

    /// The same with another clock, which decides when a scheduled deletion is due.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// The record as it is now: a deletion that is due is carried out first.
    async fn settled(&self, tenant: TenantUid) -> Result<Option<(Vec<u8>, Record)>, KmsError> {
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.store.load(tenant).await? else {
                return Ok(None);
            };
            let mut record = Record::open(&self.root, tenant, &stored)?;
            if !record.destroy_if_due((self.clock)()) {
                return Ok(Some((stored, record)));
            }
            let tombstone = record.seal(&self.root)?;
            self.store
                .replace(tenant, Some(&stored), &tombstone)
                .await?;
        }
        Err(busy(tenant))
    }

    /// The record of a key that is there.
    async fn found(&self, key: &KeyId) -> Result<(Vec<u8>, Record), KmsError> {
        self.settled(tenant_of(key)?)
            .await?
            .ok_or_else(|| KmsError::NotFound {
                key: key.to_string(),
            })
    }

    /// The record of a key that may be used.
    async fn enabled(&self, key: &KeyId) -> Result<Record, KmsError> {
        let (_, record) = self.found(key).await?;
        match record.state() {
            KeyState::Enabled => Ok(record),
            state => Err(unusable(key, state)),
        }
    }

    /// Changes a record, whoever else changes it at the same time. `edit` returns what to answer, and leaves the record
    /// as it is where nothing is to be done.
    async fn change<T: Send>(
        &self,
        key: &KeyId,
        edit: impl Fn(&mut Record) -> Result<T, KmsError> + Send + Sync,
    ) -> Result<T, KmsError> {
        let tenant = tenant_of(key)?;
        for _ in 0..ATTEMPTS {
            let (stored, mut record) = self.found(key).await?;
            let before = record.facts().clone();
            let answer = edit(&mut record)?;
            if *record.facts() == before {
                return Ok(answer);
            }
            let changed = record.seal(&self.root)?;
            if self.store.replace(tenant, Some(&stored), &changed).await? {
                return Ok(answer);
            }
        }
        Err(busy(tenant))
    }
}

/// Whose key this is; [`KeyId::local`] the other way round.
fn tenant_of(key: &KeyId) -> Result<TenantUid, KmsError> {
    key.as_local().ok_or_else(|| KmsError::ForeignKey {
        key: key.clone(),
        provider: ProviderName::Local,
        expected: "its keys are called local:<tenant uid>",
    })
}

/// More concurrent changes than anybody makes.
fn busy(tenant: TenantUid) -> KmsError {
    KmsError::Busy {
        key: KeyId::local(tenant),
        detail: format!("{ATTEMPTS} attempts met another change"),
    }
}

#[cfg(test)]
mod tests;
