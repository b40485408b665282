//! What is written down of an offboarding: each change together with the row of audit that announces or ends it.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Journal, Offboarding, OffboardingError, Progress, progress::Running};
use crate::{
    api::OffboardingStep as Step,
    audit::{self, Action, Entry},
    control::{
        act::{Act, Announcement},
        rotation::act as rotation,
        tenant_keys::Subject,
    },
    effects::{Commit, Effect},
    keys::TenantUid,
    registry::{
        RegistryError, Transaction, evidence, keys,
        operations::{self, Kind},
        tenants,
    },
};

/// The outcome of what was done.
const DONE: &str = "done";

/// A signed record, ready to be written down.
pub struct Signed {
    /// Which of a tenant's two.
    pub stage: evidence::Stage,
    /// The envelope.
    pub envelope: Value,
    /// The key that signed it.
    pub key_id: String,
}

impl Offboarding {
    /// How far the offboarding of a tenant is.
    pub async fn progress(&self, uid: &str) -> Progress {
        let asked = async {
            let uid = Subject::of_uid(uid).tenant_uid()?;
            let mut connection = self.keys.registry()?.acquire().await?;
            read(&mut connection, uid).await
        };
        asked.await.unwrap_or_else(|error: OffboardingError| {
            Progress::Unknown(error.reason().into_owned(), error.to_string())
        })
    }

    /// Writes down that the tenant is on its way out. Where that is written down, nothing happens.
    pub async fn announce(
        &self,
        subject: Subject<'_>,
        journal: &Journal,
    ) -> Result<(), OffboardingError> {
        let uid = subject.tenant_uid()?;
        let mut transaction = self.keys.registry()?.begin().await?;
        match tenants::find(&mut transaction, uid).await? {
            Some(tenant) if tenant.state == tenants::State::Tombstone => return Ok(()),
            Some(_) => {}
            // From before there was a registry, or it never got this far: its UID is not used again all the same.
            None => {
                tenants::register(&mut transaction, uid, subject.name, subject.namespace).await?;
            }
        }
        tenants::offboard(&mut transaction, uid).await?;
        give_up(&mut transaction, uid).await?;
        let announcement = Announcement {
            kind: Kind::Offboard,
            action: Action::TenantOffboarded,
            actor: self.keys.actor_of(&subject),
            detail: notes(journal)?,
        };
        Act::begin(transaction, (uid, subject.name), announcement).await?;
        Ok(())
    }

    /// Writes down what was done last.
    pub async fn note(
        &self,
        act: Act,
        step: Step,
        journal: &Journal,
    ) -> Result<(), OffboardingError> {
        let act = act.noting(notes(journal)?);
        let mut transaction = self.keys.registry()?.begin().await?;
        act.advance(&mut transaction, step.as_str()).await?;
        let effect = Effect::Operator(Commit::Noted(step.as_str()));
        Ok(transaction.commit(effect, act.operation().tenant).await?)
    }

    /// Writes down that nothing brings the tenant back. The caller has just read the tenant again.
    pub async fn begin_shred(
        &self,
        subject: Subject<'_>,
        Running {
            act, mut journal, ..
        }: Running,
    ) -> Result<(), OffboardingError> {
        let uid = subject.tenant_uid()?;
        let shred = Uuid::now_v7();
        journal.shred_begun = Some(journal.moment(Timestamp::now()));
        journal.shred = Some(shred);
        let act = act.noting(notes(&journal)?);
        let mut transaction = self.keys.registry()?.begin().await?;
        tenants::offboard(&mut transaction, uid).await?;
        act.advance(&mut transaction, Step::BeginShred.as_str())
            .await?;
        // Not always who began the end: whoever shortens the grace period begins the shred.
        let entry = self
            .own(shred, Action::TenantShredded, uid, subject.name)
            .with(json!({"requestedBy": subject.requester}));
        audit::append(&mut transaction, &entry).await?;
        let effect = Effect::Operator(Commit::Started(entry.action.as_str()));
        Ok(transaction.commit(effect, uid).await?)
    }

    /// Takes the offboarding back, which its shred must not have begun.
    pub async fn reinstate(
        &self,
        subject: Subject<'_>,
        running: &Running,
    ) -> Result<(), OffboardingError> {
        let uid = subject.tenant_uid()?;
        let mut transaction = self.keys.registry()?.begin().await?;
        tenants::reinstate(&mut transaction, uid).await?;
        let taken_back = "the tenant is reinstated";
        running.act.give_up(&mut transaction, taken_back).await?;
        let action = Action::TenantReinstated;
        let back = Entry::started(self.keys.actor_of(&subject), action).of(uid, subject.name);
        for entry in [back.clone(), back.finished(DONE)] {
            audit::append(&mut transaction, &entry).await?;
        }
        let effect = Effect::Operator(Commit::Finished(action.as_str()));
        Ok(transaction.commit(effect, uid).await?)
    }

    /// Sets the tombstone, with the signed record if there is one, and ends what was announced.
    pub async fn bury(
        &self,
        subject: Subject<'_>,
        act: Act,
        journal: &Journal,
        signed: Option<Signed>,
    ) -> Result<(), OffboardingError> {
        let uid = subject.tenant_uid()?;
        let at = journal.shredded.unwrap_or_else(Timestamp::now);
        let mut transaction = self.keys.registry()?.begin().await?;
        tenants::bury(&mut transaction, uid, at).await?;
        if let Some(signed) = signed {
            self.keep(&mut transaction, uid, subject.name, &signed)
                .await?;
        }
        if let Some(shred) = journal.shred {
            let entry = self.own(shred, Action::TenantShredded, uid, subject.name);
            audit::append(&mut transaction, &entry.finished(DONE)).await?;
        }
        let act = act.noting(notes(journal)?);
        Ok(act.finish(transaction, DONE).await?)
    }

    /// Puts a signed record into the registry, and says so in the audit.
    pub(super) async fn keep(
        &self,
        transaction: &mut Transaction,
        uid: TenantUid,
        name: &str,
        signed: &Signed,
    ) -> Result<(), RegistryError> {
        evidence::record(transaction, uid, signed.stage, &signed.envelope).await?;
        let about = json!({"stage": signed.stage, "signedWith": signed.key_id});
        let entry = self
            .own(Uuid::now_v7(), Action::EvidenceRecorded, uid, name)
            .with(about);
        for entry in [entry.clone(), entry.finished(DONE)] {
            audit::append(transaction, &entry).await?;
        }
        Ok(())
    }

    /// An act that is the operator's own.
    fn own(&self, id: Uuid, action: Action, uid: TenantUid, name: &str) -> Entry {
        Entry {
            id,
            ..Entry::started(self.keys.actor.as_str(), action).of(uid, name)
        }
    }
}

/// Ends what else was being done to a tenant that is on its way out now.
async fn give_up(transaction: &mut Transaction, uid: TenantUid) -> Result<(), RegistryError> {
    rotation::give_up(transaction, uid).await?;
    for kind in [Kind::Onboard, Kind::Change] {
        let found = operations::running(transaction, uid, kind).await?;
        if let Some(act) = found.and_then(Act::resume) {
            act.give_up(transaction, "the tenant is offboarded").await?;
        }
    }
    Ok(())
}

async fn read(connection: &mut PgConnection, uid: TenantUid) -> Result<Progress, OffboardingError> {
    let Some(tenant) = tenants::find(connection, uid).await? else {
        return Ok(Progress::NotBegun);
    };
    if tenant.state == tenants::State::Tombstone {
        let journal = last_journal(connection, uid).await?;
        return Ok(Progress::Over(Box::new(journal)));
    }
    let Some(operation) = operations::running(connection, uid, Kind::Offboard).await? else {
        return Ok(Progress::NotBegun);
    };
    let act = Act::resume(operation).ok_or(OffboardingError::Unannounced)?;
    Ok(Progress::Running(Box::new(Running {
        journal: journal(act.detail().clone())?,
        act,
        has_key: keys::find(connection, uid).await?.is_some(),
    })))
}

/// What was noted of the offboarding that made the tenant a tombstone.
pub(super) async fn last_journal(
    connection: &mut PgConnection,
    uid: TenantUid,
) -> Result<Journal, OffboardingError> {
    let all = operations::of_tenant(connection, uid).await?;
    let last = all.into_iter().rfind(|operation| {
        operation.kind == Kind::Offboard && operation.state == operations::State::Done
    });
    last.map_or_else(
        || Ok(Journal::default()),
        |operation| journal(operation.detail),
    )
}

fn journal(detail: Value) -> Result<Journal, OffboardingError> {
    serde_json::from_value(detail).map_err(OffboardingError::Unreadable)
}

fn notes(journal: &Journal) -> Result<Value, OffboardingError> {
    serde_json::to_value(journal).map_err(OffboardingError::Encode)
}
