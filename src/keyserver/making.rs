//! Making keys: the tenant's own in the KMS, and data keys under it.

use serde_json::json;

use super::authenticate::Caller;
use super::kms::Operation;
use super::problem::Refusal;
use super::record::Record;
use super::shared::Shared;
use super::trail::Trail;
use crate::audit::Action;
use crate::keys::{Context, KeyId, Kms as _};
use crate::registry::{RegistryError, data_keys, keys};

/// The version of a key that was just made.
const FIRST_VERSION: u32 = 1;

/// Has the tenant's key made, which the registry has down as intended; one that a crash left in the KMS without a record
/// is found there by the tenant's UID.
pub async fn key(shared: &Shared, caller: &Caller, record: &Record) -> Result<KeyId, Refusal> {
    let uid = record.tenant.uid;
    let detail = json!({"provider": record.key.provider});
    let trail = Trail::new(caller, Action::KeyCreated, record.whose(), detail);
    trail.start(shared.registry.begin().await?).await?;
    let made = shared
        .kms
        .ask(uid, Operation::CreateKey, |kms| kms.create_key(uid))
        .await;
    let id = match made {
        Ok(id) => id,
        Err(failure) => {
            trail.failed(shared, failure.reason()).await;
            return Err(failure.into());
        }
    };
    let mut transaction = shared.registry.begin().await?;
    keys::created(&mut transaction, uid, &id, FIRST_VERSION).await?;
    trail.finish(transaction).await?;
    Ok(id)
}

/// Makes a data key that nobody sees in the clear, and the version that writes from now on. Somebody else may make it at
/// the same time: then there is one all the same, and this is no failure.
pub async fn data_key(
    shared: &Shared,
    caller: &Caller,
    record: &Record,
    id: &KeyId,
    context: Context,
) -> Result<(), Refusal> {
    let detail = json!({"purpose": context.purpose, "version": context.version});
    let trail = Trail::new(caller, Action::DataKeyCreated, record.whose(), detail);
    trail.start(shared.registry.begin().await?).await?;
    let made = shared
        .kms
        .ask(context.tenant, Operation::Generate, |kms| {
            kms.generate(id, &context)
        })
        .await;
    let wrapped = match made {
        Ok(wrapped) => wrapped,
        Err(failure) => {
            trail.failed(shared, failure.reason()).await;
            return Err(failure.into());
        }
    };
    let mut transaction = shared.registry.begin().await?;
    // Locked, so that a key that is switched off at this moment gets no new data keys.
    let current = keys::lock(&mut transaction, context.tenant).await?;
    if current.is_none_or(|key| key.state != keys::State::Enabled) {
        drop(transaction);
        trail.failed(shared, "KeyNotEnabled").await;
        return Err(record.conflict("the key was switched off meanwhile"));
    }
    match data_keys::activate(&mut transaction, &context, &wrapped.to_bytes()).await {
        Ok(()) => Ok(trail.finish(transaction).await?),
        Err(RegistryError::Conflict { .. }) => {
            drop(transaction);
            trail.failed(shared, "MadeByAnother").await;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
