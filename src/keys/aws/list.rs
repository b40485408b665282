//! Looking through all keys of the account.

use std::collections::HashMap;

use aws_sdk_kms::types::KeyMetadata;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Aws, PLANE_TAG, TENANT_TAG, arn_of, failure::outcome, state_of};
use crate::keys::{KeyId, KeyState, KmsError, TenantUid};

/// How many keys are looked at side by side. AWS allows thousands of such requests per second, to all callers together.
const AT_ONCE: usize = 8;

/// What a key's tags say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// The tenant, as it is written there.
    pub tenant: Option<String>,
    /// The installation that made it.
    pub plane: Option<String>,
}

impl Aws {
    /// Every key of this installation, in any state, with the tenant of its tag.
    pub(super) async fn own_keys(&self) -> Result<Vec<(TenantUid, KeyId, KeyState)>, KmsError> {
        let ids = self.key_ids().await?;
        let aliases = self.aliases().await?;
        // All but those that AWS made for its own services. Whoever took our alias from a key has not changed whose it is.
        let candidates = ids.into_iter().filter(|id| {
            aliases
                .get(id)
                .is_none_or(|names| !names.iter().any(|name| name.starts_with("alias/aws/")))
        });
        let looks = stream::iter(candidates).map(|id| async move { self.own_key(&id).await });
        let found: Vec<_> = looks.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn own_key(&self, id: &str) -> Result<Option<(TenantUid, KeyId, KeyState)>, KmsError> {
        let Some(tags) = self.tags(id).await? else {
            return Ok(None);
        };
        let tenant = tags.tenant.and_then(|uid| uid.parse::<TenantUid>().ok());
        let (Some(tenant), true) = (tenant, tags.plane.as_deref() == Some(&self.plane)) else {
            return Ok(None);
        };
        let Some(metadata) = self.metadata(id).await? else {
            return Ok(None);
        };
        Ok(Some((tenant, arn_of(&metadata)?, state_of(&metadata))))
    }

    /// Keys with this tenant's tag that nobody has named, oldest first: what a caller left that ended between making a
    /// key and naming it. Keys that are going to be destroyed do not count.
    pub(super) async fn nameless_keys(&self, tenant: TenantUid) -> Result<Vec<KeyId>, KmsError> {
        // In this order: a key that is named between the two questions is then left out, not taken for nameless.
        let ids = self.key_ids().await?;
        let aliases = self.aliases().await?;
        let wanted = tenant.to_string();
        let candidates = ids.into_iter().filter(|id| !aliases.contains_key(id));
        let wanted = &wanted;
        let looks = stream::iter(candidates).map(|id| async move {
            let tags = self.tags(&id).await?.unwrap_or_default();
            if tags.tenant.as_ref() != Some(wanted) {
                return Ok(None);
            }
            self.metadata(&id).await
        });
        let found: Vec<Option<KeyMetadata>> = looks.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut live: Vec<KeyMetadata> = found.into_iter().flatten().collect();
        live.retain(|key| !matches!(state_of(key), KeyState::PendingDeletion { .. }));
        live.sort_by_key(|key| {
            let created = key
                .creation_date()
                .map(|date| (date.secs(), date.subsec_nanos()));
            (created, key.key_id().to_owned())
        });
        live.iter().map(arn_of).collect()
    }

    /// The tags of a key; nothing where there is no such key any more.
    pub(super) async fn tags(&self, key: &str) -> Result<Option<Tags>, KmsError> {
        let mut pages = self
            .client
            .list_resource_tags()
            .key_id(key)
            .into_paginator()
            .items()
            .send();
        let mut tags = Tags::default();
        while let Some(tag) = pages.next().await {
            let tag = match outcome("ListResourceTags", key, tag) {
                Ok(tag) => tag,
                Err(failure) if failure.is_not_found() => return Ok(None),
                Err(failure) => return Err(failure.into()),
            };
            match tag.tag_key() {
                TENANT_TAG => tags.tenant = Some(tag.tag_value().to_owned()),
                PLANE_TAG => tags.plane = Some(tag.tag_value().to_owned()),
                _ => {}
            }
        }
        Ok(Some(tags))
    }

    /// A key's metadata, by id, ARN or alias; nothing where there is none.
    pub(super) async fn metadata(&self, key: &str) -> Result<Option<KeyMetadata>, KmsError> {
        let answer = self.client.describe_key().key_id(key).send().await;
        match outcome("DescribeKey", key, answer) {
            Ok(described) => described
                .key_metadata
                .map(Some)
                .ok_or_else(|| KmsError::Unexpected {
                    action: "DescribeKey",
                    object: key.to_owned(),
                    detail: "no metadata".to_owned(),
                }),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn key_ids(&self) -> Result<Vec<String>, KmsError> {
        let mut pages = self
            .client
            .list_keys()
            .limit(1000)
            .into_paginator()
            .items()
            .send();
        let mut ids = Vec::new();
        while let Some(key) = pages.next().await {
            let key = outcome("ListKeys", "this account", key)?;
            ids.extend(key.key_id);
        }
        Ok(ids)
    }

    /// The aliases of each key that has any.
    async fn aliases(&self) -> Result<HashMap<String, Vec<String>>, KmsError> {
        let mut pages = self
            .client
            .list_aliases()
            .limit(100)
            .into_paginator()
            .items()
            .send();
        let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
        while let Some(alias) = pages.next().await {
            let alias = outcome("ListAliases", "this account", alias)?;
            if let (Some(key), Some(name)) = (alias.target_key_id, alias.alias_name) {
                aliases.entry(key).or_default().push(name);
            }
        }
        Ok(aliases)
    }
}
