//! Checking the audit in the registry.

use futures::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::append::hash;
use super::chain::Checker;
use super::{Head, Link, Report, months};
use crate::registry::RegistryError;

/// Computes the chain anew, over everything that is there as of now, and says what does not fit. `remembered` is a
/// head that somebody kept outside of the registry, such as one from an earlier report: whoever can change every row
/// and the registry's own head cannot change that.
pub async fn verify(
    connection: &mut PgConnection,
    remembered: Option<Head>,
) -> Result<Report, RegistryError> {
    let mut transaction = connection.begin().await?;
    // One view of rows, head and anchors, while others go on appending; and it may take longer than other questions.
    for setting in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "SET LOCAL statement_timeout = 0",
    ] {
        sqlx::raw_sql(setting).execute(&mut *transaction).await?;
    }
    let head = head(&mut transaction).await?;
    let anchor = months::anchor(&mut transaction).await?;
    let mut checker = Checker::new(anchor, head, remembered);
    let mut rows = sqlx::query_as!(
        Row,
        r#"SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS "micros!", id, phase, actor, action,
             tenant_uid, tenant, outcome, detail::text AS "detail!", prev, hash
           FROM audit ORDER BY seq, at"#,
    )
    .fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        checker.add(Link::try_from(row)?);
    }
    drop(rows);
    transaction.rollback().await?;
    Ok(checker.finish())
}

/// Where the audit ends, as the registry noted it.
pub async fn head(connection: &mut PgConnection) -> Result<Head, RegistryError> {
    let row = sqlx::query!("SELECT seq, hash FROM audit_head")
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| RegistryError::NotFound("head of the audit: its row was removed".into()))?;
    Ok(Head {
        seq: row.seq,
        hash: hash(&row.hash)?,
    })
}

struct Row {
    seq: i64,
    micros: i64,
    id: Uuid,
    phase: String,
    actor: String,
    action: String,
    tenant_uid: Option<Uuid>,
    tenant: Option<String>,
    outcome: Option<String>,
    detail: String,
    prev: Vec<u8>,
    hash: Vec<u8>,
}

impl TryFrom<Row> for Link {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Self {
            seq: row.seq,
            micros: row.micros,
            id: row.id,
            phase: row.phase,
            actor: row.actor,
            action: row.action,
            tenant_uid: row.tenant_uid,
            tenant: row.tenant,
            outcome: row.outcome,
            detail: row.detail,
            prev: hash(&row.prev)?,
            hash: hash(&row.hash)?,
        })
    }
}
