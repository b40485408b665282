//! `GET /v1/tenants/{uid}/keys`: what there is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use serde::Deserialize;

use crate::audit::Action;
use crate::keys::Kms as _;
use crate::keyserver::admission::admit_operator;
use crate::keyserver::kms::Operation;
use crate::keyserver::problem::{Code, Refusal};
use crate::keyserver::record::Record;
use crate::keyserver::shared::Shared;
use crate::keyserver::wire::TenantKeys;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Whether the KMS is asked for the key's state.
    #[serde(default)]
    describe: bool,
}

/// Answers the request. It changes nothing, so the audit has a row of it only where it is refused.
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Json<TenantKeys>, Refusal> {
    let options = Query::<Options>::try_from_uri(request.uri());
    let (uid, _) = admit_operator(&shared, &uid, request, Action::KeysListed).await?;
    let Query(options) = options.map_err(|error| {
        Refusal::new(
            Code::BadRequest,
            format!("the query is not usable: {error}"),
        )
    })?;
    let record = Record::read(&shared, uid).await?;
    let kms = match (options.describe, &record.key.id) {
        (true, Some(id)) => {
            let asking = shared
                .kms
                .ask(uid, Operation::Describe, |kms| kms.describe(id));
            Some(asking.await?)
        }
        _ => None,
    };
    Ok(Json(record.answer(kms)))
}
