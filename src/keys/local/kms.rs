//! What is asked of a KMS, done by the local provider.

use jiff::{SignedDuration, Timestamp};

use super::{ATTEMPTS, Local, busy, record::Record, seal, tenant_of};
use crate::keys::{
    Context, Header, KEY_LENGTH, KeyId, KeyState, Kms, KmsError, PlainKey, ProviderName, TenantUid,
    WrappedKey,
    kms::{check_days, check_header, to_the_second, unusable},
};

impl Kms for Local {
    fn provider(&self) -> ProviderName {
        ProviderName::Local
    }

    async fn create_key(&self, tenant: TenantUid) -> Result<KeyId, KmsError> {
        let key = KeyId::local(tenant);
        for _ in 0..ATTEMPTS {
            if let Some((_, record)) = self.settled(tenant).await? {
                return match record.state() {
                    KeyState::Enabled | KeyState::Disabled => Ok(key),
                    KeyState::Destroyed | KeyState::Missing => Err(KmsError::Ended { tenant }),
                    state @ KeyState::PendingDeletion { .. } => {
                        Err(KmsError::Disabled { key, state })
                    }
                };
            }
            let record = Record::new(tenant, to_the_second((self.clock)()))?.seal(&self.root)?;
            if self.store.replace(tenant, None, &record).await? {
                return Ok(key);
            }
        }
        Err(busy(tenant))
    }

    async fn describe(&self, key: &KeyId) -> Result<KeyState, KmsError> {
        let record = self.settled(tenant_of(key)?).await?;
        Ok(record.map_or(KeyState::Missing, |(_, record)| record.state()))
    }

    async fn generate(&self, key: &KeyId, context: &Context) -> Result<WrappedKey, KmsError> {
        let record = self.enabled(key).await?;
        let header = Header {
            provider: ProviderName::Local,
            key: key.clone(),
            key_version: record.newest(),
            context: *context,
            created: to_the_second((self.clock)()),
        };
        wrap(&record, header, &PlainKey::random()?)
    }

    async fn unwrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<PlainKey, KmsError> {
        check_header(ProviderName::Local, key, wrapped, context)?;
        open(&self.enabled(key).await?, wrapped)
    }

    async fn rewrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<WrappedKey, KmsError> {
        check_header(ProviderName::Local, key, wrapped, context)?;
        let record = self.enabled(key).await?;
        let plain = open(&record, wrapped)?;
        let header = Header {
            key_version: record.newest(),
            ..wrapped.header.clone()
        };
        wrap(&record, header, &plain)
    }

    async fn rotate_key(&self, key: &KeyId, from: u32) -> Result<u32, KmsError> {
        self.change(key, |record| {
            if record.state() != KeyState::Enabled {
                return Err(unusable(key, record.state()));
            }
            let newest = record.newest();
            if newest < from {
                return Err(KmsError::Unexpected {
                    action: "rotate",
                    object: key.to_string(),
                    detail: format!("its newest version is {newest}, and {from} was expected"),
                });
            }
            if newest == from {
                record.rotate(to_the_second((self.clock)()))?;
            }
            Ok(record.newest())
        })
        .await
    }

    async fn disable(&self, key: &KeyId) -> Result<(), KmsError> {
        self.switch(key, KeyState::Disabled).await
    }

    async fn enable(&self, key: &KeyId) -> Result<(), KmsError> {
        self.switch(key, KeyState::Enabled).await
    }

    async fn schedule_deletion(&self, key: &KeyId, days: u32) -> Result<Timestamp, KmsError> {
        check_days(days)?;
        let wait = SignedDuration::from_hours(i64::from(days) * 24);
        self.change(key, |record| match record.state() {
            KeyState::Enabled | KeyState::Disabled => {
                let at = to_the_second((self.clock)())
                    .saturating_add(wait)
                    .unwrap_or(Timestamp::MAX);
                record.set_state(KeyState::PendingDeletion { at });
                Ok(at)
            }
            KeyState::PendingDeletion { at } => Ok(at),
            state @ (KeyState::Destroyed | KeyState::Missing) => Err(unusable(key, state)),
        })
        .await
    }

    async fn cancel_deletion(&self, key: &KeyId) -> Result<(), KmsError> {
        self.change(key, |record| match record.state() {
            KeyState::Enabled | KeyState::Disabled => Ok(()),
            KeyState::PendingDeletion { .. } => {
                record.set_state(KeyState::Disabled);
                Ok(())
            }
            state @ (KeyState::Destroyed | KeyState::Missing) => Err(unusable(key, state)),
        })
        .await
    }

    async fn list_keys(&self) -> Result<Vec<(TenantUid, KeyId, KeyState)>, KmsError> {
        let mut keys = Vec::new();
        for tenant in self.store.list().await? {
            if let Some((_, record)) = self.settled(tenant).await? {
                keys.push((tenant, KeyId::local(tenant), record.state()));
            }
        }
        Ok(keys)
    }
}

impl Local {
    /// Enables or disables.
    async fn switch(&self, key: &KeyId, wanted: KeyState) -> Result<(), KmsError> {
        self.change(key, |record| match record.state() {
            KeyState::Enabled | KeyState::Disabled => {
                record.set_state(wanted);
                Ok(())
            }
            state => Err(unusable(key, state)),
        })
        .await
    }
}

/// Wraps under the version of the tenant's key that the header names.
fn wrap(record: &Record, header: Header, plain: &PlainKey) -> Result<WrappedKey, KmsError> {
    let kek = version(record, &header)?;
    let ciphertext = seal::seal(kek, seal::DATA_KEY, &header.to_bytes(), plain.expose())?;
    Ok(WrappedKey { header, ciphertext })
}

fn open(record: &Record, wrapped: &WrappedKey) -> Result<PlainKey, KmsError> {
    let header = &wrapped.header;
    let kek = version(record, header)?;
    seal::open(kek, seal::DATA_KEY, &header.to_bytes(), &wrapped.ciphertext)
        .and_then(|plain| PlainKey::try_from(plain.as_slice()).ok())
        .ok_or_else(|| corrupt(header))
}

fn version<'a>(record: &'a Record, header: &Header) -> Result<&'a [u8; KEY_LENGTH], KmsError> {
    record
        .version(header.key_version)
        .ok_or_else(|| corrupt(header))
}

fn corrupt(header: &Header) -> KmsError {
    KmsError::Corrupt {
        key: header.key.clone(),
        context: header.context,
    }
}
