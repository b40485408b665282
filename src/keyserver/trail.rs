//! What the key server writes into the audit: each change and each unwrap as two rows with one id, each refusal as one.
//!
//! The first row commits before, or together with, what it announces; so nothing is ever done that is not announced, and
//! a crash shows as a row without its second.

use serde_json::{Value, json};

use super::authenticate::Caller;
use super::problem::Refusal;
use super::shared::Shared;
use crate::audit::{self, Action, Entry, Filter, Phase};
use crate::effects::{Commit, Effect};
use crate::keys::TenantUid;
use crate::registry::{RegistryError, Transaction};

/// The outcome of what was done.
const DONE: &str = "done";

/// How many rows are looked at for a tenant's last act: there may be refusals after it.
const LAST_ROWS: u32 = 16;

/// What became of a tenant's last act of one kind.
#[derive(Clone, Debug)]
pub enum Last {
    /// It has no second row: this server ended in the middle, or the registry did not take the row.
    Interrupted(Trail),
    /// It was done.
    Done,
    /// It failed, or there was none.
    NotDone,
}

/// One act of one caller.
#[derive(Clone, Debug)]
pub struct Trail {
    started: Entry,
}

impl Trail {
    /// An act that begins now. `detail` is an object that says of what, and nothing secret.
    pub fn new<'a>(
        caller: &Caller,
        action: Action,
        tenant: impl Into<Option<(TenantUid, &'a str)>>,
        mut detail: Value,
    ) -> Self {
        detail["pod"] = json!(caller.pod);
        detail["podUid"] = json!(caller.pod_uid);
        if let Some(credential) = &caller.credential {
            detail["credential"] = json!(credential);
        }
        let mut started = Entry::started(caller.user(), action).with(detail);
        if let Some((uid, name)) = tenant.into() {
            started = started.of(uid, name);
        }
        Self { started }
    }

    /// Whether the tenant's last act of this kind is known to be done.
    pub async fn last(
        shared: &Shared,
        action: Action,
        uid: TenantUid,
    ) -> Result<Last, RegistryError> {
        let filter = Filter {
            tenant_uid: Some(uid),
            action: Some(action.as_str().to_owned()),
            ..Filter::default()
        };
        let mut connection = shared.registry.acquire().await?;
        let rows = audit::latest(&mut connection, &filter, LAST_ROWS).await?;
        let refused = Phase::Refused.as_str();
        Ok(match rows.into_iter().rfind(|row| row.phase != refused) {
            Some(row) if row.phase == Phase::Started.as_str() => Last::Interrupted(Self {
                started: Entry {
                    id: row.id,
                    actor: row.actor,
                    detail: row.detail,
                    ..Entry::started("", action).of(uid, row.tenant.unwrap_or_default())
                },
            }),
            Some(row) if row.outcome.as_deref() == Some(DONE) => Last::Done,
            _ => Last::NotDone,
        })
    }

    /// Announces it and commits, together with the change that it announces.
    pub async fn start(&self, mut transaction: Transaction) -> Result<(), RegistryError> {
        audit::append(&mut transaction, &self.started).await?;
        commit(transaction, &self.started, Commit::Started).await
    }

    /// Says that it is done and commits, together with what records the result.
    pub async fn finish(&self, mut transaction: Transaction) -> Result<(), RegistryError> {
        audit::append(&mut transaction, &self.started.finished(DONE)).await?;
        commit(transaction, &self.started, Commit::Finished).await
    }

    /// Both at once, for a change of the registry alone.
    pub async fn start_and_finish(
        &self,
        mut transaction: Transaction,
    ) -> Result<(), RegistryError> {
        audit::append(&mut transaction, &self.started).await?;
        self.finish(transaction).await
    }

    /// Says that it failed. The failure itself is what the caller is told; if this row cannot be written, the act stays
    /// one that was started and never finished.
    pub async fn failed(&self, shared: &Shared, reason: &str) {
        let entry = self.started.finished(format!("failed: {reason}"));
        append(shared, &entry, Commit::Failed).await;
    }
}

/// Says that somebody was refused, and that nothing was done. Who is refused all the time is not written down each time.
pub async fn refused<'a>(
    shared: &Shared,
    caller: &Caller,
    action: Action,
    tenant: impl Into<Option<(TenantUid, &'a str)>>,
    refusal: &Refusal,
) {
    if !shared.rates.audits_refusal(caller) {
        return tracing::warn!(%caller, action = action.as_str(), code = refusal.code.as_str(), "refused again, which is not audited any more");
    }
    let detail = json!({"code": refusal.code.as_str()});
    let entry = Entry {
        phase: Phase::Refused,
        outcome: Some(refusal.detail.clone()),
        ..Trail::new(caller, action, tenant, detail).started
    };
    append(shared, &entry, Commit::Refused).await;
}

async fn append(shared: &Shared, entry: &Entry, what: fn(&'static str) -> Commit) {
    let writing = async {
        let mut transaction = shared.registry.begin().await?;
        audit::append(&mut transaction, entry).await?;
        commit(transaction, entry, what).await
    };
    if let Err(error) = writing.await {
        tracing::error!(
            id = %entry.id,
            action = entry.action.as_str(),
            outcome = entry.outcome,
            error = format!("{:#}", anyhow::Error::from(error)),
            "an outcome could not be written into the audit"
        );
    }
}

/// Commits what ends with this row of the audit.
async fn commit(
    transaction: Transaction,
    entry: &Entry,
    what: fn(&'static str) -> Commit,
) -> Result<(), RegistryError> {
    let tenant = entry.tenant.as_ref().map(|(uid, _)| *uid);
    let effect = Effect::KeyServer(what(entry.action.as_str()));
    transaction.commit(effect, tenant).await
}
