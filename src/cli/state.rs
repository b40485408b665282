//! Changing what a tenant is to be, for `suspend`, `resume`, `offboard` and `reinstate`.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use super::cluster::Cluster;
use super::failure::Failure;
use super::look;
use crate::api::{Tenant, TenantState};

/// Sets `spec.state` of exactly this tenant.
pub async fn set(
    cluster: &Cluster,
    tenant: &Tenant,
    state: TenantState,
    what: &str,
) -> Result<Tenant, Failure> {
    let spec = json!({"state": look::state(state)});
    patch(cluster, tenant, &spec, what).await
}

/// Merges this into the spec of exactly this tenant: one of the same name but another UID is left alone.
pub async fn patch(
    cluster: &Cluster,
    tenant: &Tenant,
    spec: &Value,
    what: &str,
) -> Result<Tenant, Failure> {
    let name = tenant.name_any();
    let patch = json!({"metadata": {"uid": tenant.uid()}, "spec": spec});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = cluster.tenants();
    let mut tenant = cluster
        .ask(what, api.patch(&name, &params, &Patch::Merge(&patch)))
        .await?;
    tenant.metadata.managed_fields = None;
    Ok(tenant)
}
