//! Table `operations`: how far a change that takes several steps has come, so that it goes on there after an
//! interruption.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::{RegistryError, time, words};
use crate::keys::TenantUid;

/// A change that takes several steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its own id; later ones are greater.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: TenantUid,
    /// What is being done.
    pub kind: Kind,
    /// The step that it is at.
    pub step: String,
    /// Whether it still goes on.
    pub state: State,
    /// What the steps before have found out, as an object; no secrets.
    pub detail: Value,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it last came a step further.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

words! {
    /// What is being done.
    pub enum Kind in "the kind of an operation" {
        /// A tenant gets its key and its silo.
        Onboard = "onboard",
        /// What a tenant's spec asks for is changed.
        Change = "change",
        /// The data keys of a tenant get new versions.
        Rotate = "rotate",
        /// The data of a tenant are handed out, sealed.
        Export = "export",
        /// A tenant ends.
        Offboard = "offboard",
        /// An offboarding is taken back.
        Reinstate = "reinstate",
    }
}

words! {
    /// Whether an operation still goes on.
    pub enum State in "the state of an operation" {
        /// It goes on.
        Running = "running",
        /// It has done what it was for.
        Done = "done",
        /// It was given up.
        Failed = "failed",
    }
}

/// Begins an operation; one of this kind that is still running for the tenant is returned instead, as it is.
pub async fn start(
    connection: &mut PgConnection,
    tenant: TenantUid,
    kind: Kind,
    step: &str,
    detail: &Value,
) -> Result<Operation, RegistryError> {
    sqlx::query!(
        "INSERT INTO operations (id, tenant_uid, kind, step, detail) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_uid, kind) WHERE state = 'running' DO NOTHING",
        Uuid::now_v7(),
        tenant.0,
        kind.as_str(),
        step,
        detail,
    )
    .execute(&mut *connection)
    .await?;
    running(connection, tenant, kind).await?.ok_or_else(|| {
        RegistryError::NotFound(format!("{kind} of tenant {tenant} that was just begun"))
    })
}

/// Notes that a running operation has come to another step.
pub async fn advance(
    connection: &mut PgConnection,
    id: Uuid,
    step: &str,
    detail: &Value,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE operations SET step = $2, detail = $3, updated_at = now() WHERE id = $1 AND state = 'running'",
        id,
        step,
        detail,
    )
    .execute(connection)
    .await?;
    one(changed.rows_affected(), id)
}

/// Ends a running operation. One that ended the same way already stays as it is.
pub async fn finish(
    connection: &mut PgConnection,
    id: Uuid,
    state: State,
    detail: &Value,
) -> Result<(), RegistryError> {
    let changed = sqlx::query!(
        "UPDATE operations SET state = $2, detail = $3, updated_at = now(), finished_at = now()
         WHERE id = $1 AND state = 'running'",
        id,
        state.as_str(),
        detail,
    )
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0
        && find(connection, id)
            .await?
            .is_some_and(|operation| operation.state == state)
    {
        return Ok(());
    }
    one(changed.rows_affected(), id)
}

/// The operation of this kind that is running for a tenant.
pub async fn running(
    connection: &mut PgConnection,
    tenant: TenantUid,
    kind: Kind,
) -> Result<Option<Operation>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT id, tenant_uid, kind, step, state, detail, started_at, updated_at, finished_at FROM operations
         WHERE tenant_uid = $1 AND kind = $2 AND state = 'running'",
        tenant.0,
        kind.as_str(),
    )
    .fetch_optional(connection)
    .await?
    .map(Operation::try_from)
    .transpose()
}

/// One operation.
pub async fn find(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<Operation>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT id, tenant_uid, kind, step, state, detail, started_at, updated_at, finished_at FROM operations
         WHERE id = $1",
        id,
    )
    .fetch_optional(connection)
    .await?
    .map(Operation::try_from)
    .transpose()
}

/// Every operation of a tenant, oldest first.
pub async fn of_tenant(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Vec<Operation>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT id, tenant_uid, kind, step, state, detail, started_at, updated_at, finished_at FROM operations
         WHERE tenant_uid = $1 ORDER BY started_at, id",
        tenant.0,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Operation::try_from)
    .collect()
}

/// Every operation that is running, oldest first: what to go on with after a restart.
pub async fn all_running(connection: &mut PgConnection) -> Result<Vec<Operation>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT id, tenant_uid, kind, step, state, detail, started_at, updated_at, finished_at FROM operations
         WHERE state = 'running' ORDER BY started_at, id",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Operation::try_from)
    .collect()
}

fn one(rows: u64, id: Uuid) -> Result<(), RegistryError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(RegistryError::NotFound(format!(
            "operation {id} that is running"
        )))
    }
}

struct Row {
    id: Uuid,
    tenant_uid: Uuid,
    kind: String,
    step: String,
    state: String,
    detail: Value,
    started_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Operation {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Self {
            id: row.id,
            tenant: TenantUid(row.tenant_uid),
            kind: row.kind.parse()?,
            step: row.step,
            state: row.state.parse()?,
            detail: row.detail,
            started_at: time::read("the begin of an operation", row.started_at)?,
            updated_at: time::read("the progress of an operation", row.updated_at)?,
            finished_at: time::read_optional("the end of an operation", row.finished_at)?,
        })
    }
}
