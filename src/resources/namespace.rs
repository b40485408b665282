//! The silo's namespace.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ObjectMeta;

use super::labels::{SILO, labels, owned};
use crate::api::ValidTenant;

/// The namespace, with Pod Security `restricted` enforced.
///
/// It has no ownerReference to its `Tenant`, on purpose. The garbage collector deletes whatever names an owner that it
/// cannot find: a `Tenant` restored from a backup has a new UID, and its predecessor's data would be gone with no
/// question asked. The operator's finalizer removes the namespace instead, in an order of its own.
#[must_use]
pub fn namespace(tenant: &ValidTenant) -> Namespace {
    let mut all = labels(tenant, SILO);
    // The API server sets it in any case; named here, it is no surprise when what is live is compared with this.
    all.extend(owned([(
        "kubernetes.io/metadata.name",
        tenant.namespace.as_str(),
    )]));
    for mode in ["enforce", "audit", "warn"] {
        all.extend(owned([
            (&*format!("pod-security.kubernetes.io/{mode}"), "restricted"),
            (
                &*format!("pod-security.kubernetes.io/{mode}-version"),
                "latest",
            ),
        ]));
    }
    Namespace {
        metadata: ObjectMeta {
            name: Some(tenant.namespace.to_string()),
            labels: Some(all),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}
