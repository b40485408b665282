//! `POST /v1/tenants/{uid}/prove`: tries to unwrap every data key of the tenant, to show that the KMS refuses.
//!
//! It is tried here and not by the operator, so that a key that is *not* refused is seen by nobody.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use jiff::Timestamp;
use serde_json::json;

use crate::audit::Action;
use crate::keys::{KeyId, KeyState, Kms as _, KmsError, TenantUid, WrappedKey};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::kms::{KmsFailure, Operation};
use crate::keyserver::problem::Refusal;
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::trail::Trail;
use crate::keyserver::wire::{Attempt, Proof};
use crate::registry::data_keys::DataKey;
use crate::registry::keys;

/// Answers the request. A KMS that cannot be asked, or that refuses this server for other reasons than the key's state,
/// proves nothing.
pub async fn prove(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<Proof>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::KeyRefusalProven).await?;
    admitted.no_input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { attempt_all(&working, &admitted.caller, uid).await })
        .await
        .map(Json)
}

async fn attempt_all(shared: &Shared, caller: &Caller, uid: TenantUid) -> Result<Proof, Refusal> {
    let record = Record::read(shared, uid).await?;
    let id = record.key_id()?;
    let trail = Trail::new(
        caller,
        Action::KeyRefusalProven,
        record.whose(),
        json!({"key": id}),
    );
    trail.start(shared.registry.begin().await?).await?;
    let mut attempts = Vec::with_capacity(record.data_keys.len());
    for key in &record.data_keys {
        match attempt(shared, &record, id, key).await {
            Ok(attempt) => attempts.push(attempt),
            Err(failure) => {
                trail.failed(shared, failure.reason()).await;
                return Err(failure.into());
            }
        }
    }
    let refused = !attempts.is_empty() && attempts.iter().all(|attempt| attempt.refused);
    if refused {
        trail.finish(shared.registry.begin().await?).await?;
    } else {
        let reason = if attempts.is_empty() {
            "NothingToTry"
        } else {
            "NotRefused"
        };
        trail.failed(shared, reason).await;
    }
    Ok(Proof {
        tenant: uid,
        key_id: id.clone(),
        at: Timestamp::now(),
        refused,
        attempts,
    })
}

/// Tries one; what comes out is wiped before anything else happens.
async fn attempt(
    shared: &Shared,
    record: &Record,
    id: &KeyId,
    key: &DataKey,
) -> Result<Attempt, KmsFailure> {
    let wrapped = WrappedKey::from_bytes(&key.wrapped).map_err(KmsError::from)?;
    let context = &key.context;
    let tried = shared
        .kms
        .ask(context.tenant, Operation::Unwrap, |kms| {
            kms.unwrap(id, &wrapped, context)
        })
        .await
        .map(drop);
    let (refused, answer) = match tried {
        Ok(()) => (false, "unwrapped".to_owned()),
        Err(KmsFailure::Kms(error)) if proves(record, &error) => (true, error.to_string()),
        Err(failure) => return Err(failure),
    };
    Ok(Attempt {
        purpose: context.purpose,
        version: context.version,
        refused,
        answer,
    })
}

/// Whether a refusal is because of the key's state. A key that the KMS does not know proves something only once it is
/// due to be destroyed: before that, this server is more likely connected to the wrong KMS.
fn proves(record: &Record, error: &KmsError) -> bool {
    let gone = record.key.state == keys::State::Destroyed
        || record
            .key
            .deletion_at
            .is_some_and(|at| at <= Timestamp::now());
    match error {
        KmsError::Disabled {
            state: KeyState::Missing,
            ..
        }
        | KmsError::NotFound { .. } => gone,
        KmsError::Disabled { .. } => true,
        _ => false,
    }
}
