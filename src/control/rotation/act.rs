//! One step of a rotation. Asked for again, each does what is left of it.

use jiff::Timestamp;

use super::{
    job::{Job, Scope},
    next::Step,
};
use crate::{
    audit::Action,
    control::{
        act::{Act, Announcement},
        tenant_keys::{KeysError, Subject, TenantKeys},
    },
    keys::TenantUid,
    keyserver::wire::{self, RewrapRequest},
    registry::{
        RegistryError, Transaction,
        operations::{self, Kind, Operation, State},
    },
};

/// What a step came to.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The keys as they are now, if they changed.
    pub keys: Option<wire::TenantKeys>,
    /// The rotation that was begun, or goes on.
    pub job: Option<Job>,
    /// Keys from before this moment have been replaced.
    pub replaced: Option<Timestamp>,
    /// Why older versions can still be read with, once it is finished and some can.
    pub kept: Option<String>,
}

impl TenantKeys {
    /// Takes one step.
    pub async fn step(&self, subject: Subject<'_>, step: Step) -> Result<Done, KeysError> {
        let uid = subject.tenant_uid()?;
        match step {
            Step::Begin(scope) => self.begin_rotation(uid, &subject, scope).await,
            Step::Rotate(requests) => {
                let mut done = Done::default();
                for request in requests {
                    done.keys = Some(self.keyserver.rotate(uid, request).await?);
                }
                Ok(done)
            }
            Step::Retire(requests) => {
                let mut done = Done::default();
                for request in requests {
                    done.keys = Some(self.keyserver.retire(uid, request).await?);
                }
                Ok(done)
            }
            Step::Finish { job, kept } => self.finish_rotation(uid, &job, kept).await,
        }
    }

    async fn begin_rotation(
        &self,
        uid: TenantUid,
        subject: &Subject<'_>,
        scope: Scope,
    ) -> Result<Done, KeysError> {
        let mut transaction = self.registry()?.begin().await?;
        let before = operations::of_tenant(&mut transaction, uid).await?;
        // By the registry's clock a new key may seem older than what was asked for.
        if before
            .iter()
            .any(|operation| has_replaced(operation, scope.not_before))
        {
            return Ok(Done {
                replaced: Some(scope.not_before),
                ..Done::default()
            });
        }
        let announcement = Announcement {
            kind: Kind::Rotate,
            action: Action::TenantKeysRotated,
            actor: if scope.by_plan {
                &self.actor
            } else {
                self.actor_of(subject)
            },
            detail: scope.to_detail()?,
        };
        let act = Act::begin(transaction, (uid, subject.name), announcement).await?;
        Ok(Done {
            job: Some(Job::try_from(act.operation())?),
            ..Done::default()
        })
    }

    async fn finish_rotation(
        &self,
        uid: TenantUid,
        job: &Job,
        kept: Option<String>,
    ) -> Result<Done, KeysError> {
        let keys = match job.scope.key_from {
            Some(from) => {
                let request = RewrapRequest { from };
                Some(self.keyserver.rewrap(uid, request).await?)
            }
            None => None,
        };
        let mut transaction = self.registry()?.begin().await?;
        // None: its answer was lost, and it is finished.
        if let Some(running) = operations::running(&mut transaction, uid, Kind::Rotate).await?
            && running.id == job.id
        {
            let act = Act::resume(running).ok_or_else(unannounced)?;
            act.finish(transaction, kept.as_deref().unwrap_or("done"))
                .await?;
        }
        Ok(Done {
            keys,
            replaced: Some(job.scope.not_before),
            kept,
            ..Done::default()
        })
    }
}

/// Gives up a rotation that is under way, because its tenant comes to its end. The caller commits.
pub async fn give_up(transaction: &mut Transaction, uid: TenantUid) -> Result<(), RegistryError> {
    let running = operations::running(transaction, uid, Kind::Rotate).await?;
    match running.map(|running| Act::resume(running).ok_or_else(unannounced)) {
        Some(act) => act?.give_up(transaction, "the tenant is offboarded").await,
        None => Ok(()),
    }
}

fn unannounced() -> RegistryError {
    RegistryError::unreadable("a rotation", "an operation that was never announced")
}

fn has_replaced(operation: &Operation, not_before: Timestamp) -> bool {
    operation.kind == Kind::Rotate
        && operation.state == State::Done
        && Job::try_from(operation).is_ok_and(|job| job.scope.not_before >= not_before)
}
