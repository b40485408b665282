//! `POST /v1/tenants/{uid}/keys`: the tenant shall have a key, and a data key for each purpose.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use futures::future::try_join_all;

use crate::audit::Action;
use crate::effects::{Commit, Effect};
use crate::keys::{Context, Purpose, TenantUid};
use crate::keyserver::admission::admit_operator;
use crate::keyserver::authenticate::Caller;
use crate::keyserver::making;
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::wire::{EnsureRequest, TenantKeys};
use crate::registry::{keys, tenants};

/// Answers the request. Where everything is there it writes nothing and asks the KMS nothing.
pub async fn ensure(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let (uid, admitted) = admit_operator(&shared, &uid, request, Action::KeyCreated).await?;
    let input: EnsureRequest = admitted.input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { make(&working, &admitted.caller, uid, &input).await })
        .await
        .map(Json)
}

async fn make(
    shared: &Shared,
    caller: &Caller,
    uid: TenantUid,
    input: &EnsureRequest,
) -> Result<TenantKeys, Refusal> {
    let record = match known(shared, uid, input).await? {
        Some(record) if is_complete(&record) => return Ok(record.answer(None)),
        Some(record) => record,
        None => intend(shared, uid, input).await?,
    };
    let id = match (record.key.state, &record.key.id) {
        (keys::State::Intended, _) => making::key(shared, caller, &record).await?,
        (keys::State::Enabled, Some(id)) => id.clone(),
        _ => return Err(record.conflict("it gets no new keys")),
    };
    let missing = Purpose::ALL
        .into_iter()
        .filter(|purpose| record.active(*purpose).is_none());
    try_join_all(missing.map(|purpose| {
        let context = Context {
            tenant: uid,
            purpose,
            version: 1,
        };
        making::data_key(shared, caller, &record, &id, context)
    }))
    .await?;
    Ok(Record::read(shared, uid).await?.answer(None))
}

/// What the registry has, if it is of this very tenant and the tenant is live.
async fn known(
    shared: &Shared,
    uid: TenantUid,
    input: &EnsureRequest,
) -> Result<Option<Record>, Refusal> {
    let mut connection = shared.registry.acquire().await?;
    let Some(record) = Record::find(&mut connection, uid).await? else {
        return Ok(None);
    };
    let tenant = &record.tenant;
    if (&tenant.name, &tenant.namespace) != (&input.name, &input.namespace) {
        let detail = format!(
            "tenant {uid} is {} in namespace {}, not {} in namespace {}",
            tenant.name, tenant.namespace, input.name, input.namespace
        );
        return Err(Refusal::new(Code::Conflict, detail));
    }
    if tenant.state != tenants::State::Live {
        return Err(record.conflict("it gets no new keys"));
    }
    if record.key.provider != shared.kms.name().as_str() {
        let detail = format!(
            "the key of tenant {} is held by provider {}, and this server asks {}",
            tenant.name,
            record.key.provider,
            shared.kms.name()
        );
        return Err(Refusal::new(Code::Conflict, detail));
    }
    Ok(Some(record))
}

/// Writes down what is going to be, before the KMS is asked: a crash in between leaves a trace.
async fn intend(shared: &Shared, uid: TenantUid, input: &EnsureRequest) -> Result<Record, Refusal> {
    let mut transaction = shared.registry.begin().await?;
    tenants::register(&mut transaction, uid, &input.name, &input.namespace).await?;
    keys::intend(&mut transaction, uid, shared.kms.name().as_str()).await?;
    let effect = Effect::KeyServer(Commit::Noted("key-intended"));
    transaction.commit(effect, uid).await?;
    known(shared, uid, input).await?.ok_or_else(|| {
        Refusal::new(
            Code::Internal,
            "the registry lost what was just written to it",
        )
    })
}

fn is_complete(record: &Record) -> bool {
    record.key.state == keys::State::Enabled
        && Purpose::ALL
            .into_iter()
            .all(|purpose| record.active(purpose).is_some())
}
