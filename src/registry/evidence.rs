//! Table `evidence`: the signed records of each offboarding, one of each stage. Written once, changed never.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::{RegistryError, time, words};
use crate::keys::TenantUid;

words! {
    /// How far the end of a tenant had come when its record was made.
    pub enum Stage in "the stage of a record" {
        /// Nothing opens its data any more, and the KMS has the key's deletion on its calendar.
        Shredded = "shredded",
        /// The KMS has no key material any more.
        Destroyed = "destroyed",
    }
}

/// A signed record.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Whose it is.
    pub tenant: TenantUid,
    /// How far the end had come.
    pub stage: Stage,
    /// The DSSE envelope.
    pub envelope: Value,
    /// When it was written down.
    pub created_at: Timestamp,
}

/// Writes a record of a tenant down. The same again does nothing; another one of that stage is a
/// [`RegistryError::Conflict`].
pub async fn record(
    connection: &mut PgConnection,
    tenant: TenantUid,
    stage: Stage,
    envelope: &Value,
) -> Result<(), RegistryError> {
    sqlx::query!(
        "INSERT INTO evidence (tenant_uid, stage, envelope) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_uid, stage) DO NOTHING",
        tenant.0,
        stage.as_str(),
        envelope,
    )
    .execute(&mut *connection)
    .await?;
    match find(connection, tenant, stage).await? {
        Some(evidence) if evidence.envelope == *envelope => Ok(()),
        _ => Err(RegistryError::Conflict {
            rule: "evidence_is_written_once".to_owned(),
            reason: format!("there is another record of tenant {tenant} at stage {stage}"),
        }),
    }
}

/// The record of a tenant at a stage.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantUid,
    stage: Stage,
) -> Result<Option<Evidence>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, stage, envelope, created_at FROM evidence WHERE tenant_uid = $1 AND stage = $2",
        tenant.0,
        stage.as_str(),
    )
    .fetch_optional(connection)
    .await?
    .map(Evidence::try_from)
    .transpose()
}

/// Every record of a tenant, oldest first.
pub async fn of_tenant(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Vec<Evidence>, RegistryError> {
    sqlx::query_as!(
        Row,
        "SELECT tenant_uid, stage, envelope, created_at FROM evidence
         WHERE tenant_uid = $1 ORDER BY created_at, stage DESC",
        tenant.0,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Evidence::try_from)
    .collect()
}

struct Row {
    tenant_uid: Uuid,
    stage: String,
    envelope: Value,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Evidence {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Self {
            tenant: TenantUid(row.tenant_uid),
            stage: row.stage.parse()?,
            envelope: row.envelope,
            created_at: time::read("the time of evidence", row.created_at)?,
        })
    }
}
