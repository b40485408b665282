//! What one container of a silo may use, and what it gets that asks for nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::keys::{SIDECAR_CPU, SIDECAR_MEMORY};
use super::labels::{SILO, metadata};
use super::pod::{quantities, requested};
use crate::api::ValidTenant;

/// The limit range: no container larger than the largest there is; one that asks for nothing is sized like the app.
#[must_use]
pub fn limit_range(tenant: &ValidTenant) -> LimitRange {
    let (app, database) = (&tenant.app, &tenant.database);
    let largest: BTreeMap<String, Quantity> = quantities(
        app.cpu.max(database.cpu).max(SIDECAR_CPU),
        app.memory.max(database.memory).max(SIDECAR_MEMORY),
    );
    LimitRange {
        metadata: metadata(tenant, SILO, SILO),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                max: Some(largest),
                default: Some(quantities(app.cpu, app.memory)),
                default_request: Some(requested(app.cpu, app.memory)),
                ..LimitRangeItem::default()
            }],
        }),
    }
}
