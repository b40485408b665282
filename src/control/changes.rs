//! Changes of a tenant's spec: written into the audit before anything follows from them, with who made them, and once
//! more when the silo is what they asked for.
//!
//! Who that is comes from the annotation `granary.dev/requested-by`. The API server writes it, by the chart's policy
//! `granary-tenant-requester`, at each change of a spec; nobody else can.

use serde_json::{Value, json};

use super::{
    act::{Act, Announcement},
    context::Context,
    observe::Observed,
    tenant_keys::{KeysError, Subject, TenantKeys},
};
use crate::{
    api::{Phase, TenantState, TenantStatus, ValidTenant},
    audit::Action,
    registry::{
        Registry, RegistryError,
        operations::{self, Kind},
    },
};

/// Where an operation keeps the generation that it is about.
const GENERATION: &str = "generation";

/// A change that is not in the audit yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Generation of the spec.
    pub generation: i64,
    /// What the audit calls it.
    pub action: Action,
    /// What the spec asks for now; nothing personal.
    pub detail: Value,
}

/// The change that a pass would carry out, if it was not announced before. Onboarding and offboarding announce
/// themselves.
#[must_use]
pub fn unannounced(tenant: &ValidTenant, observed: &Observed) -> Option<Change> {
    let phase = observed.tenant.status.as_ref().map(|status| status.phase);
    let is_news = observed.key.is_some() && observed.announced != Some(tenant.generation);
    let action = match (tenant.state, phase) {
        (TenantState::Offboarded, _) | (_, Some(Phase::Offboarding | Phase::Offboarded)) => {
            return None;
        }
        (TenantState::Suspended, Some(Phase::Suspended)) => Action::TenantChanged,
        (TenantState::Suspended, _) => Action::TenantSuspended,
        (TenantState::Active, Some(Phase::Suspended)) => Action::TenantResumed,
        (TenantState::Active, _) => Action::TenantChanged,
    };
    is_news.then(|| Change {
        generation: tenant.generation,
        action,
        detail: json!({
            GENERATION: tenant.generation,
            "state": tenant.state,
            "plan": tenant.plan,
            "release": tenant.release.as_str(),
            "replicas": tenant.app.replicas,
            "deletionProtection": observed.tenant.spec.deletion_protection,
        }),
    })
}

/// Announces a change. One before it that never came to its end is superseded.
///
/// # Errors
/// Where the registry does not take it; then nothing may follow from the change.
pub async fn announce(
    keys: &TenantKeys,
    subject: Subject<'_>,
    change: &Change,
) -> Result<Act, KeysError> {
    let uid = subject.tenant_uid()?;
    let actor = keys.actor_of(&subject);
    let mut transaction = keys.registry()?.begin().await?;
    let before = operations::running(&mut transaction, uid, Kind::Change).await?;
    if let Some(before) = before.and_then(Act::resume)
        && before.detail()[GENERATION] != json!(change.generation)
    {
        before.end(&mut transaction, "superseded").await?;
    }
    let announcement = Announcement {
        kind: Kind::Change,
        action: change.action,
        actor,
        detail: change.detail.clone(),
    };
    Ok(Act::begin(transaction, (uid, subject.name), announcement).await?)
}

/// The changes that were announced and have not come to their end, by the UID of their tenant: what a process that takes
/// over has to conclude.
///
/// # Errors
/// Where the registry cannot be asked.
pub async fn running(registry: &Registry) -> Result<Vec<(String, Act)>, RegistryError> {
    let mut connection = registry.acquire().await?;
    let running = operations::all_running(&mut connection).await?;
    Ok(running
        .into_iter()
        .filter(|operation| operation.kind == Kind::Change)
        .filter_map(|operation| Some((operation.tenant.to_string(), Act::resume(operation)?)))
        .collect())
}

/// Says that a change is carried out, once the silo is what it asked for. Where the registry is away, a later pass does.
pub async fn conclude(context: &Context, uid: &str, status: &TenantStatus) {
    let Some(act) = context.memory.changing(uid) else {
        return;
    };
    if act.detail()[GENERATION] != json!(status.observed_generation) {
        return;
    }
    let concluding = async {
        let transaction = context.keys.registry()?.begin().await?;
        Ok::<_, KeysError>(act.finish(transaction, "done").await?)
    };
    match concluding.await {
        Ok(()) => context.memory.change(uid, None),
        Err(error) => {
            tracing::warn!(%error, "the end of a change could not be written into the audit yet");
        }
    }
}
