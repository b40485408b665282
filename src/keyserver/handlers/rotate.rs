//! `POST /v1/tenants/{uid}/rotate`: another data key writes, the one before is read until it is retired.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};

use crate::audit::Action;
use crate::keys::{Context, TenantUid};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::making;
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::wire::{RotateRequest, TenantKeys};

/// Answers the request. Sent again, it finds the new version and makes no other.
pub async fn rotate(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::DataKeyCreated).await?;
    let input: RotateRequest = admitted.input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { replace(&working, &admitted.caller, uid, input).await })
        .await
        .map(Json)
}

async fn replace(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
    RotateRequest { purpose, from }: RotateRequest,
) -> Result<TenantKeys, Refusal> {
    let record = Record::read(shared, uid).await?;
    let id = record.in_use()?;
    let next = from.saturating_add(1);
    match record.active(purpose) {
        Some(active) if active == next => return Ok(record.answer(None)),
        Some(active) if active == from => {}
        active => {
            let active = active.map_or_else(|| "none".to_owned(), |version| version.to_string());
            let detail = format!(
                "version {from} of purpose {purpose} of tenant {} is not the one that writes: that is {active}",
                record.tenant.name
            );
            return Err(Refusal::new(Code::Conflict, detail));
        }
    }
    let context = Context {
        tenant: uid,
        purpose,
        version: next,
    };
    making::data_key(shared, caller, &record, id, context).await?;
    Ok(Record::read(shared, uid).await?.answer(None))
}
