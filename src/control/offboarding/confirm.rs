//! The leader's task: keys whose destruction is due are asked for, and that they are gone goes on record.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Offboarding, OffboardingError,
    record::{record, sign},
    registry::{Signed, last_journal},
};
use crate::{
    audit::Action,
    effects::{Commit, Effect},
    evidence,
    keys::TenantUid,
    keyserver::wire::DestroyRequest,
    registry::{
        evidence::{self as records, Stage},
        keys, tenants,
    },
};

/// Looks are at most this far apart. A KMS may take a day longer than it said.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Wait after a look that failed.
const RETRY: Duration = Duration::from_mins(1);

/// What `destroy` is asked with: it only confirms, unless somebody cancelled what was scheduled.
const AGAIN: DestroyRequest = DestroyRequest { days: 7 };

impl Offboarding {
    /// Confirms destructions when they are due, until the process ends.
    pub async fn keep_confirming(self) {
        let mut registry = self.keys.registry.clone();
        if registry.wait_for(Option::is_some).await.is_err() {
            return;
        }
        loop {
            let wait = match self.confirm_due(Timestamp::now()).await {
                Ok(next) => until(next),
                Err(error) => {
                    tracing::warn!(
                        error = format!("{:#}", anyhow::Error::from(error)),
                        "destroyed keys could not be confirmed; it is tried again"
                    );
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Confirms what is due by now and returns when the next is. One that cannot be confirmed keeps no other waiting.
    pub async fn confirm_due(&self, now: Timestamp) -> Result<Option<Timestamp>, OffboardingError> {
        let mut connection = self.keys.registry()?.acquire().await?;
        let open = keys::to_confirm(&mut connection).await?;
        drop(connection);
        let mut next = None;
        for key in open {
            let due = key.deletion_at.unwrap_or(now);
            if due > now {
                next = Some(next.map_or(due, |next: Timestamp| next.min(due)));
                continue;
            }
            match self.confirm(key.tenant).await {
                Ok(true) => {
                    tracing::info!(tenant_uid = %key.tenant, "the KMS has destroyed a tenant's key");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    tenant_uid = %key.tenant,
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "whether the KMS has destroyed a tenant's key could not be confirmed"
                ),
            }
        }
        Ok(next)
    }

    /// Whether the KMS has no such key any more; then that is on record, where there is a record of the rest.
    async fn confirm(&self, uid: TenantUid) -> Result<bool, OffboardingError> {
        let answer = self.keys.keyserver.destroy(uid, AGAIN).await?;
        if answer.key.state != keys::State::Destroyed {
            return Ok(false);
        }
        let mut transaction = self.keys.registry()?.begin().await?;
        let before = records::find(&mut transaction, uid, Stage::Shredded).await?;
        let after = records::find(&mut transaction, uid, Stage::Destroyed).await?;
        let tenant = tenants::find(&mut transaction, uid).await?;
        let (Some(_), None, Some(tenant)) = (before, after, tenant) else {
            return Ok(true);
        };
        let key = self.signing.borrow().clone();
        let key = key.ok_or(OffboardingError::NoSigningKey)?;
        let journal = last_journal(&mut transaction, uid).await?;
        let at = journal.moment(Timestamp::now());
        let identity = evidence::Tenant {
            name: tenant.name.clone(),
            uid: uid.0,
            namespace: tenant.namespace,
        };
        let signed = Signed {
            stage: Stage::Destroyed,
            envelope: sign(record(identity, &journal, Some(at), at), &key)?,
            key_id: key.public().id(),
        };
        self.keep(&mut transaction, uid, &tenant.name, &signed)
            .await?;
        let effect = Effect::Operator(Commit::Finished(Action::EvidenceRecorded.as_str()));
        transaction.commit(effect, uid).await?;
        Ok(true)
    }
}

fn until(next: Option<Timestamp>) -> Duration {
    next.and_then(|next| Duration::try_from(next.duration_since(Timestamp::now())).ok())
        .map_or(LOOK_EVERY, |wait| {
            wait.clamp(Duration::from_secs(1), LOOK_EVERY)
        })
}
