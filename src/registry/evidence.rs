//! Table `evidence`: the signed record of each offboarding. Written once, changed never.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;

use super::{RegistryError, time};
use crate::keys::TenantUid;

/// A signed record.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The DSSE envelope.
    pub envelope: Value,
    /// When it was written down.
    pub created_at: Timestamp,
}

/// Writes the record of a tenant down. The same again does nothing; another one is a [`RegistryError::Conflict`].
pub async fn record(
    connection: &mut PgConnection,
    tenant: TenantUid,
    envelope: &Value,
) -> Result<(), RegistryError> {
    sqlx::query!(
        "INSERT INTO evidence (tenant_uid, envelope) VALUES ($1, $2) ON CONFLICT (tenant_uid) DO NOTHING",
        tenant.0,
        envelope,
    )
    .execute(&mut *connection)
    .await?;
    match find(connection, tenant).await? {
        Some(evidence) if evidence.envelope == *envelope => Ok(()),
        _ => Err(RegistryError::Conflict {
            rule: "evidence_is_written_once".to_owned(),
            reason: format!("there is another record of tenant {tenant}"),
        }),
    }
}

/// The record of a tenant.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Option<Evidence>, RegistryError> {
    let row = sqlx::query!(
        "SELECT envelope, created_at FROM evidence WHERE tenant_uid = $1",
        tenant.0,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Evidence {
            envelope: row.envelope,
            created_at: time::read("the time of evidence", row.created_at)?,
        })
    })
    .transpose()
}
