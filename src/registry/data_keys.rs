//! Table `data_keys`: the data keys of each tenant, wrapped by its key. One version per purpose writes, older ones are
//! read until nothing needs them.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::{RegistryError, time, words};
use crate::keys::{Context, Purpose, TenantUid};

/// A wrapped data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Whose it is, what it is for, and which version of it.
    pub context: Context,
    /// The envelope that the KMS can open.
    pub wrapped: Vec<u8>,
    /// What it is used for now.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
}

words! {
    /// What a data key is used for now.
    pub enum State in "the state of a data key" {
        /// Writes and reads.
        Active = "active",
        /// Reads, until what it wrote is rewritten.
        Retiring = "retiring",
        /// Not handed out any more.
        Retired = "retired",
    }
}

/// How many data keys a tenant has of each purpose and state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whose they are.
    pub tenant: TenantUid,
    /// What they are for.
    pub purpose: Purpose,
    /// The version that writes.
    pub active: Option<u32>,
    /// When the version that writes was made.
    pub active_since: Option<Timestamp>,
    /// How many older versions are still read.
    pub retiring: u32,
}

/// Adds the next version, which writes from now on; the one before only reads from now on. Asked for again with the
/// same envelope it does nothing. A version that is not the next one is a [`RegistryError::Conflict`]: somebody else
/// was faster.
pub async fn activate(
    connection: &mut PgConnection,
    context: &Context,
    wrapped: &[u8],
) -> Result<(), RegistryError> {
    let Context {
        tenant,
        purpose,
        version,
    } = *context;
    let newest = newest(connection, tenant, purpose).await?;
    if newest.as_ref().is_some_and(|newest| {
        newest.context == *context && newest.wrapped == wrapped && newest.state == State::Active
    }) {
        return Ok(());
    }
    let next = newest.map_or(1, |newest| newest.context.version + 1);
    if version != next {
        return Err(RegistryError::Conflict {
            rule: "data_keys_versions_follow".to_owned(),
            reason: format!("{context} does not follow: the next version is {next}"),
        });
    }
    sqlx::query!(
        "UPDATE data_keys SET state = 'retiring'
         WHERE tenant_uid = $1 AND purpose = $2 AND state = 'active'",
        tenant.0,
        purpose.as_str(),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO data_keys (tenant_uid, purpose, version, wrapped) VALUES ($1, $2, $3, $4)",
        tenant.0,
        purpose.as_str(),
        number(version)?,
        wrapped,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces the envelope of a data key by another one of the same data key.
pub async fn rewrap(
    connection: &mut PgConnection,
    context: &Context,
    wrapped: &[u8],
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE data_keys SET wrapped = $4
         WHERE tenant_uid = $1 AND purpose = $2 AND version = $3 AND state <> 'retired'",
        context.tenant.0,
        context.purpose.as_str(),
        number(context.version)?,
        wrapped,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), context, "that is in use")
}

/// Takes an older version out of use, because nothing needs it any more. Again it does nothing.
pub async fn retire(
    connection: &mut PgConnection,
    context: &Context,
    at: Timestamp,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE data_keys SET state = 'retired', retired_at = coalesce(retired_at, $4)
         WHERE tenant_uid = $1 AND purpose = $2 AND version = $3 AND state <> 'active'",
        context.tenant.0,
        context.purpose.as_str(),
        number(context.version)?,
        time::write(at)?,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), context, "that only reads")
}

/// The versions that a pod may have, newest first: the one that writes and those that are still read.
pub async fn readable(
    connection: &mut PgConnection,
    tenant: TenantUid,
    purpose: Purpose,
) -> Result<Vec<DataKey>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, purpose, version, wrapped, state, created_at, retired_at FROM data_keys
         WHERE tenant_uid = $1 AND purpose = $2 AND state <> 'retired' ORDER BY version DESC",
        tenant.0,
        purpose.as_str(),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(DataKey::try_from)
    .collect()
}

/// Every data key that a tenant has or had, by purpose, newest first.
pub async fn of_tenant(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Vec<DataKey>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, purpose, version, wrapped, state, created_at, retired_at FROM data_keys
         WHERE tenant_uid = $1 ORDER BY purpose, version DESC",
        tenant.0,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(DataKey::try_from)
    .collect()
}

/// One data key.
pub async fn find(
    connection: &mut PgConnection,
    context: &Context,
) -> Result<Option<DataKey>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, purpose, version, wrapped, state, created_at, retired_at FROM data_keys
         WHERE tenant_uid = $1 AND purpose = $2 AND version = $3",
        context.tenant.0,
        context.purpose.as_str(),
        number(context.version)?,
    )
    .fetch_optional(connection)
    .await?
    .map(DataKey::try_from)
    .transpose()
}

/// How every tenant stands, for lists and for finding what is due for rotation.
pub async fn summaries(connection: &mut PgConnection) -> Result<Vec<Summary>, RegistryError> {
    let rows = sqlx::query!(
        r#"SELECT tenant_uid, purpose,
             max(version) FILTER (WHERE state = 'active') AS active,
             max(created_at) FILTER (WHERE state = 'active') AS active_since,
             count(*) FILTER (WHERE state = 'retiring') AS "retiring!"
           FROM data_keys GROUP BY tenant_uid, purpose ORDER BY tenant_uid, purpose"#,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Summary {
                tenant: TenantUid(row.tenant_uid),
                purpose: purpose(&row.purpose)?,
                active: row.active.map(i32::unsigned_abs),
                active_since: time::read_optional("the begin of a data key", row.active_since)?,
                retiring: u32::try_from(row.retiring).unwrap_or(u32::MAX),
            })
        })
        .collect()
}

async fn newest(
    connection: &mut PgConnection,
    tenant: TenantUid,
    purpose: Purpose,
) -> Result<Option<DataKey>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, purpose, version, wrapped, state, created_at, retired_at FROM data_keys
         WHERE tenant_uid = $1 AND purpose = $2 ORDER BY version DESC LIMIT 1",
        tenant.0,
        purpose.as_str(),
    )
    .fetch_optional(connection)
    .await?
    .map(DataKey::try_from)
    .transpose()
}

fn one(rows: u64, context: &Context, state: &str) -> Result<(), RegistryError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(RegistryError::NotFound(format!("{context} {state}")))
    }
}

fn number(version: u32) -> Result<i32, RegistryError> {
    i32::try_from(version)
        .map_err(|_| RegistryError::unreadable("the version of a data key", &version.to_string()))
}

fn purpose(word: &str) -> Result<Purpose, RegistryError> {
    word.parse()
        .map_err(|_| RegistryError::unreadable("the purpose of a data key", word))
}

struct Row {
    tenant_uid: Uuid,
    purpose: String,
    version: i32,
    wrapped: Vec<u8>,
    state: String,
    created_at: OffsetDateTime,
    retired_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for DataKey {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Self {
            context: Context {
                tenant: TenantUid(row.tenant_uid),
                purpose: purpose(&row.purpose)?,
                version: row.version.unsigned_abs(),
            },
            wrapped: row.wrapped,
            state: row.state.parse()?,
            created_at: time::read("the begin of a data key", row.created_at)?,
            retired_at: time::read_optional("the end of a data key", row.retired_at)?,
        })
    }
}
