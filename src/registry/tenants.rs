//! Table `tenants`: which tenants exist or ever existed. A row is never removed, so a UID is never used again.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::{RegistryError, time, words};
use crate::keys::TenantUid;

/// A tenant as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The UID of its resource.
    pub uid: TenantUid,
    /// Its name: free for others once it is a tombstone.
    pub name: String,
    /// The namespace of its silo.
    pub namespace: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was first written down.
    pub created_at: Timestamp,
    /// When it became a tombstone.
    pub ended_at: Option<Timestamp>,
}

words! {
    /// Where a tenant is in its life.
    pub enum State in "the state of a tenant" {
        /// It has a silo, or is getting one.
        Live = "live",
        /// Its silo is being taken apart; it can still come back until its key is gone.
        Offboarding = "offboarding",
        /// It was: what is left for ever.
        Tombstone = "tombstone",
    }
}

/// Writes a tenant down; what is there already stays. Another live tenant of that name, or another identity under that
/// UID, is a [`RegistryError::Conflict`], and so is a tombstone.
pub async fn register(
    connection: &mut PgConnection,
    uid: TenantUid,
    name: &str,
    namespace: &str,
) -> Result<Tenant, RegistryError> {
    sqlx::query!(
        "INSERT INTO tenants (uid, name, namespace) VALUES ($1, $2, $3) ON CONFLICT (uid) DO NOTHING",
        uid.0,
        name,
        namespace,
    )
    .execute(&mut *connection)
    .await?;
    let tenant = find(connection, uid)
        .await?
        .ok_or_else(|| missing(uid, "that was just written"))?;
    let conflict = |rule: &str, reason: String| {
        Err(RegistryError::Conflict {
            rule: rule.to_owned(),
            reason,
        })
    };
    if tenant.state == State::Tombstone {
        return conflict(
            "tenants_uid_is_never_reused",
            format!("tenant {uid} was {:?} and is offboarded", tenant.name),
        );
    }
    if (tenant.name.as_str(), tenant.namespace.as_str()) != (name, namespace) {
        return conflict(
            "tenants_identity_is_final",
            format!(
                "tenant {uid} is {:?} in namespace {:?}",
                tenant.name, tenant.namespace
            ),
        );
    }
    Ok(tenant)
}

/// A tenant by UID, tombstones too.
pub async fn find(
    connection: &mut PgConnection,
    uid: TenantUid,
) -> Result<Option<Tenant>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT uid, name, namespace, state, created_at, ended_at FROM tenants WHERE uid = $1",
        uid.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Tenant::try_from)
    .transpose()
}

/// The tenant that has this name now.
pub async fn find_live(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Tenant>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT uid, name, namespace, state, created_at, ended_at FROM tenants
         WHERE name = $1 AND state <> 'tombstone'",
        name,
    )
    .fetch_optional(connection)
    .await?
    .map(Tenant::try_from)
    .transpose()
}

/// Every tenant there is or was of this name, oldest first.
pub async fn find_all(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Vec<Tenant>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT uid, name, namespace, state, created_at, ended_at FROM tenants
         WHERE name = $1 ORDER BY created_at, uid",
        name,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Tenant::try_from)
    .collect()
}

/// Every tenant there is or was, oldest first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Tenant>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT uid, name, namespace, state, created_at, ended_at FROM tenants ORDER BY created_at, uid",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Tenant::try_from)
    .collect()
}

/// Begins the end of a tenant.
pub async fn offboard(connection: &mut PgConnection, uid: TenantUid) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE tenants SET state = 'offboarding' WHERE uid = $1 AND state IN ('live', 'offboarding')",
        uid.0,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), uid, "that is live")
}

/// Takes an offboarding back.
pub async fn reinstate(connection: &mut PgConnection, uid: TenantUid) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE tenants SET state = 'live' WHERE uid = $1 AND state IN ('live', 'offboarding')",
        uid.0,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), uid, "that can come back")
}

/// Makes a tenant that is being offboarded a tombstone. One that is a tombstone already stays as it is.
pub async fn bury(
    connection: &mut PgConnection,
    uid: TenantUid,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE tenants SET state = 'tombstone', ended_at = $2 WHERE uid = $1 AND state = 'offboarding'",
        uid.0,
        time::write(at)?,
    )
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0
        && find(connection, uid)
            .await?
            .is_some_and(|tenant| tenant.state == State::Tombstone)
    {
        return Ok(());
    }
    one(changed.rows_affected(), uid, "that is being offboarded")
}

fn one(rows: u64, uid: TenantUid, state: &str) -> Result<(), RegistryError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(missing(uid, state))
    }
}

fn missing(uid: TenantUid, state: &str) -> RegistryError {
    RegistryError::NotFound(format!("tenant {uid} {state}"))
}

struct Row {
    uid: Uuid,
    name: String,
    namespace: String,
    state: String,
    created_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Tenant {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Self {
            uid: TenantUid(row.uid),
            name: row.name,
            namespace: row.namespace,
            state: row.state.parse()?,
            created_at: time::read("the begin of a tenant", row.created_at)?,
            ended_at: time::read_optional("the end of a tenant", row.ended_at)?,
        })
    }
}
