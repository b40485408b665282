//! How far an offboarding is: what the registry has written down of it.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    api::{
        SiloName, Tenant, TenantState,
        tenant::{Offboarding, OffboardingStatus},
    },
    control::{act::Act, observe::Observed},
    evidence::{Export, Key, Proof, Removed},
};

/// What an offboarding has done so far, each with its time: the detail of its operation in the registry.
///
/// Times are the operator's, and none is before the one written down before it, whichever replica wrote that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Journal {
    /// Seconds of grace by the plan as it was at the begin: a later change of the plan shortens nobody's.
    pub grace_seconds: Option<u64>,
    /// Kubernetes objects that the silo had at the begin, pods aside.
    pub objects: u64,
    /// Nobody reached the tenant's page any more.
    pub access_cut: Option<Timestamp>,
    /// The export was complete and sealed.
    pub exported: Option<Timestamp>,
    /// The export itself, where the plan asks for one.
    pub export: Option<Export>,
    /// No pod was left.
    pub pods_stopped: Option<Timestamp>,
    /// From here on nothing brings the tenant back.
    pub shred_begun: Option<Timestamp>,
    /// Id of the shred's rows in the audit.
    pub shred: Option<Uuid>,
    /// The key, once it was switched off.
    pub key: Option<Key>,
    /// When that was.
    pub keys_disabled: Option<Timestamp>,
    /// Every attempt to unwrap, with the answer.
    pub proofs: Vec<Proof>,
    /// Every data key had been tried, and was refused.
    pub proved: Option<Timestamp>,
    /// What there was to delete.
    pub removed: Option<Removed>,
    /// Namespace and volumes were gone.
    pub volumes_deleted: Option<Timestamp>,
    /// The KMS had the key's destruction on its calendar.
    pub deletion_scheduled: Option<Timestamp>,
    /// For when.
    pub destruction_due: Option<Timestamp>,
    /// Every data key had been tried once more.
    pub proved_again: Option<Timestamp>,
    /// All that was done, and put on record.
    pub shredded: Option<Timestamp>,
}

impl Journal {
    /// Now, or the time of what was written down last if a clock is behind that.
    #[must_use]
    pub fn moment(&self, now: Timestamp) -> Timestamp {
        [
            self.access_cut,
            self.exported,
            self.pods_stopped,
            self.shred_begun,
            self.keys_disabled,
            self.proved,
            self.volumes_deleted,
            self.deletion_scheduled,
            self.proved_again,
            self.shredded,
        ]
        .into_iter()
        .flatten()
        .fold(now, Timestamp::max)
    }
}

/// What is known of a tenant's offboarding.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Progress {
    /// Nobody asked: the tenant is not on its way out.
    #[default]
    NotAsked,
    /// The registry could not be asked: reason and message.
    Unknown(String, String),
    /// The registry knows of none.
    NotBegun,
    /// It goes on.
    Running(Box<Running>),
    /// The tenant is a tombstone.
    Over(Box<Journal>),
}

/// An offboarding that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The operation in the registry, and the act in the audit.
    pub act: Act,
    /// What was done.
    pub journal: Journal,
    /// Whether the tenant has a key, or was to get one.
    pub has_key: bool,
}

impl Progress {
    /// What was done so far.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        match self {
            Self::Running(running) => Some(&running.journal),
            Self::Over(journal) => Some(journal),
            Self::NotAsked | Self::Unknown(..) | Self::NotBegun => None,
        }
    }
}

/// What a tenant's wanted state and the registry's say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has nothing to do with an offboarding.
    Stays,
    /// It is on its way out, or that is not known.
    Leaves,
    /// It was on its way out and is wanted again.
    ComesBack,
    /// It is wanted again, and cannot come back: since when, if that is known.
    Lost(Option<Timestamp>),
}

/// Whether the registry has to be asked about the tenant's end: it is wanted gone, or was until a moment ago.
#[must_use]
pub fn concerns(tenant: &Tenant) -> bool {
    is_unwanted(tenant) || told(tenant).is_some()
}

/// Whether somebody wants the tenant gone.
#[must_use]
pub fn is_unwanted(tenant: &Tenant) -> bool {
    tenant.metadata.deletion_timestamp.is_some() || tenant.spec.state == TenantState::Offboarded
}

/// What the tenant's own status says of its offboarding. One that came with a resource of another UID, out of a backup,
/// names another namespace and says nothing.
#[must_use]
pub fn told(tenant: &Tenant) -> Option<&OffboardingStatus> {
    let status = tenant.status.as_ref()?;
    let own = SiloName::new(&tenant.name_any(), &tenant.uid()?);
    let is_own = status
        .namespace
        .as_deref()
        .is_none_or(|namespace| namespace == own.as_str());
    status.offboarding.as_ref().filter(|_| is_own)
}

/// What the tenant's wanted state and the registry's say together.
#[must_use]
pub fn standing(observed: &Observed) -> Standing {
    if is_unwanted(&observed.tenant) {
        return Standing::Leaves;
    }
    match &observed.progress {
        Progress::NotAsked => Standing::Stays,
        // Unknown is not "none": a tenant whose keys are perhaps destroyed is not built.
        Progress::Unknown(..) => Standing::Leaves,
        Progress::NotBegun => Standing::ComesBack,
        Progress::Running(running) => match running.journal.shred_begun {
            None => Standing::ComesBack,
            begun => Standing::Lost(begun),
        },
        Progress::Over(journal) => Standing::Lost(journal.shred_begun),
    }
}

/// How long a tenant can come back where neither it nor its plan say anything.
const USUAL_GRACE: Duration = Duration::from_hours(7 * 24);

/// How long the tenant can come back: its own word, else the plan's at the begin, else the plan's now, else 7 days. One
/// that was deleted does not.
#[must_use]
pub fn grace(observed: &Observed) -> Duration {
    if observed.tenant.metadata.deletion_timestamp.is_some() {
        return Duration::ZERO;
    }
    let own = observed.tenant.spec.offboarding.as_ref();
    let noted = observed.progress.journal();
    own.and_then(Offboarding::grace_period)
        .or_else(|| noted?.grace_seconds.map(Duration::from_secs))
        .unwrap_or_else(|| plans_grace(observed))
}

/// How long a tenant of this plan can come back if it says nothing itself.
#[must_use]
pub fn plans_grace(observed: &Observed) -> Duration {
    let plan = observed.plan.as_ref();
    plan.and_then(|plan| plan.spec.offboarding.as_ref()?.grace_period())
        .unwrap_or(USUAL_GRACE)
}

/// When the grace period ends; none before access is cut, or for a time beyond what can be counted.
#[must_use]
pub fn grace_ends(observed: &Observed) -> Option<Timestamp> {
    let cut = observed.progress.journal()?.access_cut?;
    cut.checked_add(grace(observed)).ok()
}
