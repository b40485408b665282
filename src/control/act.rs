//! Something that is done to a tenant and takes its time: an operation of the registry, and the two rows of the audit
//! that have its id.
//!
//! The first row commits before anything is done. Whoever goes on after an interruption finds the operation running, and
//! announces nothing a second time.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    audit::{self, Action, Entry},
    effects::{Commit, Effect},
    keys::TenantUid,
    registry::{
        RegistryError, Transaction,
        operations::{self, Kind, Operation, State},
    },
};

/// Where an operation keeps how it was announced.
const ANNOUNCED: &str = "announced";

/// What is going to be done.
#[derive(Clone, Debug)]
pub struct Announcement<'a> {
    /// Which operation it is.
    pub kind: Kind,
    /// What the audit calls it.
    pub action: Action,
    /// Who asked for it.
    pub actor: &'a str,
    /// What else there is to know, as an object. Nothing secret, nothing personal.
    pub detail: Value,
}

/// An operation with its rows of the audit.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    operation: Operation,
    entry: Entry,
}

impl Act {
    /// Begins it and commits. One that was interrupted goes on as it was announced.
    ///
    /// # Errors
    /// Where the registry does not take it; then nothing may be done.
    pub async fn begin(
        mut transaction: Transaction,
        (uid, name): (TenantUid, &str),
        announcement: Announcement<'_>,
    ) -> Result<Self, RegistryError> {
        let Announcement {
            kind,
            action,
            actor,
            detail,
        } = announcement;
        let interrupted = operations::running(&mut transaction, uid, kind).await?;
        if let Some(act) = interrupted.and_then(Self::resume) {
            let effect = Effect::Operator(Commit::Started(action.as_str()));
            transaction.commit(effect, uid).await?;
            return Ok(act);
        }
        let mut known = detail.clone();
        known[ANNOUNCED] = json!({"actor": actor, "action": action, "name": name});
        let operation = operations::start(&mut transaction, uid, kind, "begun", &known).await?;
        let entry = Entry {
            id: operation.id,
            ..Entry::started(actor, action).of(uid, name).with(detail)
        };
        audit::append(&mut transaction, &entry).await?;
        let effect = Effect::Operator(Commit::Started(action.as_str()));
        transaction.commit(effect, uid).await?;
        Ok(Self { operation, entry })
    }

    /// One that was found running, as it was announced; none if it does not say how.
    #[must_use]
    pub fn resume(operation: Operation) -> Option<Self> {
        let announced = &operation.detail[ANNOUNCED];
        let word = |name: &str| announced[name].as_str();
        let action: Action = word("action")?.parse().ok()?;
        let entry = Entry {
            id: operation.id,
            ..Entry::started(word("actor")?, action).of(operation.tenant, word("name")?)
        };
        Some(Self { operation, entry })
    }

    /// The operation as it was found or begun.
    #[must_use]
    pub const fn operation(&self) -> &Operation {
        &self.operation
    }

    /// What its steps have found out, and how it was announced.
    #[must_use]
    pub fn detail(&self) -> &Value {
        &self.operation.detail
    }

    /// The same with these notes among what its steps have found out.
    #[must_use]
    pub fn noting(mut self, notes: Value) -> Self {
        if let (Some(detail), Value::Object(notes)) = (self.operation.detail.as_object_mut(), notes)
        {
            detail.extend(notes);
        }
        self
    }

    /// Says which step it is at and what was found out, within a transaction that somebody else commits.
    ///
    /// # Errors
    /// Where the registry does not take it.
    pub async fn advance(
        &self,
        transaction: &mut Transaction,
        step: &str,
    ) -> Result<(), RegistryError> {
        let Self { operation, .. } = self;
        operations::advance(transaction, operation.id, step, &operation.detail).await
    }

    /// When it was begun.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.operation.started_at
    }

    /// Ends it and commits, together with what else is in the transaction.
    ///
    /// # Errors
    /// Where the registry does not take it; it may be asked again.
    pub async fn finish(
        self,
        mut transaction: Transaction,
        outcome: &str,
    ) -> Result<(), RegistryError> {
        self.end(&mut transaction, outcome).await?;
        let effect = Effect::Operator(Commit::Finished(self.entry.action.as_str()));
        transaction.commit(effect, self.operation.tenant).await
    }

    /// Ends it within a transaction that somebody else commits.
    ///
    /// # Errors
    /// Where the registry does not take it.
    pub async fn end(
        &self,
        transaction: &mut Transaction,
        outcome: &str,
    ) -> Result<(), RegistryError> {
        self.close(transaction, State::Done, outcome).await
    }

    /// Gives it up within a transaction that somebody else commits.
    ///
    /// # Errors
    /// Where the registry does not take it.
    pub async fn give_up(
        &self,
        transaction: &mut Transaction,
        why: &str,
    ) -> Result<(), RegistryError> {
        let outcome = format!("failed: {why}");
        self.close(transaction, State::Failed, &outcome).await
    }

    async fn close(
        &self,
        transaction: &mut Transaction,
        state: State,
        outcome: &str,
    ) -> Result<(), RegistryError> {
        let Self { operation, entry } = self;
        operations::finish(transaction, operation.id, state, &operation.detail).await?;
        audit::append(transaction, &entry.finished(outcome)).await?;
        Ok(())
    }
}
