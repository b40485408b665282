//! How the KMS is opened: at once where that works, and when it is first needed where it does not yet.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::store::RegistryStore;
use crate::keys::{KmsError, KmsSettings, Provider, ProviderName, StartError};
use crate::registry::Registry;

/// Which provider, and what opens it.
#[derive(Clone)]
pub struct Opening {
    /// Which backend it will be.
    pub name: ProviderName,
    /// Opens it; may be called again where it failed.
    pub open: Arc<dyn Fn() -> BoxFuture<'static, Result<Provider, StartError>> + Send + Sync>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Opening {
    /// The provider that the settings name. The local one keeps its keys in the registry, so it cannot be opened while
    /// that is away.
    #[must_use]
    pub fn of(settings: KmsSettings, registry: Registry) -> Self {
        let store = Arc::new(RegistryStore::new(registry));
        Self {
            name: settings.provider,
            open: Arc::new(move || {
                let (settings, store) = (settings.clone(), store.clone());
                async move { settings.open(store).await }.boxed()
            }),
        }
    }

    /// A provider that is open.
    #[must_use]
    pub fn ready(name: ProviderName, provider: Provider) -> Self {
        Self {
            name,
            open: Arc::new(move || futures::future::ready(Ok(provider.clone())).boxed()),
        }
    }
}

/// Whether a provider that cannot be opened may be later, without anybody changing anything.
pub(super) fn is_transient(error: &StartError) -> bool {
    match error {
        StartError::Kms(error) => error.is_transient(),
        StartError::Store(error) => error.transient,
        StartError::RootKey(_)
        | StartError::Endpoint(_)
        | StartError::Trust(_)
        | StartError::Region => false,
    }
}

/// Why a call could not be made, for whoever made it.
pub(super) fn not_open(error: StartError) -> KmsError {
    match error {
        StartError::Kms(error) => error,
        StartError::Store(error) => error.into(),
        other => KmsError::Unexpected {
            action: "opening",
            object: "the KMS".to_owned(),
            detail: other.to_string(),
        },
    }
}
