//! What the registry knows of one tenant's keys, read at one moment.

use sqlx::PgConnection;

use super::problem::{Code, Refusal};
use super::shared::Shared;
use super::wire::{DataKeyInfo, KeyInfo, TenantKeys};
use crate::keys::{KeyId, KeyState, Purpose, TenantUid};
use crate::registry::data_keys::{self, DataKey};
use crate::registry::{keys, tenants};

/// A tenant, its key and its data keys.
#[derive(Clone, Debug)]
pub struct Record {
    /// The tenant.
    pub tenant: tenants::Tenant,
    /// Its key.
    pub key: keys::Key,
    /// Its data keys, by purpose and then newest first.
    pub data_keys: Vec<DataKey>,
}

impl Record {
    /// Reads it; a tenant without a key is unknown here.
    pub async fn read(shared: &Shared, uid: TenantUid) -> Result<Self, Refusal> {
        let mut connection = shared.registry.acquire().await?;
        Self::find(&mut connection, uid).await?.ok_or_else(|| {
            let detail = format!("the registry has no key of a tenant {uid}");
            Refusal::new(Code::TenantUnknown, detail)
        })
    }

    /// Reads it, if tenant and key are there.
    pub async fn find(
        connection: &mut PgConnection,
        uid: TenantUid,
    ) -> Result<Option<Self>, Refusal> {
        let Some(tenant) = tenants::find(connection, uid).await? else {
            return Ok(None);
        };
        let Some(key) = keys::find(connection, uid).await? else {
            return Ok(None);
        };
        let data_keys = data_keys::of_tenant(connection, uid).await?;
        Ok(Some(Self {
            tenant,
            key,
            data_keys,
        }))
    }

    /// UID and name, for the audit.
    pub fn whose(&self) -> (TenantUid, &str) {
        (self.tenant.uid, &self.tenant.name)
    }

    /// The version of a purpose that writes.
    pub fn active(&self, purpose: Purpose) -> Option<u32> {
        self.data_keys
            .iter()
            .find(|key| key.context.purpose == purpose && key.state == data_keys::State::Active)
            .map(|key| key.context.version)
    }

    /// The KMS's name of the key, where it was made.
    pub fn key_id(&self) -> Result<&KeyId, Refusal> {
        self.key.id.as_ref().ok_or_else(|| {
            let detail = format!("the key of tenant {} is being made", self.tenant.name);
            Refusal::new(Code::NoKeyYet, detail)
        })
    }

    /// That the request does not fit the states that tenant and key are in.
    pub fn conflict(&self, wanted: &str) -> Refusal {
        let Self { tenant, key, .. } = self;
        let detail = format!(
            "tenant {} is {} and its key is {}: {wanted}",
            tenant.name, tenant.state, key.state
        );
        Refusal::new(Code::Conflict, detail)
    }

    /// That the key has to be in use for this.
    pub fn in_use(&self) -> Result<&KeyId, Refusal> {
        if self.tenant.state == tenants::State::Live && self.key.state == keys::State::Enabled {
            self.key_id()
        } else {
            Err(self.conflict("keys are changed while the tenant is live and its key enabled"))
        }
    }

    /// The answer to the operator. `kms` is what the KMS said, if it was asked.
    pub fn answer(self, kms: Option<KeyState>) -> TenantKeys {
        TenantKeys {
            tenant: self.tenant.uid,
            name: self.tenant.name,
            tenant_state: self.tenant.state,
            key: KeyInfo {
                provider: self.key.provider,
                id: self.key.id,
                state: self.key.state,
                version: self.key.version,
                created_at: self.key.created_at,
                rotated_at: self.key.rotated_at,
                deletion_at: self.key.deletion_at,
                kms,
            },
            data_keys: self
                .data_keys
                .into_iter()
                .map(|key| DataKeyInfo {
                    purpose: key.context.purpose,
                    version: key.context.version,
                    state: key.state,
                    created_at: key.created_at,
                    retired_at: key.retired_at,
                })
                .collect(),
        }
    }
}
