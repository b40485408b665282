//! Where the local provider keeps the tenants' keys, sealed: in the registry, which all replicas share.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::keys::{KekStore, StoreError, TenantUid};
use crate::registry::{Registry, RegistryError, local_keys};

/// Table `local_keys` of the registry.
#[derive(Clone, Debug)]
pub struct RegistryStore {
    registry: Registry,
}

impl RegistryStore {
    /// Keeps them in this registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

impl KekStore for RegistryStore {
    fn load(&self, tenant: TenantUid) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        async move {
            let mut connection = self.registry.acquire().await.map_err(failed)?;
            local_keys::find(&mut connection, tenant)
                .await
                .map_err(failed)
        }
        .boxed()
    }

    fn replace<'a>(
        &'a self,
        tenant: TenantUid,
        expected: Option<&'a [u8]>,
        record: &'a [u8],
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        async move {
            let mut connection = self.registry.acquire().await.map_err(failed)?;
            local_keys::replace(&mut connection, tenant, expected, record)
                .await
                .map_err(failed)
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<TenantUid>, StoreError>> {
        async move {
            let mut connection = self.registry.acquire().await.map_err(failed)?;
            local_keys::list(&mut connection).await.map_err(failed)
        }
        .boxed()
    }
}

fn failed(error: RegistryError) -> StoreError {
    StoreError {
        what:
            "the sealed keys of the local provider cannot be read from or written to the registry"
                .to_owned(),
        transient: error.is_transient(),
        source: Box::new(error),
    }
}
