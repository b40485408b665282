//! What a tenant's status says of its offboarding: pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{Task, Todo, progress};
use crate::{
    api::{
        ConditionType, OffboardingStep as Step, Phase, SiloName, TenantStatus,
        tenant::OffboardingStatus,
    },
    control::{
        assess::{Verdict, dated},
        execute::Executed,
        observe::{Observed, Volumes},
    },
};

/// The status of a tenant on its way out. It says nothing of the silo, of which less is there each time.
#[must_use]
pub fn assess(observed: &Observed, todo: &Todo, executed: &Executed) -> TenantStatus {
    let mut status = observed.tenant.status.clone().unwrap_or_default();
    let metadata = &observed.tenant.metadata;
    let generation = metadata.generation.unwrap_or_default();
    let verdict = match executed.failures.first() {
        Some(failure) => Verdict::fails(&failure.error.reason(), failure.error.to_string()),
        None => verdict(observed, todo.step),
    };
    let previous = observed.tenant.status.as_ref();
    status.conditions = dated(
        vec![(ConditionType::Ready, verdict)],
        generation,
        previous,
        observed.now,
    );
    let is_unknown = matches!(todo.task, Task::Blocked(..));
    status.phase = if metadata.deletion_timestamp.is_some() {
        Phase::Deleting
    } else if is_unknown && is_of_offboarding(status.phase) {
        status.phase
    } else {
        phase(todo.step)
    };
    status.observed_generation = Some(generation);
    let uid = observed.tenant.uid().unwrap_or_default();
    status.namespace = Some(SiloName::new(&observed.tenant.name_any(), &uid).to_string());
    status.offboarding = Some(offboarding(observed, todo.step));
    status
}

const fn is_of_offboarding(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Offboarding | Phase::Offboarded | Phase::Shredding | Phase::Shredded
    )
}

const fn phase(step: Step) -> Phase {
    match step {
        Step::Announce | Step::CutAccess | Step::Export | Step::StopPods => Phase::Offboarding,
        Step::Grace => Phase::Offboarded,
        Step::Shredded => Phase::Shredded,
        _ => Phase::Shredding,
    }
}

fn offboarding(observed: &Observed, step: Step) -> OffboardingStatus {
    let told = progress::told(&observed.tenant);
    let journal = observed.progress.journal();
    let time = |at: jiff::Timestamp| Time(at.round(jiff::Unit::Second).unwrap_or(at));
    let noted = journal.cloned().unwrap_or_default();
    // What cannot be asked for right now stays as it was told.
    let kept = told.filter(|_| journal.is_none());
    OffboardingStatus {
        step,
        started_at: told.map_or_else(|| time(observed.now), |told| told.started_at.clone()),
        access_cut_at: noted
            .access_cut
            .map(time)
            .or_else(|| kept?.access_cut_at.clone()),
        grace_ends_at: progress::grace_ends(observed)
            .map(time)
            .or_else(|| kept?.grace_ends_at.clone()),
        shredded_at: noted
            .shredded
            .map(time)
            .or_else(|| kept?.shredded_at.clone()),
        key_destroyed_at: noted
            .destruction_due
            .map(time)
            .or_else(|| kept?.key_destroyed_at.clone()),
    }
}

fn verdict(observed: &Observed, step: Step) -> Verdict {
    let name = observed.tenant.name_any();
    let journal = observed.progress.journal();
    match step {
        Step::Announce => Verdict::fails(
            "Offboarding",
            "the offboarding is being written down in registry and audit",
        ),
        Step::CutAccess => Verdict::fails("CuttingAccess", "route and app are being removed"),
        Step::Export => Verdict::fails(
            "Exporting",
            "access is cut; the database is being exported, sealed for the recipient that the plan names",
        ),
        Step::StopPods => Verdict::fails(
            "StoppingPods",
            format!("access is cut; {} pods are stopping", observed.pods_left()),
        ),
        Step::Grace => {
            let end = progress::grace_ends(observed).map_or_else(String::new, |end| {
                format!(" until {}", end.round(jiff::Unit::Second).unwrap_or(end))
            });
            Verdict::fails(
                "Offboarded",
                format!(
                    "access is cut and no pod runs; `granary reinstate {name}` brings it back{end}, then its key and data are destroyed"
                ),
            )
        }
        Step::DeleteData => data(observed),
        Step::Shredded => {
            let when = journal
                .and_then(|journal| journal.shredded)
                .map_or_else(String::new, |at| {
                    format!(" since {}", at.round(jiff::Unit::Second).unwrap_or(at))
                });
            Verdict::fails(
                "Shredded",
                format!(
                    "nothing opens its data any more, and its volumes are gone{when}; `granary evidence show {name}` proves it, and `granary offboard {name}` removes this resource"
                ),
            )
        }
        Step::BeginShred | Step::Count | Step::Record => shredding("it is being destroyed"),
        Step::DisableKey => shredding("its key is being switched off"),
        Step::Prove | Step::ProveAgain => {
            shredding("every data key is tried, and has to be refused")
        }
        Step::ScheduleDestruction => shredding("the KMS is being told to destroy its key"),
    }
}

fn shredding(what: &str) -> Verdict {
    Verdict::fails("Shredding", format!("{what}; nothing brings it back"))
}

fn data(observed: &Observed) -> Verdict {
    match &observed.volumes {
        Volumes::Left(volumes) if !volumes.is_empty() => Verdict::fails(
            "VolumeLeft",
            format!(
                "the namespace is gone and its volume is not: {}. If its reclaim policy is Retain, delete it",
                volumes.join(", ")
            ),
        ),
        _ => Verdict::fails(
            "Removing",
            "its key refuses; the namespace and its volume are being removed",
        ),
    }
}
