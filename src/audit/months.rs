//! The months of the audit: made ahead, and dropped after a year.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use sqlx::PgConnection;

use super::Head;
use super::append::{hash, time};
use crate::registry::RegistryError;

/// A month that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expired {
    /// Its first day.
    pub month: Date,
    /// How many rows it had.
    pub rows: i64,
    /// Its last row, which the chain is anchored at now.
    pub anchor: Head,
    /// When it was dropped.
    pub dropped_at: Timestamp,
}

/// Makes the partitions of this month and the next three. Appending makes a missing one itself, so nothing breaks
/// where this is late; daily is often enough.
pub async fn prepare_months(connection: &mut PgConnection) -> Result<(), RegistryError> {
    sqlx::query!("SELECT audit_prepare_months()")
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops the months that ended more than a year ago. Each leaves an anchor, and a row in the audit that says so and
/// names `actor`.
pub async fn expire_months(
    connection: &mut PgConnection,
    actor: &str,
) -> Result<Vec<Expired>, RegistryError> {
    let rows = sqlx::query!(
        r#"SELECT seq AS "seq!", hash AS "hash!", to_char(month, 'YYYY-MM-DD') AS "month!", rows AS "rows!",
             (extract(epoch FROM dropped_at) * 1000000)::bigint AS "micros!"
           FROM audit_expire_months($1)"#,
        actor,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Expired {
                month: row
                    .month
                    .parse()
                    .map_err(|_| RegistryError::unreadable("a month of the audit", &row.month))?,
                rows: row.rows,
                anchor: Head {
                    seq: row.seq,
                    hash: hash(&row.hash)?,
                },
                dropped_at: time(row.micros)?,
            })
        })
        .collect()
}

/// The last row that was dropped, if any was.
pub(super) async fn anchor(connection: &mut PgConnection) -> Result<Option<Head>, RegistryError> {
    let row = sqlx::query!("SELECT seq, hash FROM audit_anchors ORDER BY seq DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(Head {
            seq: row.seq,
            hash: hash(&row.hash)?,
        })
    })
    .transpose()
}
