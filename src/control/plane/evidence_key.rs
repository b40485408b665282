//! The key that deletion records are signed with: made once. Its public half is there for everybody to check with.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use secrecy::ExposeSecret;

use super::{Keeper, PlaneError};
use crate::{
    control::kind::Kind,
    evidence::{PublicKey, SigningKey},
    resources::plane::{
        EVIDENCE_KEY, EVIDENCE_KEY_FILE, EVIDENCE_PUBLIC_FILE, evidence_key, evidence_public,
    },
};

/// Makes the signing key if there is none, publishes its public half, and hands it to this process.
///
/// A key that is gone is replaced, because records must go on. The public halves of those before stay published: what
/// they signed can still be checked.
pub(super) async fn ensure(keeper: &Keeper) -> Result<(), PlaneError> {
    let key = match stored(keeper).await? {
        Some(key) => key,
        None => make(keeper).await?,
    };
    publish(keeper, key.public()).await?;
    keeper.signing.send_if_modified(|known| {
        let is_new = known.as_deref().map(SigningKey::public) != Some(key.public());
        if is_new {
            *known = Some(Arc::new(key));
        }
        is_new
    });
    Ok(())
}

async fn stored(keeper: &Keeper) -> Result<Option<SigningKey>, PlaneError> {
    let api: Api<Secret> = Api::namespaced(keeper.client.clone(), &keeper.namespace);
    let Some(secret) = api.get_opt(EVIDENCE_KEY).await? else {
        return Ok(None);
    };
    let pem = secret
        .data
        .as_ref()
        .and_then(|data| data.get(EVIDENCE_KEY_FILE));
    let key = pem.and_then(|pem| SigningKey::from_pem(&pem.0).ok());
    key.map(Some).ok_or(PlaneError::Damaged {
        secret: EVIDENCE_KEY,
        file: EVIDENCE_KEY_FILE,
    })
}

async fn make(keeper: &Keeper) -> Result<SigningKey, PlaneError> {
    let key = SigningKey::generate()?;
    let pem = key.to_pem()?;
    let manifest = evidence_key(&keeper.namespace, pem.expose_secret());
    if keeper.writer.create_once(Kind::Secret, &manifest).await? {
        tracing::info!(
            secret = EVIDENCE_KEY,
            key_id = key.public().id(),
            "a key is made that deletion records are signed with; `granary evidence key` shows its public half"
        );
        return Ok(key);
    }
    // Somebody else was faster, so theirs it is.
    stored(keeper).await?.ok_or(PlaneError::Damaged {
        secret: EVIDENCE_KEY,
        file: EVIDENCE_KEY_FILE,
    })
}

async fn publish(keeper: &Keeper, key: &PublicKey) -> Result<(), PlaneError> {
    let api: Api<ConfigMap> = Api::namespaced(keeper.client.clone(), &keeper.namespace);
    let before = api
        .get_opt(EVIDENCE_KEY)
        .await?
        .and_then(|config| config.data?.remove(EVIDENCE_PUBLIC_FILE))
        .unwrap_or_default();
    let wanted = with_earlier(key, &before);
    if before != wanted {
        let manifest = evidence_public(&keeper.namespace, &wanted);
        keeper.writer.apply(Kind::ConfigMap, &manifest).await?;
    }
    Ok(())
}

/// The key's public half, and after it those that were published before.
pub(super) fn with_earlier(key: &PublicKey, published: &str) -> String {
    let earlier = PublicKey::all_from_pem(published.as_bytes()).unwrap_or_default();
    let earlier = earlier.iter().filter(|other| *other != key);
    std::iter::once(key)
        .chain(earlier)
        .map(PublicKey::to_pem)
        .collect()
}
