//! Table `keys`: which KMS key is whose. The intent is written before the KMS is asked, so that a crash in between
//! leaves a trace.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::{RegistryError, time, words};
use crate::keys::{KeyId, TenantUid};

/// A tenant's key as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Whose it is.
    pub tenant: TenantUid,
    /// The kind of KMS that holds it, such as `aws` or `local`.
    pub provider: String,
    /// The KMS's name of it; none until it was made.
    pub id: Option<KeyId>,
    /// What was last asked of the KMS.
    pub state: State,
    /// Which of its versions wraps now.
    pub version: u32,
    /// When it was intended.
    pub created_at: Timestamp,
    /// When it was last rotated.
    pub rotated_at: Option<Timestamp>,
    /// When the KMS destroys it, or has destroyed it.
    pub deletion_at: Option<Timestamp>,
}

words! {
    /// What was last asked of the KMS.
    pub enum State in "the state of a key" {
        /// To be made; the KMS may have made it already.
        Intended = "intended",
        /// In use.
        Enabled = "enabled",
        /// Switched off.
        Disabled = "disabled",
        /// Switched off and going to be destroyed.
        PendingDeletion = "pending-deletion",
        /// Gone for ever.
        Destroyed = "destroyed",
    }
}

/// Notes that a tenant is to have a key; what is there already stays, and is returned.
pub async fn intend(
    connection: &mut PgConnection,
    tenant: TenantUid,
    provider: &str,
) -> Result<Key, RegistryError> {
    sqlx::query!(
        "INSERT INTO keys (tenant_uid, provider) VALUES ($1, $2) ON CONFLICT (tenant_uid) DO NOTHING",
        tenant.0,
        provider,
    )
    .execute(&mut *connection)
    .await?;
    find(connection, tenant)
        .await?
        .ok_or_else(|| missing(tenant, "that was just written"))
}

/// Notes that the KMS has made the key, and its name.
pub async fn created(
    connection: &mut PgConnection,
    tenant: TenantUid,
    id: &KeyId,
    version: u32,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE keys SET key_id = $2, key_version = $3, state = 'enabled'
         WHERE tenant_uid = $1 AND (state = 'intended' OR (state = 'enabled' AND key_id = $2))",
        tenant.0,
        id.as_str(),
        number(version)?,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), tenant, "that is still to be made")
}

/// Notes that the KMS has a new version of the key.
pub async fn rotated(
    connection: &mut PgConnection,
    tenant: TenantUid,
    version: u32,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE keys SET key_version = $2, rotated_at = $3 WHERE tenant_uid = $1 AND state = 'enabled'",
        tenant.0,
        number(version)?,
        time::write(at)?,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), tenant, "that is enabled")
}

/// Notes that the key was switched off, which also takes a planned destruction back.
pub async fn disabled(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE keys SET state = 'disabled', deletion_at = NULL
         WHERE tenant_uid = $1 AND state IN ('enabled', 'disabled', 'pending-deletion')",
        tenant.0,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), tenant, "that can be disabled")
}

/// Notes that the key is in use again.
pub async fn enabled(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE keys SET state = 'enabled', deletion_at = NULL
         WHERE tenant_uid = $1 AND state IN ('enabled', 'disabled', 'pending-deletion')",
        tenant.0,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), tenant, "that can be enabled")
}

/// Notes that the KMS is going to destroy the key.
pub async fn deletion_scheduled(
    connection: &mut PgConnection,
    tenant: TenantUid,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE keys SET state = 'pending-deletion', deletion_at = $2
         WHERE tenant_uid = $1 AND state IN ('enabled', 'disabled', 'pending-deletion')",
        tenant.0,
        time::write(at)?,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), tenant, "that can be destroyed")
}

/// Notes that the key is gone, or was given up before it was made.
pub async fn destroyed(
    connection: &mut PgConnection,
    tenant: TenantUid,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE keys SET state = 'destroyed',
             deletion_at = CASE WHEN state = 'destroyed' THEN deletion_at ELSE $2 END
         WHERE tenant_uid = $1",
        tenant.0,
        time::write(at)?,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), tenant, "at all")
}

/// A tenant's key.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Option<Key>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, provider, key_id, state, key_version, created_at, rotated_at, deletion_at FROM keys
         WHERE tenant_uid = $1",
        tenant.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Key::try_from)
    .transpose()
}

/// A tenant's key; nobody else changes it, or its data keys, until this transaction ends.
pub async fn lock(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Option<Key>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, provider, key_id, state, key_version, created_at, rotated_at, deletion_at FROM keys
         WHERE tenant_uid = $1 FOR UPDATE",
        tenant.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Key::try_from)
    .transpose()
}

/// Every key there is or was, oldest first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Key>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, provider, key_id, state, key_version, created_at, rotated_at, deletion_at FROM keys
         ORDER BY created_at, tenant_uid",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Key::try_from)
    .collect()
}

/// Keys whose end is still to be confirmed or put on record, soonest first: those that the KMS is going to destroy, and
/// those that it has destroyed of tenants whose last record is missing.
pub async fn to_confirm(connection: &mut PgConnection) -> Result<Vec<Key>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, provider, key_id, state, key_version, created_at, rotated_at, deletion_at FROM keys
         WHERE state = 'pending-deletion'
            OR state = 'destroyed'
                AND EXISTS (SELECT FROM evidence e WHERE e.tenant_uid = keys.tenant_uid AND e.stage = 'shredded')
                AND NOT EXISTS (SELECT FROM evidence e WHERE e.tenant_uid = keys.tenant_uid AND e.stage = 'destroyed')
         ORDER BY deletion_at, tenant_uid",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Key::try_from)
    .collect()
}

fn one(rows: u64, tenant: TenantUid, state: &str) -> Result<(), RegistryError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(missing(tenant, state))
    }
}

fn missing(tenant: TenantUid, state: &str) -> RegistryError {
    RegistryError::NotFound(format!("key of tenant {tenant} {state}"))
}

fn number(version: u32) -> Result<i32, RegistryError> {
    i32::try_from(version)
        .map_err(|_| RegistryError::unreadable("the version of a key", &version.to_string()))
}

struct Row {
    tenant_uid: Uuid,
    provider: String,
    key_id: Option<String>,
    state: String,
    key_version: i32,
    created_at: OffsetDateTime,
    rotated_at: Option<OffsetDateTime>,
    deletion_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Key {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        let id = row
            .key_id
            .map(|id| {
                KeyId::try_from(id.clone())
                    .map_err(|_| RegistryError::unreadable("the id of a key", &id))
            })
            .transpose()?;
        Ok(Self {
            tenant: TenantUid(row.tenant_uid),
            provider: row.provider,
            id,
            state: row.state.parse()?,
            version: row.key_version.unsigned_abs(),
            created_at: time::read("the begin of a key", row.created_at)?,
            rotated_at: time::read_optional("the rotation of a key", row.rotated_at)?,
            deletion_at: time::read_optional("the end of a key", row.deletion_at)?,
        })
    }
}
