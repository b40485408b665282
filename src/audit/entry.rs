//! What is written down.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Hash;
use crate::keys::TenantUid;
use crate::registry::words;

words! {
    /// Where an act is.
    pub enum Phase in "the phase of an act" {
        /// It is going to be done: nothing of it is without this row.
        Started = "started",
        /// It was done, or has failed: the outcome says which.
        Finished = "finished",
        /// It was asked for and not allowed.
        Refused = "refused",
    }
}

words! {
    /// What is done.
    pub enum Action in "an act" {
        /// A tenant gets its identity and its silo.
        TenantOnboarded = "tenant-onboarded",
        /// A tenant's specification was changed.
        TenantChanged = "tenant-changed",
        /// A tenant's silo stops to serve.
        TenantSuspended = "tenant-suspended",
        /// A tenant's silo serves again.
        TenantResumed = "tenant-resumed",
        /// A tenant's end begins: access is cut.
        TenantOffboarded = "tenant-offboarded",
        /// An offboarding is taken back.
        TenantReinstated = "tenant-reinstated",
        /// Everything of a tenant is destroyed.
        TenantShredded = "tenant-shredded",
        /// A tenant's data are handed out, sealed.
        TenantExported = "tenant-exported",
        /// A tenant's keys are replaced by new versions, and what they sealed is sealed anew.
        TenantKeysRotated = "tenant-keys-rotated",
        /// A tenant's key is made in the KMS.
        KeyCreated = "key-created",
        /// A tenant's key gets a new version.
        KeyRotated = "key-rotated",
        /// A tenant's key is switched off.
        KeyDisabled = "key-disabled",
        /// A tenant's key is switched on.
        KeyEnabled = "key-enabled",
        /// The KMS is told to destroy a tenant's key.
        KeyDeletionScheduled = "key-deletion-scheduled",
        /// The KMS is told to keep a tenant's key after all.
        KeyDeletionCancelled = "key-deletion-cancelled",
        /// The KMS has destroyed a tenant's key.
        KeyDestroyed = "key-destroyed",
        /// It is shown that a tenant's keys cannot be unwrapped any more.
        KeyRefusalProven = "key-refusal-proven",
        /// A data key is made.
        DataKeyCreated = "data-key-created",
        /// A data key is wrapped anew.
        DataKeyRewrapped = "data-key-rewrapped",
        /// A data key is taken out of use.
        DataKeyRetired = "data-key-retired",
        /// A tenant's keys are listed; the rows are of those who may not.
        KeysListed = "keys-listed",
        /// A pod gets its data keys in the clear.
        KeyUnwrapped = "key-unwrapped",
        /// A deletion record is signed.
        EvidenceRecorded = "evidence-recorded",
        /// A rule of admission is set aside.
        AdmissionOverridden = "admission-overridden",
        /// A command of the command line is run.
        CommandRun = "command-run",
        /// A month of the audit is dropped after its year. Written by the registry itself.
        AuditExpired = "audit-expired",
    }
}

/// A row to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The act: its `started` and its `finished` row have the same.
    pub id: Uuid,
    /// Where the act is.
    pub phase: Phase,
    /// Who acts: the Kubernetes user of the request, or the service account of a program.
    pub actor: String,
    /// What is done.
    pub action: Action,
    /// Whose silo it is about: UID and name.
    pub tenant: Option<(TenantUid, String)>,
    /// How it ended, or why it was refused; none while it goes on.
    pub outcome: Option<String>,
    /// What else there is to know, as an object of at most 16 KiB. Nothing secret, nothing personal.
    pub detail: Value,
}

impl Entry {
    /// The row before something is done.
    pub fn started(actor: impl Into<String>, action: Action) -> Self {
        Self {
            id: Uuid::now_v7(),
            phase: Phase::Started,
            actor: actor.into(),
            action,
            tenant: None,
            outcome: None,
            detail: Value::Object(serde_json::Map::new()),
        }
    }

    /// The one row of something that was not allowed.
    pub fn refused(actor: impl Into<String>, action: Action, why: impl Into<String>) -> Self {
        Self {
            phase: Phase::Refused,
            outcome: Some(why.into()),
            ..Self::started(actor, action)
        }
    }

    /// Says whose silo it is about.
    #[must_use]
    pub fn of(mut self, uid: TenantUid, name: impl Into<String>) -> Self {
        self.tenant = Some((uid, name.into()));
        self
    }

    /// Says what else there is to know, as an object.
    #[must_use]
    pub fn with(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// The row after what this one announced: same act, same detail.
    #[must_use]
    pub fn finished(&self, outcome: impl Into<String>) -> Self {
        Self {
            phase: Phase::Finished,
            outcome: Some(outcome.into()),
            ..self.clone()
        }
    }
}

/// Where in the chain an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the chain, from 1.
    pub seq: i64,
    /// When, by the registry's clock.
    pub at: Timestamp,
    /// The hash of the row before.
    pub prev: Hash,
    /// Its own hash.
    pub hash: Hash,
}

/// A row as it is read and exported. Phase and action are text here, because a newer version may know more of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its place in the chain, from 1.
    pub seq: i64,
    /// When, by the registry's clock.
    pub at: Timestamp,
    /// The act.
    pub id: Uuid,
    /// Where the act is: see [`Phase`].
    pub phase: String,
    /// Who acts.
    pub actor: String,
    /// What is done: see [`Action`].
    pub action: String,
    /// UID of the tenant it is about.
    pub tenant_uid: Option<TenantUid>,
    /// Name of the tenant it is about.
    pub tenant: Option<String>,
    /// How it ended, or why it was refused.
    pub outcome: Option<String>,
    /// What else there is to know.
    pub detail: Value,
    /// The hash of the row before.
    pub prev: Hash,
    /// Its own hash.
    pub hash: Hash,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_rows_of_an_act_tell_the_same() {
        let tenant = TenantUid(Uuid::from_u128(7));
        let started = Entry::started("ada", Action::KeyRotated)
            .of(tenant, "acme")
            .with(json!({"purpose": "app"}));
        let finished = started.finished("version 3");
        assert_eq!(
            (finished.id, &finished.tenant, &finished.detail),
            (started.id, &started.tenant, &started.detail)
        );
        assert_eq!(
            (finished.phase, finished.outcome.as_deref()),
            (Phase::Finished, Some("version 3"))
        );
        assert_eq!((started.phase, started.outcome), (Phase::Started, None));
    }

    #[test]
    fn words_are_what_the_table_takes_and_no_two_are_the_same() {
        let words: std::collections::BTreeSet<_> =
            Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(words.len(), Action::ALL.len());
        for word in words {
            assert!(
                word.len() <= 64 && word.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()),
                "{word}"
            );
            assert_eq!(word.parse::<Action>().unwrap().as_str(), word);
        }
        assert!("key-eaten".parse::<Action>().is_err());
    }
}
