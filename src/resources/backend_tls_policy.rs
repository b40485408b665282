//! TLS from the gateway to the app.

use super::gateway_api::{
    BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsPolicyValidation, LocalReference,
};
use super::labels::{APP, CA, metadata};
use crate::api::ValidTenant;

/// The policy: the gateway talks only to a pod whose certificate the silo's own authority signed for this namespace.
#[must_use]
pub fn backend_tls_policy(tenant: &ValidTenant) -> BackendTlsPolicy {
    BackendTlsPolicy {
        metadata: metadata(tenant, APP, APP),
        spec: BackendTlsPolicySpec {
            target_refs: vec![core("Service", APP)],
            validation: BackendTlsPolicyValidation {
                ca_certificate_refs: vec![core("ConfigMap", CA)],
                hostname: format!("{APP}.{}.svc", tenant.namespace),
            },
        },
    }
}

fn core(kind: &str, name: &str) -> LocalReference {
    LocalReference {
        group: String::new(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}
