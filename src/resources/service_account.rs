//! Identities of a silo's pods. None has a token for the Kubernetes API, which nothing in a silo talks to; what fetches
//! data keys has one that only the key server accepts (see [`super::keys`]).

use k8s_openapi::api::core::v1::ServiceAccount;

use super::labels::{APP, DATABASE, MIGRATE, metadata};
use crate::api::ValidTenant;

/// Every service account of a silo.
#[must_use]
pub fn all(tenant: &ValidTenant) -> Vec<ServiceAccount> {
    [DATABASE, APP, MIGRATE]
        .into_iter()
        .map(|name| ServiceAccount {
            metadata: metadata(tenant, name, name),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })
        .collect()
}
