//! Names, labels and selectors that the objects of a silo share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::api::{LABEL_TENANT, LABEL_TENANT_UID, ValidTenant};

/// Name of everything that belongs to the database.
pub const DATABASE: &str = "database";
/// Name of everything that belongs to the app.
pub const APP: &str = "app";
/// Name of everything that belongs to the schema migration.
pub const MIGRATE: &str = "migrate";
/// Name of what belongs to the silo as a whole.
pub const SILO: &str = "silo";
/// Name of the `Secret` with the silo's certificate authority and of the `ConfigMap` with the trust bundle.
pub const CA: &str = "ca";

/// Label on pods, Deployments and Jobs of the app: the release they run.
pub const LABEL_RELEASE: &str = "granary.dev/release";
/// The label that pods are selected by.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
pub(super) const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Metadata of an object in the silo's namespace that is part of `component`.
#[must_use]
pub fn metadata(tenant: &ValidTenant, name: &str, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(tenant.namespace.to_string()),
        labels: Some(labels(tenant, component)),
        ..ObjectMeta::default()
    }
}

/// Labels of every object of a silo.
#[must_use]
pub fn labels(tenant: &ValidTenant, component: &str) -> BTreeMap<String, String> {
    owned([
        (LABEL_TENANT_UID, tenant.uid.as_str()),
        (LABEL_TENANT, tenant.name.as_str()),
        (LABEL_MANAGED_BY, "granary"),
        (LABEL_NAME, component),
    ])
}

/// Selects the pods of a component inside the silo's namespace.
#[must_use]
pub fn selector(component: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(owned([(LABEL_NAME, component)])),
        ..LabelSelector::default()
    }
}

/// A map of owned strings.
#[must_use]
pub fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
