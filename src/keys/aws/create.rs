//! One key per tenant, however often and by however many it is made.
//!
//! AWS makes a new key on each request, so a repeated request must not be one. Looked for are, in this order: the key
//! that the tenant's alias names, and a nameless key with the tenant's tag. Only then a key is made, with its tag, and
//! the alias is given to it. An alias can be given once: of two callers at once, one is refused, and uses the key of the
//! other. Its own key, which nobody has ever used, it gives to deletion.

use std::time::Duration;

use aws_sdk_kms::types::Tag;
use backon::{BackoffBuilder, ExponentialBuilder};

use super::{
    Aws, PLANE_TAG, TENANT_TAG, alias_of, arn_of, failure::outcome, id_of, once, state_of,
};
use crate::keys::{DELETION_DAYS, KeyId, KeyState, KmsError, TenantUid};

impl Aws {
    /// The tenant's key. Where a request may or may not have been carried out, everything is looked at anew.
    pub(super) async fn ensure_key(&self, tenant: TenantUid) -> Result<KeyId, KmsError> {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(2)
            .with_jitter()
            .build();
        let mut made = None;
        loop {
            match self.find_or_make(tenant, &mut made).await {
                Ok(key) => {
                    if let Some(made) = made.filter(|made| *made != key) {
                        self.discard(tenant, &made).await;
                    }
                    return Ok(key);
                }
                Err(error) => match waits.next() {
                    Some(wait) if error.is_transient() => tokio::time::sleep(wait).await,
                    _ => return Err(error),
                },
            }
        }
    }

    /// One round; `made` is the key that this or an earlier one made.
    async fn find_or_make(
        &self,
        tenant: TenantUid,
        made: &mut Option<KeyId>,
    ) -> Result<KeyId, KmsError> {
        if let Some(key) = self.named(tenant).await? {
            return Ok(key);
        }
        let nameless = self.nameless_keys(tenant).await?;
        if let Some(key) = nameless.first() {
            tracing::warn!(%tenant, %key, count = nameless.len(), "found a key of this tenant without its alias; it is used");
            return self.name(tenant, key).await;
        }
        let key = made.insert(self.make(tenant).await?);
        self.name(tenant, key).await
    }

    /// The key that the tenant's alias names, which must be tagged as the tenant's.
    async fn named(&self, tenant: TenantUid) -> Result<Option<KeyId>, KmsError> {
        let alias = alias_of(tenant);
        let Some(metadata) = self.metadata(&alias).await? else {
            return Ok(None);
        };
        let key = arn_of(&metadata)?;
        let owner = self.tags(key.as_str()).await?.unwrap_or_default().tenant;
        if owner.as_deref() != Some(&tenant.to_string()) {
            return Err(KmsError::AliasTaken { alias, key, owner });
        }
        match state_of(&metadata) {
            state @ KeyState::PendingDeletion { .. } => Err(KmsError::Disabled { key, state }),
            _ => Ok(Some(key)),
        }
    }

    /// Gives the alias to a key, and returns the key that has it: this one, or that of somebody who was first.
    async fn name(&self, tenant: TenantUid, key: &KeyId) -> Result<KeyId, KmsError> {
        let alias = alias_of(tenant);
        let answer = self
            .client
            .create_alias()
            .alias_name(&alias)
            .target_key_id(key.as_str())
            .send()
            .await;
        let again = |detail: &str| KmsError::Unreachable {
            action: "CreateAlias",
            object: alias.clone(),
            detail: detail.to_owned(),
        };
        match outcome("CreateAlias", &alias, answer) {
            Ok(_) => Ok(key.clone()),
            Err(failure) if failure.is_already_there() => self
                .named(tenant)
                .await?
                .ok_or_else(|| again("it was there and is not any more")),
            // AWS needs a moment until all of it knows of a new key.
            Err(failure) if failure.is_not_found() => Err(again("the key is not known yet")),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn make(&self, tenant: TenantUid) -> Result<KeyId, KmsError> {
        let uid = tenant.to_string();
        let object = format!("tenant {uid}");
        let failed = |detail: &str| KmsError::Unexpected {
            action: "CreateKey",
            object: object.clone(),
            detail: detail.to_owned(),
        };
        let mut request = self
            .client
            .create_key()
            .description(format!("Granary, tenant {uid}"));
        for (name, value) in [(TENANT_TAG, &uid), (PLANE_TAG, &self.plane)] {
            let tag = Tag::builder().tag_key(name).tag_value(value).build();
            request = request.tags(tag.map_err(|_| failed("a tag is incomplete"))?);
        }
        let answer = request.customize().config_override(once()).send().await;
        let made = outcome("CreateKey", &object, answer)?;
        let metadata = made.key_metadata.ok_or_else(|| failed("no metadata"))?;
        arn_of(&metadata)
    }

    /// Gives a key to deletion that was made in vain. If that fails it stays, nameless, and is listed as an orphan.
    async fn discard(&self, tenant: TenantUid, key: &KeyId) {
        let days = i32::try_from(*DELETION_DAYS.start()).unwrap_or(i32::MAX);
        let answer = self
            .client
            .schedule_key_deletion()
            .key_id(id_of(key))
            .pending_window_in_days(days)
            .send()
            .await;
        match outcome("ScheduleKeyDeletion", key.as_str(), answer) {
            Ok(_) => {
                tracing::info!(%tenant, %key, "somebody else made this tenant's key at the same time; this one is given to deletion");
            }
            Err(failure) => {
                let error = KmsError::from(failure);
                tracing::warn!(%tenant, %key, %error, "a key that was made in vain stays");
            }
        }
    }
}
