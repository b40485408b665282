//! A tenant, plans and settings for tests.

use serde_json::json;

use super::{Plan, SiloSettings, Tenant, ValidTenant};

/// UID of [`tenant`].
pub(crate) const UID: &str = "4f1c09ab-7d20-4c58-8ccc-000000000001";

/// An image by digest.
pub(crate) fn image(name: &str, digit: char) -> String {
    format!(
        "registry.example/{name}@sha256:{}",
        digit.to_string().repeat(64)
    )
}

/// Tenant `acme` on plan `small`, as an API server returns it.
pub(crate) fn tenant() -> Tenant {
    parse(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant",
        "metadata": {"name": "acme", "uid": UID, "generation": 3},
        "spec": {
            "displayName": "Acme Farms Ltd.", "plan": "small", "environment": "production",
            "owner": {"email": "ops@acme.example"},
        },
    }))
}

/// Plan `small`.
pub(crate) fn small() -> Plan {
    parse(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "small"},
        "spec": {
            "app": {"image": image("cashbook", 'a'), "replicas": 1, "cpu": "250m", "memory": "64Mi"},
            "database": {"cpu": "500m", "memory": "128Mi", "storage": "1024Mi", "connections": 25},
        },
    }))
}

/// Plan `standard`, with a storage class.
pub(crate) fn standard() -> Plan {
    parse(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "standard"},
        "spec": {
            "app": {"image": image("cashbook", 'a'), "replicas": 2, "cpu": "500m", "memory": "128Mi"},
            "database": {
                "cpu": "1000m", "memory": "256Mi", "storage": "5Gi", "storageClassName": "fast", "connections": 50,
            },
        },
    }))
}

/// Settings of the local cluster.
pub(crate) fn settings() -> SiloSettings {
    SiloSettings {
        base_domain: "granary.localhost".to_owned(),
        external_port: 8443,
        gateway_name: "granary".to_owned(),
        gateway_namespace: "granary-system".to_owned(),
        gateway_dataplane_namespace: "traefik".to_owned(),
        plane_namespace: "granary-system".to_owned(),
        postgres_image: image("granary-postgres", 'b'),
        granary_image: image("granary", 'c'),
        keyserver_ca: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        dns_namespace: "kube-system".to_owned(),
    }
}

/// [`tenant`] on [`small`].
pub(crate) fn valid() -> ValidTenant {
    ValidTenant::new(&tenant(), &small(), &settings()).unwrap()
}

fn parse<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}
