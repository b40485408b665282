//! One pass over one tenant: six steps, one way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{ResourceExt, runtime::controller::Action};
use tracing::Instrument;

use super::{
    assess, changes,
    context::Context,
    execute::{self, Executed, WayOut},
    observe,
    offboarding::{self, Standing},
    plan::{self, Plan},
    publish,
    writer::WriteError,
};
use crate::{
    api::{Phase, Rejection, SiloSettings, Tenant, ValidTenant},
    telemetry::PassOutcome,
};

/// Wait before the next step of a rotation or an offboarding, which the one before has made possible.
const NEXT_STEP: Duration = Duration::from_millis(20);

/// Why a pass could not be finished; it is repeated with growing waits.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Something could not be read.
    #[error("the API server could not be asked")]
    Observe(#[source] kube::Error),
    /// The status could not be written.
    #[error("the status could not be published")]
    Publish(#[source] WriteError),
}

/// Brings one tenant's silo to what its spec says, as far as that is possible now.
///
/// # Errors
/// See [`ReconcileError`]. What could not be written to the silo is no error here but a condition of the tenant.
pub async fn reconcile(
    tenant: Arc<Tenant>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let name = tenant.name_any();
    context.metrics.queue_depth(context.memory.dequeue(&name));
    let span =
        tracing::info_span!("reconcile", tenant = %name, reconcile_id = %uuid::Uuid::now_v7());
    let started = Instant::now();
    let result = pass(&context, tenant).instrument(span.clone()).await;
    let outcome = match &result {
        Ok((_, outcome)) => *outcome,
        Err(_) => PassOutcome::Failed,
    };
    context.metrics.pass(outcome, started.elapsed());
    result.map(|(action, _)| action)
}

async fn pass(
    context: &Context,
    tenant: Arc<Tenant>,
) -> Result<(Action, PassOutcome), ReconcileError> {
    // 1. observe (reads)
    let observed = observe::observe(context, tenant)
        .await
        .map_err(ReconcileError::Observe)?;
    let uid = observed.tenant.uid().unwrap_or_default();
    if offboarding::standing(&observed) == Standing::Leaves {
        return leave(context, &observed, &uid).await;
    }
    // 2. validate (pure)
    let settings = context.settings.load_full();
    let valid = match validate(&settings, &observed) {
        Ok(valid) => valid,
        Err(rejection) => {
            let status = assess::assess_rejected(&observed, &rejection);
            let action = publish::publish(context, &observed, status)
                .await
                .map_err(ReconcileError::Publish)?;
            return Ok((action, PassOutcome::Rejected));
        }
    };
    // 3. plan (pure, infallible)
    let plan = plan::build(&valid, &settings, &observed);
    // 4. execute (writes)
    let executed = execute::execute(context, &observed, Some(&valid), plan).await;
    if executed.failures.is_empty() {
        context.memory.built(&uid, &settings);
    }
    // 5. assess (pure)
    let status = assess::assess(&valid, &observed, &executed);
    let is_settled = matches!(status.phase, Phase::Ready | Phase::Suspended);
    // 6. publish (writes)
    if is_settled && executed.failures.is_empty() {
        changes::conclude(context, &uid, &status).await;
    }
    let action = publish::publish(context, &observed, status)
        .await
        .map_err(ReconcileError::Publish)?;
    Ok(conclude(context, &uid, &executed, is_settled, action))
}

/// The way out is another plan through the same steps; it needs no valid spec.
async fn leave(
    context: &Context,
    observed: &observe::Observed,
    uid: &str,
) -> Result<(Action, PassOutcome), ReconcileError> {
    let is_deleted = observed.tenant.metadata.deletion_timestamp.is_some();
    let finalizers = observed.tenant.finalizers();
    if is_deleted && !finalizers.iter().any(|name| name == crate::api::FINALIZER) {
        forget(context, uid);
        return Ok((Action::await_change(), PassOutcome::Done));
    }
    let todo = offboarding::next::next(observed);
    let plan = Plan::Offboard(todo.clone());
    let executed = execute::execute(context, observed, None, plan).await;
    if executed.way_out == WayOut::Gone {
        tracing::info!("the silo is gone");
        forget(context, uid);
        return Ok((Action::await_change(), PassOutcome::Done));
    }
    let status = offboarding::status::assess(observed, &todo, &executed);
    let is_settled = matches!(status.phase, Phase::Offboarded | Phase::Shredded);
    let action = publish::publish(context, observed, status)
        .await
        .map_err(ReconcileError::Publish)?;
    if executed.way_out == WayOut::Further {
        context.memory.succeeded(uid);
        context.memory.looked(uid, true);
        return Ok((Action::requeue(NEXT_STEP), PassOutcome::Waiting));
    }
    Ok(conclude(context, uid, &executed, is_settled, action))
}

fn validate(
    settings: &SiloSettings,
    observed: &observe::Observed,
) -> Result<ValidTenant, Rejection> {
    let plan = observed
        .plan
        .as_ref()
        .ok_or_else(|| Rejection::PlanNotFound {
            plan: observed.tenant.spec.plan.clone(),
        })?;
    if let Standing::Lost(since) = offboarding::standing(observed) {
        let since = since.map_or_else(String::new, |since| {
            format!(
                " since {}",
                since.round(jiff::Unit::Second).unwrap_or(since)
            )
        });
        return Err(Rejection::NoReturn { since });
    }
    ValidTenant::new(&observed.tenant, plan, settings)
}

fn conclude(
    context: &Context,
    uid: &str,
    executed: &Executed,
    is_settled: bool,
    action: Action,
) -> (Action, PassOutcome) {
    for failure in &executed.failures {
        tracing::warn!(object = %failure.object, reason = %failure.error.reason(), error = %failure.error, "a step could not be done");
    }
    if let Some(Err(trouble)) = &executed.rotation {
        tracing::warn!(reason = %trouble.reason, error = %trouble.message, "the rotation of the keys does not go on");
    }
    if executed.failures.is_empty() {
        context.memory.succeeded(uid);
        // The next step of a rotation follows at once.
        let action = if matches!(executed.rotation, Some(Ok(_))) {
            context.memory.looked(uid, true);
            Action::requeue(NEXT_STEP)
        } else {
            action
        };
        let outcome = if is_settled {
            PassOutcome::Done
        } else {
            PassOutcome::Waiting
        };
        return (action, outcome);
    }
    (
        Action::requeue(context.memory.failed(uid)),
        PassOutcome::Failed,
    )
}

fn forget(context: &Context, uid: &str) {
    context.memory.forget(uid);
    context.probes.forget(uid);
}

/// How long to wait after a pass that could not be finished.
#[must_use]
pub fn on_error(tenant: &Tenant, error: &ReconcileError, context: &Context) -> Action {
    let wait: Duration = context.memory.failed(&tenant.uid().unwrap_or_default());
    tracing::warn!(
        tenant = %tenant.name_any(),
        error = %error,
        cause = std::error::Error::source(error).map(ToString::to_string),
        ?wait,
        "a pass could not be finished and is repeated"
    );
    Action::requeue(wait)
}
