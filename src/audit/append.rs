//! Appending to the chain, in the caller's transaction.

use jiff::Timestamp;
use sqlx::PgConnection;

use super::{Entry, Hash, Recorded};
use crate::registry::RegistryError;

/// Appends a row. It is there if and when the caller's transaction commits: the row that announces a change commits
/// together with it.
///
/// From here to the end of the transaction every other writer of the audit waits, because each row carries the hash
/// of the one before. So append last, commit at once, and ask nobody else (a KMS, an API server) in between.
pub async fn append(
    connection: &mut PgConnection,
    entry: &Entry,
) -> Result<Recorded, RegistryError> {
    let (tenant_uid, tenant) = match &entry.tenant {
        Some((uid, name)) => (Some(uid.0), Some(name.as_str())),
        None => (None, None),
    };
    let row = sqlx::query!(
        r#"SELECT seq AS "seq!", (extract(epoch FROM at) * 1000000)::bigint AS "micros!",
             prev AS "prev!", hash AS "hash!"
           FROM audit_append($1, $2, $3, $4, $5, $6, $7, $8)"#,
        entry.id,
        entry.phase.as_str(),
        entry.actor,
        entry.action.as_str(),
        tenant_uid,
        tenant,
        entry.outcome.as_deref(),
        entry.detail,
    )
    .fetch_one(connection)
    .await?;
    Ok(Recorded {
        seq: row.seq,
        at: time(row.micros)?,
        prev: hash(&row.prev)?,
        hash: hash(&row.hash)?,
    })
}

pub(super) fn time(micros: i64) -> Result<Timestamp, RegistryError> {
    Timestamp::from_microsecond(micros)
        .map_err(|_| RegistryError::unreadable("a time in the audit", &micros.to_string()))
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, RegistryError> {
    Hash::try_from(bytes)
        .map_err(|_| RegistryError::unreadable("a hash in the audit", &format!("{bytes:02x?}")))
}
