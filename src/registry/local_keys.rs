//! Table `local_keys`: the tenants' keys of the local provider, sealed by its root key. Other providers keep nothing
//! here.

use sqlx::PgConnection;

use super::RegistryError;
use crate::keys::TenantUid;

/// A tenant's record, if it has one.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let found = sqlx::query_scalar!(
        "SELECT record FROM local_keys WHERE tenant_uid = $1",
        tenant.0,
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Stores a record if what is stored is still `expected` (`None`: nothing), and says whether it was.
pub async fn replace(
    connection: &mut PgConnection,
    tenant: TenantUid,
    expected: Option<&[u8]>,
    record: &[u8],
) -> Result<bool, RegistryError> {
    let changed = match expected {
        None => {
            sqlx::query!(
                "INSERT INTO local_keys (tenant_uid, record) VALUES ($1, $2) ON CONFLICT (tenant_uid) DO NOTHING",
                tenant.0,
                record,
            )
            .execute(connection)
            .await?
        }
        Some(expected) => {
            sqlx::query!(
                "UPDATE local_keys SET record = $3 WHERE tenant_uid = $1 AND record = $2",
                tenant.0,
                expected,
                record,
            )
            .execute(connection)
            .await?
        }
    };
    Ok(changed.rows_affected() == 1)
}

/// The tenants that have a record.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<TenantUid>, RegistryError> {
    let found = sqlx::query_scalar!("SELECT tenant_uid FROM local_keys ORDER BY tenant_uid");
    Ok(found
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(TenantUid)
        .collect())
}
