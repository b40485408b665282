//! Tables `exports` and `export_pieces`: sealed exports of tenants that end, until they are fetched or their time is over.

use jiff::{SignedDuration, Timestamp};
use sqlx::PgConnection;

use super::{RegistryError, time};
use crate::keys::TenantUid;

/// Longest piece, in bytes.
pub const PIECE: usize = 1 << 20;

/// A complete export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the sealed file, 64 hexadecimal digits in lower case.
    pub sha256: String,
    /// Whom it is sealed for.
    pub sealed_with: String,
    /// When it was complete.
    pub created_at: Timestamp,
}

/// Drops what an interrupted attempt left, or the export of an earlier end.
pub async fn start(connection: &mut PgConnection, tenant: TenantUid) -> Result<(), RegistryError> {
    sqlx::query!("DELETE FROM exports WHERE tenant_uid = $1", tenant.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM export_pieces WHERE tenant_uid = $1", tenant.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds a piece. It belongs to an export once that is [`complete`].
pub async fn add_piece(
    connection: &mut PgConnection,
    tenant: TenantUid,
    number: i32,
    content: &[u8],
) -> Result<(), RegistryError> {
    sqlx::query!(
        "INSERT INTO export_pieces (tenant_uid, number, content) VALUES ($1, $2, $3)",
        tenant.0,
        number,
        content,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that all pieces are there.
pub async fn complete(
    connection: &mut PgConnection,
    tenant: TenantUid,
    export: &Export,
) -> Result<(), RegistryError> {
    let bytes = i64::try_from(export.bytes).unwrap_or(i64::MAX);
    sqlx::query!(
        "INSERT INTO exports (tenant_uid, bytes, sha256, sealed_with, created_at) VALUES ($1, $2, $3, $4, $5)",
        tenant.0,
        bytes,
        export.sha256,
        export.sealed_with,
        time::write(export.created_at)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The export of a tenant, if there is a complete one.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantUid,
) -> Result<Option<Export>, RegistryError> {
    let row = sqlx::query!(
        "SELECT bytes, sha256, sealed_with, created_at FROM exports WHERE tenant_uid = $1",
        tenant.0,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Export {
            bytes: u64::try_from(row.bytes).unwrap_or_default(),
            sha256: row.sha256,
            sealed_with: row.sealed_with,
            created_at: time::read("the time of an export", row.created_at)?,
        })
    })
    .transpose()
}

/// One piece of it, counted from 0; none after the last.
pub async fn piece(
    connection: &mut PgConnection,
    tenant: TenantUid,
    number: i32,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let row = sqlx::query_scalar!(
        "SELECT content FROM export_pieces WHERE tenant_uid = $1 AND number = $2",
        tenant.0,
        number,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Drops what is older than this, as role `owner`. Returns how many exports that were.
pub async fn expire(
    connection: &mut PgConnection,
    age: SignedDuration,
) -> Result<u64, RegistryError> {
    let before = time::write(Timestamp::now() - age)?;
    sqlx::query!(
        "DELETE FROM export_pieces WHERE tenant_uid IN (SELECT tenant_uid FROM exports WHERE created_at < $1)",
        before,
    )
    .execute(&mut *connection)
    .await?;
    let dropped = sqlx::query!("DELETE FROM exports WHERE created_at < $1", before)
        .execute(connection)
        .await?;
    Ok(dropped.rows_affected())
}
