//! `POST /v1/tenants/{uid}/rewrap`: the tenant's key gets a new version, and the data keys are wrapped under it.
//!
//! The data keys stay what they are, so no pod notices.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use jiff::Timestamp;
use serde_json::json;

use crate::audit::Action;
use crate::keys::{KeyId, Kms as _, TenantUid, WrappedKey};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::kms::{KmsFailure, Operation};
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::trail::Trail;
use crate::keyserver::wire::{RewrapRequest, TenantKeys};
use crate::registry::data_keys::{self, DataKey};
use crate::registry::keys;

/// Answers the request. Sent again, it does what is left to do.
pub async fn rewrap(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::KeyRotated).await?;
    let input: RewrapRequest = admitted.input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { renew(&working, &admitted.caller, uid, input).await })
        .await
        .map(Json)
}

async fn renew(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
    RewrapRequest { from }: RewrapRequest,
) -> Result<TenantKeys, Refusal> {
    let record = Record::read(shared, uid).await?;
    let id = record.in_use()?;
    let version = record.key.version;
    if version == from {
        rotate(shared, caller, &record, id, from).await?;
    } else if version != from.saturating_add(1) {
        let detail = format!(
            "the key of tenant {} has version {version}, not {from}",
            record.tenant.name
        );
        return Err(Refusal::new(Code::Conflict, detail));
    }
    let in_use = record
        .data_keys
        .iter()
        .filter(|key| key.state != data_keys::State::Retired);
    for key in in_use {
        wrap(shared, caller, &record, id, key).await?;
    }
    Ok(Record::read(shared, uid).await?.answer(None))
}

/// Gives the tenant's key new material.
async fn rotate(
    shared: &Shared,
    caller: &Caller,
    record: &Record,
    id: &KeyId,
    from: u32,
) -> Result<(), Refusal> {
    let uid = record.tenant.uid;
    let trail = Trail::new(
        caller,
        Action::KeyRotated,
        record.whose(),
        json!({"from": from}),
    );
    trail.start(shared.registry.begin().await?).await?;
    let rotated = shared
        .kms
        .ask(uid, Operation::RotateKey, |kms| kms.rotate_key(id, from))
        .await;
    match rotated {
        Ok(version) => {
            let mut transaction = shared.registry.begin().await?;
            keys::rotated(&mut transaction, uid, version, Timestamp::now()).await?;
            Ok(trail.finish(transaction).await?)
        }
        Err(failure) => {
            trail.failed(shared, failure.reason()).await;
            Err(failure.into())
        }
    }
}

/// Wraps one data key under the newest version of its key, where it is not.
async fn wrap(
    shared: &Shared,
    caller: &Caller,
    record: &Record,
    id: &KeyId,
    key: &DataKey,
) -> Result<(), Refusal> {
    let context = &key.context;
    let old = WrappedKey::from_bytes(&key.wrapped)
        .map_err(|error| Refusal::from(KmsFailure::Kms(error.into())))?;
    let detail = json!({"purpose": context.purpose, "version": context.version});
    let trail = Trail::new(caller, Action::DataKeyRewrapped, record.whose(), detail);
    trail.start(shared.registry.begin().await?).await?;
    let wrapped = shared
        .kms
        .ask(context.tenant, Operation::Rewrap, |kms| {
            kms.rewrap(id, &old, context)
        })
        .await;
    match wrapped {
        Ok(wrapped) => {
            let mut transaction = shared.registry.begin().await?;
            data_keys::rewrap(&mut transaction, context, &wrapped.to_bytes()).await?;
            Ok(trail.finish(transaction).await?)
        }
        Err(failure) => {
            trail.failed(shared, failure.reason()).await;
            Err(failure.into())
        }
    }
}
