//! `POST /v1/tenants/{uid}/enable`: a key that was switched off serves again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use serde_json::json;

use crate::audit::Action;
use crate::keys::{KeyState, Kms as _, TenantUid};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::kms::Operation;
use crate::keyserver::problem::Refusal;
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::trail::Trail;
use crate::keyserver::wire::TenantKeys;
use crate::registry::keys;

/// Answers the request. A key that serves already stays as it is; one that is going to be destroyed does not come back.
pub async fn enable(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::KeyEnabled).await?;
    admitted.no_input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { switch_on(&working, &admitted.caller, uid).await })
        .await
        .map(Json)
}

async fn switch_on(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
) -> Result<TenantKeys, Refusal> {
    let record = Record::read(shared, uid).await?;
    if !matches!(
        record.key.state,
        keys::State::Enabled | keys::State::Disabled
    ) {
        return Err(record.conflict("only a key that was disabled can be enabled"));
    }
    let id = record.key_id()?;
    if record.key.state == keys::State::Enabled {
        let describe = shared
            .kms
            .ask(uid, Operation::Describe, |kms| kms.describe(id));
        if describe.await? == KeyState::Enabled {
            return Ok(record.answer(None));
        }
    }
    let trail = Trail::new(
        caller,
        Action::KeyEnabled,
        record.whose(),
        json!({"key": id}),
    );
    trail.start(shared.registry.begin().await?).await?;
    let enabled = shared
        .kms
        .ask(uid, Operation::Enable, |kms| kms.enable(id))
        .await;
    if let Err(failure) = enabled {
        trail.failed(shared, failure.reason()).await;
        return Err(failure.into());
    }
    // The registry last: until it says so, this server refuses.
    let mut transaction = shared.registry.begin().await?;
    keys::enabled(&mut transaction, uid).await?;
    trail.finish(transaction).await?;
    Ok(Record::read(shared, uid).await?.answer(None))
}
