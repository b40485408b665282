//! `POST /v1/tenants/{uid}/disable`: nobody gets the tenant's keys any more, until they are enabled again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use serde_json::json;

use crate::audit::Action;
use crate::keys::{KeyId, KeyState, Kms as _, TenantUid};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::kms::Operation;
use crate::keyserver::making;
use crate::keyserver::problem::Refusal;
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::trail::{Last, Trail};
use crate::keyserver::wire::TenantKeys;
use crate::registry::keys;

/// Answers the request. A key that refuses already stays as it is.
pub async fn disable(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::KeyDisabled).await?;
    admitted.no_input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { switch_off(&working, &admitted.caller, uid).await })
        .await
        .map(Json)
}

async fn switch_off(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
) -> Result<TenantKeys, Refusal> {
    let record = Record::read(shared, uid).await?;
    let id = match record.key.state {
        keys::State::PendingDeletion | keys::State::Destroyed => return Ok(record.answer(None)),
        // A crash may have left it in the KMS without a record: found or made there, it can be switched off.
        keys::State::Intended => making::key(shared, caller, &record).await?,
        keys::State::Enabled | keys::State::Disabled => record.key_id()?.clone(),
    };
    if record.key.state == keys::State::Disabled {
        let describe = shared
            .kms
            .ask(uid, Operation::Describe, |kms| kms.describe(&id));
        if describe.await? != KeyState::Enabled {
            conclude(shared, caller, &record, &id).await?;
            return Ok(record.answer(None));
        }
    }
    let trail = announcement(caller, &record, &id);
    // The registry first: from here on this server refuses, whether or not the KMS can be reached.
    let mut transaction = shared.registry.begin().await?;
    keys::disabled(&mut transaction, uid).await?;
    trail.start(transaction).await?;
    let disabled = shared
        .kms
        .ask(uid, Operation::Disable, |kms| kms.disable(&id))
        .await;
    if let Err(failure) = disabled {
        trail.failed(shared, failure.reason()).await;
        return Err(failure.into());
    }
    trail.finish(shared.registry.begin().await?).await?;
    Ok(Record::read(shared, uid).await?.answer(None))
}

/// Sees to it that the audit says so too: the KMS may have done it without anybody having heard of it.
async fn conclude(
    shared: &Shared,
    caller: &Caller,
    record: &Record,
    id: &KeyId,
) -> Result<(), Refusal> {
    let last = Trail::last(shared, Action::KeyDisabled, record.tenant.uid).await?;
    match last {
        Last::Done => {}
        Last::Interrupted(trail) => trail.finish(shared.registry.begin().await?).await?,
        Last::NotDone => {
            let trail = announcement(caller, record, id);
            trail
                .start_and_finish(shared.registry.begin().await?)
                .await?;
        }
    }
    Ok(())
}

fn announcement(caller: &Caller, record: &Record, id: &KeyId) -> Trail {
    Trail::new(
        caller,
        Action::KeyDisabled,
        record.whose(),
        json!({"key": id}),
    )
}
