//! `POST /v1/tenants/{uid}/retire`: nothing needs this version of a data key any more, so nobody gets it any more.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use jiff::Timestamp;
use serde_json::json;

use crate::audit::Action;
use crate::keys::{Context, TenantUid};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::trail::Trail;
use crate::keyserver::wire::{RetireRequest, TenantKeys};
use crate::registry::data_keys;

/// Answers the request. A version that is retired already stays so.
pub async fn retire(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::DataKeyRetired).await?;
    let input: RetireRequest = admitted.input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { give_up(&working, &admitted.caller, uid, input).await })
        .await
        .map(Json)
}

async fn give_up(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
    RetireRequest { purpose, version }: RetireRequest,
) -> Result<TenantKeys, Refusal> {
    let record = Record::read(shared, uid).await?;
    let context = Context {
        tenant: uid,
        purpose,
        version,
    };
    let conflict = |what: &str| {
        let detail = format!(
            "version {version} of purpose {purpose} of tenant {} {what}",
            record.tenant.name
        );
        Err(Refusal::new(Code::Conflict, detail))
    };
    match record.data_keys.iter().find(|key| key.context == context) {
        None => return conflict("does not exist"),
        Some(key) => match key.state {
            data_keys::State::Active => return conflict("writes: rotate first"),
            data_keys::State::Retired => return Ok(record.answer(None)),
            data_keys::State::Retiring => {}
        },
    }
    let detail = json!({"purpose": purpose, "version": version});
    let trail = Trail::new(caller, Action::DataKeyRetired, record.whose(), detail);
    let mut transaction = shared.registry.begin().await?;
    data_keys::retire(&mut transaction, &context, Timestamp::now()).await?;
    trail.start_and_finish(transaction).await?;
    Ok(Record::read(shared, uid).await?.answer(None))
}
