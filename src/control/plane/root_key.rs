//! The root key of the `local` provider: made once, and never again.

use aws_lc_rs::rand;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use zeroize::Zeroizing;

use super::{Keeper, PlaneError};
use crate::{
    api::Tenant,
    control::kind::Kind,
    resources::plane::{ROOT_KEY, ROOT_KEY_BYTES, root_key},
};

/// How keys of the `local` provider are called.
const LOCAL_KEY: &str = "local:";

/// Makes the root key if there is none. One that is there is not even read. One that is gone while tenants have keys under
/// it is not replaced: another key would open nothing, and hide that the right one has to be found.
pub(super) async fn ensure(keeper: &Keeper) -> Result<(), PlaneError> {
    let api: Api<Secret> = Api::namespaced(keeper.client.clone(), &keeper.namespace);
    if api.get_metadata_opt(ROOT_KEY).await?.is_some() {
        return Ok(());
    }
    let hangs_on_one = |tenant: &Tenant| {
        let key = tenant
            .status
            .as_ref()
            .and_then(|status| status.key.as_ref());
        key.is_some_and(|key| key.id.starts_with(LOCAL_KEY))
    };
    if keeper
        .tenants
        .state()
        .iter()
        .any(|tenant| hangs_on_one(tenant))
    {
        return Err(PlaneError::RootKeyLost { secret: ROOT_KEY });
    }
    let mut key = Zeroizing::new([0; ROOT_KEY_BYTES]);
    rand::fill(key.as_mut()).map_err(|_| PlaneError::Random)?;
    let manifest = root_key(&keeper.namespace, &key);
    if keeper.writer.create_once(Kind::Secret, &manifest).await? {
        tracing::warn!(
            secret = ROOT_KEY,
            "a root key is made: every tenant's key will hang on it, so back it up; the local provider is for evaluation"
        );
    }
    Ok(())
}
