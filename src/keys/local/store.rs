//! Where the local provider keeps its records.

use std::{error::Error, fmt};

use futures::future::BoxFuture;

use crate::keys::TenantUid;

/// Keeps one record per tenant. Records are sealed; a store needs to keep them whole, not secret. A store that forgets
/// what it replaced makes shredding true: bytes that stay behind somewhere can be opened with the root key.
pub trait KekStore: fmt::Debug + Send + Sync {
    /// The record, if there is one.
    fn load(&self, tenant: TenantUid) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>>;

    /// Stores `record` durably if what is stored is still `expected`, and says whether it was. `None`: nothing is stored.
    fn replace<'a>(
        &'a self,
        tenant: TenantUid,
        expected: Option<&'a [u8]>,
        record: &'a [u8],
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// The tenants that have a record, in any order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<TenantUid>, StoreError>>;
}

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StoreError {
    /// What could not be done to which object, and what helps.
    pub what: String,
    /// Whether trying again may help.
    pub transient: bool,
    /// What the system or database said.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
