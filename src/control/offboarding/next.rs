//! What comes next in an offboarding: pure, from what was seen and what was written down.

use jiff::Timestamp;

use super::progress::{self, Progress, Running};
use crate::{
    api::{OffboardingStep as Step, Phase},
    control::{
        kind::Kind,
        observe::{Observed, Volumes},
        plan::Deletion,
        seen::Facts,
    },
};

/// What leads people to the tenant's app, in the order in which it goes.
pub const ACCESS: [Kind; 2] = [Kind::HttpRoute, Kind::Deployment];

/// What else keeps pods running.
pub const PODS: [Kind; 2] = [Kind::Job, Kind::StatefulSet];

/// One step to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Todo {
    /// Which step it belongs to.
    pub step: Step,
    /// What to do.
    pub task: Task,
}

/// What to do for a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Nothing but to say so: something is awaited, or has to be in the status before it is done.
    Wait,
    /// Say that the registry could not be asked: reason and message.
    Blocked(String, String),
    /// Write down that the tenant is on its way out.
    Announce,
    /// Delete these.
    Delete(Vec<Deletion>),
    /// Have the database exported for this recipient.
    Export(String),
    /// Make sure that nothing of these kinds is left in the namespace, and write down that the step is done.
    Finish(&'static [Kind]),
    /// Read the tenant again and write down that nothing brings it back.
    BeginShred,
    /// Have the key refuse.
    DisableKey,
    /// Have every data key tried.
    Prove,
    /// Count what there is to delete.
    Count,
    /// Have the key destroyed.
    ScheduleDestruction,
    /// Sign the record and set the tombstone.
    Record,
    /// Let the resource go.
    Release,
}

impl Todo {
    const fn new(step: Step, task: Task) -> Self {
        Self { step, task }
    }

    /// Whether it destroys anything, so that the tenant must be read again first.
    #[must_use]
    pub const fn is_destructive(&self) -> bool {
        !matches!(
            self.task,
            Task::Wait | Task::Blocked(..) | Task::Announce | Task::Export(_) | Task::Count
        )
    }
}

/// What comes next for a tenant on its way out.
#[must_use]
pub fn next(observed: &Observed) -> Todo {
    match &observed.progress {
        Progress::NotAsked => Todo::new(Step::Announce, Task::Wait),
        Progress::Unknown(reason, message) => {
            let told = progress::told(&observed.tenant).map(|told| told.step);
            let task = Task::Blocked(reason.clone(), message.clone());
            Todo::new(told.unwrap_or(Step::Announce), task)
        }
        // The status first: should the tenant come back a moment later, it is known by it that the registry has to hear.
        Progress::NotBegun
            if !is_deleted(observed) && progress::told(&observed.tenant).is_none() =>
        {
            Todo::new(Step::Announce, Task::Wait)
        }
        Progress::NotBegun => Todo::new(Step::Announce, Task::Announce),
        Progress::Running(running) => running_step(observed, running),
        Progress::Over(_) => over(observed),
    }
}

fn running_step(observed: &Observed, running: &Running) -> Todo {
    let journal = &running.journal;
    if journal.access_cut.is_none() {
        return gone_or_going(observed, Step::CutAccess, &ACCESS, &["app"]);
    }
    // Here nobody else reaches the data any more, and the database still runs.
    if journal.pods_stopped.is_none()
        && journal.exported.is_none()
        && let Some(recipient) = export_for(observed)
    {
        return Todo::new(Step::Export, Task::Export(recipient));
    }
    if journal.pods_stopped.is_none() {
        return gone_or_going(
            observed,
            Step::StopPods,
            &PODS,
            &["app", "database", "migrate"],
        );
    }
    if journal.shred_begun.is_none() {
        return before_shred(observed);
    }
    shred(observed, running)
}

/// Whom the database is exported for: nobody where the plan does not say, or where there never was a database.
fn export_for(observed: &Observed) -> Option<String> {
    let has_volume = observed
        .objects
        .keys()
        .any(|key| key.kind == Kind::PersistentVolumeClaim);
    let export = observed.plan.as_ref()?.spec.export.as_ref()?;
    has_volume.then(|| export.recipient.clone())
}

/// Deletes what is there of these kinds, waits until it and its pods are gone, and then has that noted.
fn gone_or_going(
    observed: &Observed,
    step: Step,
    kinds: &'static [Kind],
    components: &[&str],
) -> Todo {
    let left = deletions(observed, kinds);
    if !left.is_empty() {
        return Todo::new(step, Task::Delete(left));
    }
    let is_there = observed.objects.iter().any(|(key, seen)| {
        let of_component =
            matches!(&seen.facts, Facts::Pod(pod) if components.contains(&pod.component.as_str()));
        kinds.contains(&key.kind) || of_component
    });
    let task = if is_there {
        Task::Wait
    } else {
        Task::Finish(kinds)
    };
    Todo::new(step, task)
}

fn before_shred(observed: &Observed) -> Todo {
    if is_deleted(observed) {
        return Todo::new(Step::BeginShred, Task::BeginShred);
    }
    let is_over = progress::grace_ends(observed).is_some_and(|end| end <= observed.now);
    if !is_over {
        return Todo::new(Step::Grace, Task::Wait);
    }
    // The phase first: with it in place the API server lets nobody take the tenant back while it is being destroyed.
    let is_told = observed
        .tenant
        .status
        .as_ref()
        .is_some_and(|status| status.phase == Phase::Shredding);
    let task = if is_told {
        Task::BeginShred
    } else {
        Task::Wait
    };
    Todo::new(Step::BeginShred, task)
}

fn shred(observed: &Observed, running: &Running) -> Todo {
    let Running {
        journal, has_key, ..
    } = running;
    let wants = |done: Option<Timestamp>| *has_key && done.is_none();
    if wants(journal.keys_disabled) {
        Todo::new(Step::DisableKey, Task::DisableKey)
    } else if wants(journal.proved) {
        Todo::new(Step::Prove, Task::Prove)
    } else if journal.removed.is_none() {
        Todo::new(Step::Count, Task::Count)
    } else if journal.volumes_deleted.is_none() {
        delete_data(observed)
    } else if wants(journal.deletion_scheduled) {
        Todo::new(Step::ScheduleDestruction, Task::ScheduleDestruction)
    } else if wants(journal.proved_again) {
        Todo::new(Step::ProveAgain, Task::Prove)
    } else {
        Todo::new(Step::Record, Task::Record)
    }
}

fn delete_data(observed: &Observed) -> Todo {
    let left = deletions(observed, &[Kind::Namespace]);
    let task = if !left.is_empty() {
        Task::Delete(left)
    } else if !observed.has_namespace() && observed.volumes == Volumes::Left(Vec::new()) {
        Task::Finish(&[])
    } else {
        Task::Wait
    };
    Todo::new(Step::DeleteData, task)
}

/// A tombstone rests until its resource is deleted.
fn over(observed: &Observed) -> Todo {
    if !is_deleted(observed) {
        return Todo::new(Step::Shredded, Task::Wait);
    }
    // Somebody made it again meanwhile, or removed a finalizer by hand.
    let left = deletions(observed, &[Kind::Namespace]);
    let task = if !left.is_empty() {
        Task::Delete(left)
    } else if observed.has_namespace() {
        Task::Wait
    } else {
        Task::Release
    };
    Todo::new(Step::Shredded, task)
}

fn is_deleted(observed: &Observed) -> bool {
    observed.tenant.metadata.deletion_timestamp.is_some()
}

/// What there is of these kinds and does not go yet, in their order.
fn deletions(observed: &Observed, kinds: &[Kind]) -> Vec<Deletion> {
    let of_kind = |kind: Kind| {
        observed
            .objects
            .iter()
            .filter(move |(key, seen)| key.kind == kind && !seen.terminating)
    };
    kinds
        .iter()
        .flat_map(|kind| of_kind(*kind))
        .map(|(key, seen)| Deletion {
            key: key.clone(),
            uid: seen.uid.clone(),
        })
        .collect()
}
