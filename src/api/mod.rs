//! The resources of group `granary.dev`, their rules, conditions and names.
//!
//! The Rust types are the source: the CRDs in `charts/granary` are generated from them.

pub mod catalog;
pub mod condition;
mod crd;
pub mod duration;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod keys;
pub mod names;
pub mod plan;
pub mod plane;
pub mod quantity;
pub mod reserved;
mod rules;
mod source;
mod structure;
pub mod tenant;
pub mod valid;
pub mod validate;

pub use catalog::{PLAN_CATALOG, PlanCatalog, PlanCatalogSpec};
pub use condition::{Condition, ConditionStatus, ConditionType};
pub use crd::{crds, crds_yaml};
pub use names::{Release, SiloName};
pub use plan::{Plan, PlanSpec};
pub use tenant::{
    Environment, OffboardingStep, Phase, Tenant, TenantSpec, TenantState, TenantStatus,
};
pub use valid::{Rejection, SiloSettings, ValidTenant};
pub use validate::validate;

/// API group of every Granary resource.
pub const GROUP: &str = "granary.dev";

/// Label on every object of a silo: the tenant's UID. Watches select on it.
pub const LABEL_TENANT_UID: &str = "granary.dev/tenant-uid";

/// Label on every object of a silo: the tenant's name, for people. Never used to decide ownership.
pub const LABEL_TENANT: &str = "granary.dev/tenant";

/// Finalizer on a `Tenant`: its silo is removed before the resource goes.
pub const FINALIZER: &str = "granary.dev/silo";

/// Annotation of a Tenant with who last changed its spec. The API server writes it, by the chart's admission policy.
pub const ANNOTATION_REQUESTED_BY: &str = "granary.dev/requested-by";

/// Field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "granary";
