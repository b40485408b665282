//! Reading the audit.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Record;
use super::append::{hash, time};
use crate::keys::TenantUid;
use crate::registry::RegistryError;

/// Which rows are wanted: those that fit everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of the tenant with this UID.
    pub tenant_uid: Option<TenantUid>,
    /// Of tenants with this name, those before the present one too.
    pub tenant: Option<String>,
    /// By this actor.
    pub actor: Option<String>,
    /// This action, by its word.
    pub action: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    fn uid(&self) -> Option<Uuid> {
        self.tenant_uid.map(|uid| uid.0)
    }

    fn since(&self) -> Option<i64> {
        self.since.map(Timestamp::as_microsecond)
    }

    fn until(&self) -> Option<i64> {
        self.until.map(Timestamp::as_microsecond)
    }
}

/// The next rows after the one at place `after` (0 for the first of all), oldest first, at most `limit`.
pub async fn page(
    connection: &mut PgConnection,
    filter: &Filter,
    after: i64,
    limit: u32,
) -> Result<Vec<Record>, RegistryError> {
    sqlx::query_as!(
        Row,
        r#"SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS "micros!", id, phase, actor, action,
             tenant_uid, tenant, outcome, detail, prev, hash
           FROM audit
           WHERE seq > $1
             AND ($2::uuid IS NULL OR tenant_uid = $2)
             AND ($3::text IS NULL OR tenant = $3)
             AND ($4::text IS NULL OR actor = $4)
             AND ($5::text IS NULL OR action = $5)
             AND ($6::bigint IS NULL OR at >= 'epoch'::timestamptz + $6 * interval '1 microsecond')
             AND ($7::bigint IS NULL OR at < 'epoch'::timestamptz + $7 * interval '1 microsecond')
           ORDER BY seq LIMIT $8"#,
        after,
        filter.uid(),
        filter.tenant.as_deref(),
        filter.actor.as_deref(),
        filter.action.as_deref(),
        filter.since(),
        filter.until(),
        i64::from(limit),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Record::try_from)
    .collect()
}

/// The newest rows, oldest of them first, at most `limit`.
pub async fn latest(
    connection: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Record>, RegistryError> {
    let mut rows = sqlx::query_as!(
        Row,
        r#"SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS "micros!", id, phase, actor, action,
             tenant_uid, tenant, outcome, detail, prev, hash
           FROM audit
           WHERE ($1::uuid IS NULL OR tenant_uid = $1)
             AND ($2::text IS NULL OR tenant = $2)
             AND ($3::text IS NULL OR actor = $3)
             AND ($4::text IS NULL OR action = $4)
             AND ($5::bigint IS NULL OR at >= 'epoch'::timestamptz + $5 * interval '1 microsecond')
             AND ($6::bigint IS NULL OR at < 'epoch'::timestamptz + $6 * interval '1 microsecond')
           ORDER BY seq DESC LIMIT $7"#,
        filter.uid(),
        filter.tenant.as_deref(),
        filter.actor.as_deref(),
        filter.action.as_deref(),
        filter.since(),
        filter.until(),
        i64::from(limit),
    )
    .fetch_all(connection)
    .await?;
    rows.reverse();
    rows.into_iter().map(Record::try_from).collect()
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
    detail: Value,
    prev: Vec<u8>,
    hash: Vec<u8>,
}

impl TryFrom<Row> for Record {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Self {
            seq: row.seq,
            at: time(row.micros)?,
            id: row.id,
            phase: row.phase,
            actor: row.actor,
            action: row.action,
            tenant_uid: row.tenant_uid.map(TenantUid),
            tenant: row.tenant,
            outcome: row.outcome,
            detail: row.detail,
            prev: hash(&row.prev)?,
            hash: hash(&row.hash)?,
        })
    }
}
