//! What a silo may use in all.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::keys::{SIDECAR_CPU, SIDECAR_MEMORY};
use super::labels::{SILO, metadata};
use crate::api::ValidTenant;
use crate::api::quantity::{Bytes, Cpu};

/// Migrations at one time: the old release's last pod may still be going while the new one's runs.
const MIGRATIONS: u64 = 2;

/// The quota: one database, the app with what fetches its keys and with room to replace all its pods at once, and the
/// migration.
#[must_use]
pub fn quota(tenant: &ValidTenant) -> ResourceQuota {
    let app_pods = app_pods(tenant);
    let app_like_pods = app_pods + MIGRATIONS;
    let total = |database: u64, app: u64, sidecar: u64| {
        database
            .saturating_add(app.saturating_mul(app_like_pods))
            .saturating_add(sidecar.saturating_mul(app_pods))
    };
    let (database, app) = (&tenant.database, &tenant.app);
    let cpu = Cpu(total(database.cpu.0, app.cpu.0, SIDECAR_CPU.0));
    let memory = Bytes(total(database.memory.0, app.memory.0, SIDECAR_MEMORY.0));
    let hard: BTreeMap<String, Quantity> = [
        ("limits.cpu", cpu.to_string()),
        ("limits.memory", memory.to_string()),
        ("pods", (app_like_pods + 1).to_string()),
        ("persistentvolumeclaims", "1".to_owned()),
        ("requests.storage", tenant.database.storage.to_string()),
        // Nothing in a silo is reached but through the gateway.
        ("services.loadbalancers", "0".to_owned()),
        ("services.nodeports", "0".to_owned()),
    ]
    .into_iter()
    .map(|(name, quantity)| (name.to_owned(), Quantity(quantity)))
    .collect();
    ResourceQuota {
        metadata: metadata(tenant, SILO, SILO),
        spec: Some(ResourceQuotaSpec {
            hard: Some(hard),
            ..ResourceQuotaSpec::default()
        }),
        ..ResourceQuota::default()
    }
}

/// App pods at one time: pods on their way out count until they are gone, so a rolling update can need every pod twice
/// and its surge of one on top.
fn app_pods(tenant: &ValidTenant) -> u64 {
    u64::from(tenant.app.replicas.unsigned_abs()) * 2 + 1
}
