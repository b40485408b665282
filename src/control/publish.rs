//! Step 6: status, event and metric, and when to look again.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Resource, ResourceExt,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};

use super::{
    context::Context, observe::Observed, probe, rotation::report::ROTATING, writer::WriteError,
};
use crate::api::{
    Condition, ConditionStatus, ConditionType, Phase, Tenant, TenantState, TenantStatus,
};

/// While a silo comes up or its keys are replaced, what changes on the way is written at most this often: onboarding
/// needs two writes.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// How often a tenant that can still come back is looked at.
const GRACE_LOOK: Duration = Duration::from_hours(1);

/// How often a silo that is on its way is looked at again, changes aside.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Publishes a status if it says something new, and decides when to look again.
///
/// # Errors
/// Where the status could not be written; the pass is repeated.
pub async fn publish(
    context: &Context,
    observed: &Observed,
    status: TenantStatus,
) -> Result<Action, WriteError> {
    let tenant = observed.tenant.as_ref();
    let uid = tenant.uid().unwrap_or_default();
    let published = context.memory.published(&uid);
    let known = published
        .as_ref()
        .map(|(status, _)| status)
        .or(tenant.status.as_ref());
    if known.is_some_and(|known| says_the_same(known, &status)) {
        return Ok(next_look(context, observed, &status));
    }
    if let Some((before, at)) = &published
        && is_only_progress(before, &status)
        && at.elapsed() < PROGRESS_EVERY
    {
        return Ok(Action::requeue(next_progress(*at)));
    }
    context.writer.publish_status(tenant, &status).await?;
    let before = known.cloned().unwrap_or_default();
    context.memory.publish(&uid, status.clone());
    announce(context, tenant, &before, &status).await;
    Ok(next_look(context, observed, &status))
}

fn next_progress(at: Instant) -> Duration {
    PROGRESS_EVERY
        .saturating_sub(at.elapsed())
        .clamp(Duration::from_millis(20), LOOK_EVERY)
}

/// Equal but for the database's size, which drifts without meaning anything.
fn says_the_same(known: &TenantStatus, status: &TenantStatus) -> bool {
    let meaning = |status: &TenantStatus| {
        let mut status = status.clone();
        if let Some(database) = &mut status.database {
            database.size_bytes = None;
        }
        status
    };
    meaning(known) == meaning(status)
}

/// The silo is on its way before and after, in the same phase and for the same spec; or its keys are being replaced, and
/// nothing else changed.
fn is_only_progress(before: &TenantStatus, status: &TenantStatus) -> bool {
    let comes_up = before.phase == Phase::Provisioning && status.phase == Phase::Provisioning;
    before.observed_generation == status.observed_generation
        && (comes_up || without_rows(before) == without_rows(status))
}

/// A status without the figures of a rotation that goes on.
fn without_rows(status: &TenantStatus) -> TenantStatus {
    let mut status = status.clone();
    if let Some(rotation) = status.key.as_mut().and_then(|key| key.rotation.as_mut()) {
        rotation.rows_left = None;
    }
    for condition in &mut status.conditions {
        if condition.reason == ROTATING {
            condition.message.clear();
        }
    }
    status
}

/// When to look again without any change: soon while the page is awaited, at the next renewal otherwise.
fn next_look(context: &Context, observed: &Observed, status: &TenantStatus) -> Action {
    let uid = observed.tenant.uid().unwrap_or_default();
    match status.phase {
        Phase::Ready | Phase::Degraded if is_rotating(status) => {
            Action::requeue(LOOK_EVERY.max(context.memory.looked(&uid, false)))
        }
        Phase::Ready => {
            context.memory.looked(&uid, true);
            let due = [until_renewal(observed, status), until_rotation(observed)];
            Action::requeue(
                due.into_iter()
                    .flatten()
                    .fold(probe::FRESH_FOR, Duration::min),
            )
        }
        Phase::Provisioning | Phase::Degraded if observed.page != probe::Page::NotTried => {
            Action::requeue(context.memory.looked(&uid, false))
        }
        Phase::Provisioning | Phase::Degraded => {
            Action::requeue(LOOK_EVERY.max(context.memory.looked(&uid, false)))
        }
        Phase::Offboarding | Phase::Shredding | Phase::Deleting => {
            Action::requeue(context.memory.looked(&uid, false))
        }
        Phase::Offboarded => Action::requeue(until_grace_ends(observed, status)),
        _ => until_renewal(observed, status).map_or_else(Action::await_change, Action::requeue),
    }
}

/// How long until the moment comes before which keys are to be replaced, if it lies ahead.
fn until_rotation(observed: &Observed) -> Option<Duration> {
    let keys = observed.tenant.spec.keys.as_ref()?;
    let ahead = keys.not_before.as_ref()?.0.duration_since(observed.now);
    Duration::try_from(ahead)
        .ok()
        .filter(|wait| !wait.is_zero())
}

/// Keys are being replaced, or wait for it.
fn is_rotating(status: &TenantStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::KeyReady && condition.reason == ROTATING)
}

fn until_renewal(observed: &Observed, status: &TenantStatus) -> Option<Duration> {
    let due = status.certificates_renew_at.as_ref()?.0;
    Some(
        Duration::try_from(due.duration_since(observed.now))
            .unwrap_or(Duration::ZERO)
            .max(Duration::from_millis(200)),
    )
}

/// Until the grace period ends; in between it is looked at now and then, in case a clock was set.
fn until_grace_ends(observed: &Observed, status: &TenantStatus) -> Duration {
    let end = status
        .offboarding
        .as_ref()
        .and_then(|offboarding| offboarding.grace_ends_at.as_ref());
    // The status has whole seconds: its end may be over a moment before the grace period is.
    let left = |end: &Time| Duration::try_from(end.0.duration_since(observed.now));
    end.map_or(GRACE_LOOK, |end| left(end).unwrap_or(Duration::ZERO))
        .clamp(Duration::from_millis(200), GRACE_LOOK)
}

/// One event per transition of `Ready` and of the state, never per pass.
async fn announce(
    context: &Context,
    tenant: &Tenant,
    before: &TenantStatus,
    status: &TenantStatus,
) {
    let Some(event) = transition(tenant, before, status) else {
        return;
    };
    if let Err(error) = context
        .recorder
        .publish(&event, &tenant.object_ref(&()))
        .await
    {
        tracing::warn!(%error, tenant = %tenant.name_any(), "an event could not be written");
    }
}

fn transition(tenant: &Tenant, before: &TenantStatus, status: &TenantStatus) -> Option<Event> {
    let ready = |status: &TenantStatus| -> Option<Condition> {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == ConditionType::Ready)
            .cloned()
    };
    let (was, is) = (ready(before), ready(status)?);
    let was_ready = was
        .as_ref()
        .is_some_and(|was| was.status == ConditionStatus::True);
    let is_ready = is.status == ConditionStatus::True;
    let first_seen = was.is_none();
    let coming_up = status.phase == Phase::Provisioning && !was_ready;
    let same_story =
        was.as_ref().is_some_and(|was| was.reason == is.reason) && was_ready == is_ready;
    if same_story || (coming_up && (first_seen || is_on_its_way(&is.reason))) {
        return None;
    }
    let calm =
        is_ready || tenant.spec.state != TenantState::Active || status.phase == Phase::Deleting;
    Some(Event {
        type_: if calm {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: is.reason,
        note: Some(is.message),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}

/// Reasons that every silo passes through.
fn is_on_its_way(reason: &str) -> bool {
    matches!(
        reason,
        "Starting"
            | "VolumePending"
            | "Migrating"
            | "WaitingForApp"
            | "PageNotAnswering"
            | "Waiting"
            | "NotLeader"
    )
}
