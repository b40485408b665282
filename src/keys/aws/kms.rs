//! What is asked of a KMS, done by AWS.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    Aws, check_arn, encryption_context,
    failure::{Failure, outcome},
    id_of, once, state_of, time,
};
use crate::keys::{
    Context, Header, KeyId, KeyState, Kms, KmsError, PlainKey, ProviderName, TenantUid, WrappedKey,
    kms::{check_days, check_header, to_the_second, unusable},
};

impl Kms for Aws {
    fn provider(&self) -> ProviderName {
        ProviderName::Aws
    }

    async fn create_key(&self, tenant: TenantUid) -> Result<KeyId, KmsError> {
        self.ensure_key(tenant).await
    }

    async fn describe(&self, key: &KeyId) -> Result<KeyState, KmsError> {
        let metadata = self.metadata(check_arn(key)?).await?;
        Ok(metadata.as_ref().map_or(KeyState::Missing, state_of))
    }

    async fn generate(&self, key: &KeyId, context: &Context) -> Result<WrappedKey, KmsError> {
        let header = Header {
            provider: ProviderName::Aws,
            key: key.clone(),
            key_version: 0,
            context: *context,
            created: to_the_second(Timestamp::now()),
        };
        let answer = self
            .client
            .generate_data_key_without_plaintext()
            .key_id(check_arn(key)?)
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(encryption_context(&header)))
            .send()
            .await;
        let made = match outcome("GenerateDataKeyWithoutPlaintext", key.as_str(), answer) {
            Ok(made) => made,
            Err(failure) => return Err(self.explain(key, failure).await),
        };
        wrapped(
            "GenerateDataKeyWithoutPlaintext",
            header,
            made.key_id.as_deref(),
            made.ciphertext_blob,
        )
    }

    async fn unwrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<PlainKey, KmsError> {
        check_header(ProviderName::Aws, key, wrapped, context)?;
        self.must_be_enabled(key).await?;
        let answer = self
            .client
            .decrypt()
            .key_id(key.as_str())
            .ciphertext_blob(Blob::new(wrapped.ciphertext.clone()))
            .set_encryption_context(Some(encryption_context(&wrapped.header)))
            .send()
            .await;
        let decrypted = match outcome("Decrypt", key.as_str(), answer) {
            Ok(decrypted) => decrypted,
            Err(failure) if failure.is_ciphertext() => return Err(corrupt(wrapped)),
            Err(failure) => return Err(self.explain(key, failure).await),
        };
        check_used("Decrypt", key, decrypted.key_id())?;
        let plain = Zeroizing::new(
            decrypted
                .plaintext
                .map(Blob::into_inner)
                .unwrap_or_default(),
        );
        PlainKey::try_from(plain.as_slice()).map_err(|error| KmsError::Unexpected {
            action: "Decrypt",
            object: key.to_string(),
            detail: error.to_string(),
        })
    }

    async fn rewrap(
        &self,
        key: &KeyId,
        wrapped: &WrappedKey,
        context: &Context,
    ) -> Result<WrappedKey, KmsError> {
        check_header(ProviderName::Aws, key, wrapped, context)?;
        self.must_be_enabled(key).await?;
        let context = encryption_context(&wrapped.header);
        let answer = self
            .client
            .re_encrypt()
            .source_key_id(key.as_str())
            .destination_key_id(key.as_str())
            .ciphertext_blob(Blob::new(wrapped.ciphertext.clone()))
            .set_source_encryption_context(Some(context.clone()))
            .set_destination_encryption_context(Some(context))
            .send()
            .await;
        let made = match outcome("ReEncrypt", key.as_str(), answer) {
            Ok(made) => made,
            Err(failure) if failure.is_ciphertext() => return Err(corrupt(wrapped)),
            Err(failure) => return Err(self.explain(key, failure).await),
        };
        check_used("ReEncrypt", key, made.source_key_id())?;
        self::wrapped(
            "ReEncrypt",
            wrapped.header.clone(),
            made.key_id.as_deref(),
            made.ciphertext_blob,
        )
    }

    async fn rotate_key(&self, key: &KeyId, from: u32) -> Result<u32, KmsError> {
        self.must_be_enabled(key).await?;
        let newest = self.newest_version(key).await?;
        if newest > from {
            return Ok(newest);
        }
        let busy = |detail: String| KmsError::Busy {
            key: key.clone(),
            detail,
        };
        if newest < from {
            return Err(busy(format!(
                "the KMS lists version {newest} as its newest, and {from} is expected"
            )));
        }
        // Not repeated by the SDK: a lost answer would rotate twice. The next call sees by the list what was done.
        let answer = self
            .client
            .rotate_key_on_demand()
            .key_id(key.as_str())
            .customize()
            .config_override(once())
            .send()
            .await;
        match outcome("RotateKeyOnDemand", key.as_str(), answer) {
            Ok(_) => Ok(from + 1),
            Err(failure) if failure.is_conflict() => {
                Err(busy("a rotation is under way".to_owned()))
            }
            Err(failure) => Err(self.explain(key, failure).await),
        }
    }

    async fn disable(&self, key: &KeyId) -> Result<(), KmsError> {
        if self.switchable(key).await? == KeyState::Disabled {
            return Ok(());
        }
        let answer = self.client.disable_key().key_id(id_of(key)).send().await;
        match outcome("DisableKey", key.as_str(), answer) {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.explain(key, failure).await),
        }
    }

    async fn enable(&self, key: &KeyId) -> Result<(), KmsError> {
        if self.switchable(key).await? == KeyState::Enabled {
            return Ok(());
        }
        let answer = self.client.enable_key().key_id(id_of(key)).send().await;
        match outcome("EnableKey", key.as_str(), answer) {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.explain(key, failure).await),
        }
    }

    async fn schedule_deletion(&self, key: &KeyId, days: u32) -> Result<Timestamp, KmsError> {
        check_days(days)?;
        match self.describe(key).await? {
            KeyState::PendingDeletion { at } => return Ok(at),
            state @ (KeyState::Missing | KeyState::Destroyed) => return Err(unusable(key, state)),
            KeyState::Enabled | KeyState::Disabled => {}
        }
        let answer = self
            .client
            .schedule_key_deletion()
            .key_id(id_of(key))
            .pending_window_in_days(i32::try_from(days).unwrap_or(i32::MAX))
            .send()
            .await;
        match outcome("ScheduleKeyDeletion", key.as_str(), answer) {
            Ok(scheduled) => {
                if let Some(at) = scheduled.deletion_date() {
                    return Ok(time(at));
                }
            }
            // Scheduled meanwhile, perhaps by this very call, whose first answer was lost.
            Err(failure) if failure.is_state() => {}
            Err(failure) => return Err(failure.into()),
        }
        match self.describe(key).await? {
            KeyState::PendingDeletion { at } => Ok(at),
            state => Err(unusable(key, state)),
        }
    }

    async fn cancel_deletion(&self, key: &KeyId) -> Result<(), KmsError> {
        match self.describe(key).await? {
            KeyState::Enabled | KeyState::Disabled => return Ok(()),
            state @ (KeyState::Missing | KeyState::Destroyed) => return Err(unusable(key, state)),
            KeyState::PendingDeletion { .. } => {}
        }
        let answer = self
            .client
            .cancel_key_deletion()
            .key_id(id_of(key))
            .send()
            .await;
        match outcome("CancelKeyDeletion", key.as_str(), answer) {
            Ok(_) => Ok(()),
            // Cancelled meanwhile, perhaps by this very call, whose first answer was lost.
            Err(failure) if failure.is_state() => self.switchable(key).await.map(drop),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn list_keys(&self) -> Result<Vec<(TenantUid, KeyId, KeyState)>, KmsError> {
        self.own_keys().await
    }
}

impl Aws {
    async fn must_be_enabled(&self, key: &KeyId) -> Result<(), KmsError> {
        match self.describe(key).await? {
            KeyState::Enabled => Ok(()),
            state => Err(unusable(key, state)),
        }
    }

    /// The state of a key that can be enabled and disabled.
    async fn switchable(&self, key: &KeyId) -> Result<KeyState, KmsError> {
        match self.describe(key).await? {
            state @ (KeyState::Enabled | KeyState::Disabled) => Ok(state),
            state => Err(unusable(key, state)),
        }
    }

    /// Which state it is that the KMS complains about.
    async fn explain(&self, key: &KeyId, failure: Failure) -> KmsError {
        if !failure.is_state() {
            return failure.into();
        }
        match self.describe(key).await {
            Ok(KeyState::Enabled) => KmsError::Busy {
                key: key.clone(),
                detail: "its state is changing".to_owned(),
            },
            Ok(state) => unusable(key, state),
            Err(error) => error,
        }
    }

    /// Versions are counted by the rotations that are done: AWS names versions by ids and shows no numbers.
    async fn newest_version(&self, key: &KeyId) -> Result<u32, KmsError> {
        let mut pages = self
            .client
            .list_key_rotations()
            .key_id(key.as_str())
            .into_paginator()
            .items()
            .send();
        let mut newest = 1;
        while let Some(rotation) = pages.next().await {
            outcome("ListKeyRotations", key.as_str(), rotation)?;
            newest += 1;
        }
        Ok(newest)
    }
}

/// That the KMS used the key it was told to use.
fn check_used(action: &'static str, key: &KeyId, used: Option<&str>) -> Result<(), KmsError> {
    if used == Some(key.as_str()) {
        return Ok(());
    }
    Err(KmsError::Unexpected {
        action,
        object: key.to_string(),
        detail: format!("it used {} instead", used.unwrap_or("a key without a name")),
    })
}

fn wrapped(
    action: &'static str,
    header: Header,
    used: Option<&str>,
    ciphertext: Option<Blob>,
) -> Result<WrappedKey, KmsError> {
    check_used(action, &header.key, used)?;
    let ciphertext = ciphertext.map(Blob::into_inner).unwrap_or_default();
    if ciphertext.is_empty() {
        return Err(KmsError::Unexpected {
            action,
            object: header.key.to_string(),
            detail: "no ciphertext".to_owned(),
        });
    }
    Ok(WrappedKey { header, ciphertext })
}

fn corrupt(wrapped: &WrappedKey) -> KmsError {
    KmsError::Corrupt {
        key: wrapped.header.key.clone(),
        context: wrapped.header.context,
    }
}
