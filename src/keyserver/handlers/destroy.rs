//! `POST /v1/tenants/{uid}/destroy`: the KMS is told to destroy the tenant's key; once that is due, it is confirmed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use jiff::Timestamp;
use serde_json::json;

use crate::audit::Action;
use crate::keys::{DELETION_DAYS, KeyId, KeyState, Kms as _, TenantUid};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::kms::Operation;
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::trail::{self, Trail};
use crate::keyserver::wire::{DestroyRequest, TenantKeys};
use crate::registry::{keys, tenants};

/// Answers the request. A destruction that was scheduled keeps its date.
pub async fn destroy(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) =
        admit_operator(&shared, &uid, request, Action::KeyDeletionScheduled).await?;
    let input: DestroyRequest = admitted.input()?;
    if !DELETION_DAYS.contains(&input.days) {
        let (first, last) = (DELETION_DAYS.start(), DELETION_DAYS.end());
        return Err(Refusal::new(
            Code::BadRequest,
            format!(
                "days is {}: a key is destroyed after {first} to {last} days",
                input.days
            ),
        ));
    }
    let working = shared.clone();
    shared
        .to_the_end(async move { end(&working, &admitted.caller, uid, input.days).await })
        .await
        .map(Json)
}

async fn end(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
    days: u32,
) -> Result<TenantKeys, Refusal> {
    let record = Record::read(shared, uid).await?;
    let id = match record.key.state {
        keys::State::Destroyed => return Ok(record.answer(None)),
        keys::State::Intended | keys::State::Enabled => {
            return Err(record.conflict("disable it first"));
        }
        keys::State::Disabled | keys::State::PendingDeletion => record.key_id()?.clone(),
    };
    let describe = shared
        .kms
        .ask(uid, Operation::Describe, |kms| kms.describe(&id));
    let found = describe.await?;
    match (record.key.state, found) {
        (keys::State::PendingDeletion, KeyState::PendingDeletion { .. }) => {
            Ok(record.answer(Some(found)))
        }
        (_, KeyState::Destroyed | KeyState::Missing) => {
            confirm(shared, caller, &record, &id, found).await
        }
        // Also what was scheduled by this server and not recorded, or cancelled by somebody else.
        _ => schedule(shared, caller, &record, &id, days).await,
    }
}

/// Has it destroyed, unless the tenant is wanted after all.
async fn schedule(
    shared: &Shared,
    caller: &Caller,
    record: &Record,
    id: &KeyId,
    days: u32,
) -> Result<TenantKeys, Refusal> {
    let (uid, name) = (record.tenant.uid, &record.tenant.name);
    if record.tenant.state == tenants::State::Live || shared.tenants.is_wanted(name, uid).await? {
        let detail = format!("tenant {name} is not being offboarded, so its key stays");
        let refusal = Refusal::new(Code::TenantLive, detail);
        let action = Action::KeyDeletionScheduled;
        trail::refused(shared, caller, action, record.whose(), &refusal).await;
        return Err(refusal);
    }
    let detail = json!({"key": id, "days": days});
    let trail = Trail::new(caller, Action::KeyDeletionScheduled, record.whose(), detail);
    trail.start(shared.registry.begin().await?).await?;
    let scheduled = shared
        .kms
        .ask(uid, Operation::ScheduleDeletion, |kms| {
            kms.schedule_deletion(id, days)
        })
        .await;
    match scheduled {
        Ok(at) => {
            let mut transaction = shared.registry.begin().await?;
            keys::deletion_scheduled(&mut transaction, uid, at).await?;
            trail.finish(transaction).await?;
            Ok(Record::read(shared, uid).await?.answer(None))
        }
        Err(failure) => {
            trail.failed(shared, failure.reason()).await;
            Err(failure.into())
        }
    }
}

/// Notes that the KMS has destroyed it, if that was due. A key that is missing before its time is more likely asked for
/// in the wrong place than destroyed.
async fn confirm(
    shared: &Shared,
    caller: &Caller,
    record: &Record,
    id: &KeyId,
    found: KeyState,
) -> Result<TenantKeys, Refusal> {
    let now = Timestamp::now();
    let due = record.key.deletion_at.is_some_and(|at| at <= now);
    if !due && found == KeyState::Missing {
        let detail = format!(
            "the KMS knows no key {id}, which it should not have destroyed yet: is this the right KMS, account and region?"
        );
        return Err(Refusal::new(Code::KeyUnusable, detail));
    }
    let uid = record.tenant.uid;
    let trail = Trail::new(
        caller,
        Action::KeyDestroyed,
        record.whose(),
        json!({"key": id, "found": found}),
    );
    let mut transaction = shared.registry.begin().await?;
    keys::destroyed(&mut transaction, uid, now).await?;
    trail.start_and_finish(transaction).await?;
    Ok(Record::read(shared, uid).await?.answer(Some(found)))
}
