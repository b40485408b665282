//! `POST /v1/unwrap`: a pod gets the keys of its own silo.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::Action;
use crate::keys::{KeyId, Kms as _, KmsError, PlainKey, TenantUid, WrappedKey};
use crate::keyserver::admission::{Admitted, admit};
use crate::keyserver::authorize;
use crate::keyserver::kms::{KmsFailure, Operation};
use crate::keyserver::outcome::Outcome;
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::shared::Shared;
use crate::keyserver::tenants::Owner;
use crate::keyserver::trail::{self, Trail};
use crate::keyserver::wire::{KeyEntry, UnwrapAnswer, UnwrapRequest};
use crate::registry::data_keys::{self, DataKey};
use crate::registry::{keys, tenants};

/// Room for one entry of the answer, so that the text does not move while it grows and leave copies of a key behind.
const ENTRY: usize = 128;

/// Answers the request.
pub async fn unwrap(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Refusal> {
    let admitted = admit(&shared, request, Action::KeyUnwrapped).await?;
    let input: UnwrapRequest = admitted.input()?;
    let working = shared.clone();
    shared
        .to_the_end(async move { give(&working, &admitted, &input).await })
        .await
}

async fn give(
    shared: &Shared,
    admitted: &Admitted,
    input: &UnwrapRequest,
) -> Result<Response, Refusal> {
    let mut owner = None;
    let (key, found) = match readable(shared, admitted, input, &mut owner).await {
        Ok(found) => found,
        Err(refusal) => {
            if refusal.code.is_denial() {
                let tenant = owner.as_ref().map(whose);
                let action = Action::KeyUnwrapped;
                trail::refused(shared, &admitted.caller, action, tenant, &refusal).await;
            }
            return Err(refusal);
        }
    };
    let wanted: Vec<&DataKey> = found
        .iter()
        .filter(|key| !input.have.contains(&key.context.version))
        .collect();
    let again = shared.pace.again(&admitted.caller.pod_uid, Instant::now());
    if wanted.is_empty() {
        return answer(&found, &[], again, Outcome("unchanged"));
    }
    let versions: Vec<u32> = wanted.iter().map(|key| key.context.version).collect();
    let detail = json!({"purpose": input.purpose, "versions": versions});
    let tenant = owner.as_ref().map(whose);
    let trail = Trail::new(&admitted.caller, Action::KeyUnwrapped, tenant, detail);
    trail.start(shared.registry.begin().await?).await?;
    let plain = match try_join_all(wanted.iter().map(|data| open(shared, &key, data))).await {
        Ok(plain) => plain,
        Err(failure) => {
            trail.failed(shared, failure.reason()).await;
            // A pod is not told the KMS's own words, which name its keys and accounts.
            return Err(Refusal {
                detail: "the KMS did not unwrap the key".to_owned(),
                ..failure.into()
            });
        }
    };
    // Without its second row nothing is given out.
    trail.finish(shared.registry.begin().await?).await?;
    answer(&found, &plain, again, Outcome("granted"))
}

/// The key of the caller's own silo and its data keys that can be needed for reading, if the caller may have them.
/// `owner` is whose silo it is, as soon as that is known.
async fn readable(
    shared: &Shared,
    Admitted { caller, role, .. }: &Admitted,
    UnwrapRequest { purpose, .. }: &UnwrapRequest,
    owner: &mut Option<Owner>,
) -> Result<(KeyId, Vec<DataKey>), Refusal> {
    authorize::unwrap(*role, caller, *purpose)?;
    let Owner { uid, name } = owner.insert(shared.tenants.owner(caller).await?);
    let not_yet = || {
        let detail = format!("tenant {name} has no key of purpose {purpose} yet");
        Refusal::new(Code::NoKeyYet, detail)
    };
    let mut connection = shared.registry.acquire().await?;
    let tenant = tenants::find(&mut connection, *uid).await?;
    let key = keys::find(&mut connection, *uid).await?;
    let (Some(tenant), Some(key)) = (tenant, key) else {
        return Err(not_yet());
    };
    authorize::states(&tenant, key.state, *purpose)?;
    let found = data_keys::readable(&mut connection, *uid, *purpose).await?;
    match key.id {
        Some(id) if !found.is_empty() => Ok((id, found)),
        _ => Err(not_yet()),
    }
}

async fn open(shared: &Shared, id: &KeyId, key: &DataKey) -> Result<(u32, PlainKey), KmsFailure> {
    let wrapped = WrappedKey::from_bytes(&key.wrapped).map_err(KmsError::from)?;
    let context = &key.context;
    let plain = shared
        .kms
        .ask(context.tenant, Operation::Unwrap, |kms| {
            kms.unwrap(id, &wrapped, context)
        })
        .await?;
    Ok((context.version, plain))
}

fn whose(owner: &Owner) -> (TenantUid, &str) {
    (owner.uid, &owner.name)
}

/// The answer, in memory that is wiped when it was sent.
fn answer(
    found: &[DataKey],
    plain: &[(u32, PlainKey)],
    again: u64,
    outcome: Outcome,
) -> Result<Response, Refusal> {
    let texts: Vec<(u32, Zeroizing<String>)> = plain
        .iter()
        .map(|(version, key)| (*version, Zeroizing::new(STANDARD.encode(key.expose()))))
        .collect();
    let keys = found
        .iter()
        .map(|key| {
            let version = key.context.version;
            let text = texts.iter().find(|(given, _)| *given == version);
            KeyEntry {
                version,
                state: key.state,
                key: text.map(|(_, text)| text.as_str()),
            }
        })
        .collect();
    let mut body = Zeroizing::new(Vec::with_capacity(ENTRY * (found.len() + 1)));
    let answer = UnwrapAnswer {
        keys,
        again_in_seconds: Some(again),
    };
    serde_json::to_writer(&mut *body, &answer).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Refusal::new(Code::Internal, "the answer could not be written")
    })?;
    let mut response = Response::new(Body::from(Bytes::from_owner(body)));
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed("application/json"));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    response.extensions_mut().insert(outcome);
    Ok(response)
}
