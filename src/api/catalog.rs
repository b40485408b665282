//! `PlanCatalog`: the names of all plans, for admission.
//!
//! An admission policy cannot look up an object by a name that it reads from another, but it can be given one object
//! as a parameter. That object is the catalogue; the operator keeps it. It is a resource of its own, not a
//! `ConfigMap`, because API servers keep serving a stale `ConfigMap` to policies that were removed and installed
//! again (kubernetes/kubernetes issue 130887).

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::rules;

/// Name of the only `PlanCatalog`.
pub const PLAN_CATALOG: &str = "plans";

/// The names of all plans.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "PlanCatalog",
    plural = "plancatalogs",
    derive = "PartialEq",
    doc = "The names of all plans, which admission checks tenants against. The operator keeps it; nobody else writes it.",
    printcolumn(
        name = "Plans",
        type_ = "string",
        json_path = ".spec.plans",
        description = "Names of all plans."
    ),
    validation = rules::catalog_name()
)]
pub struct PlanCatalogSpec {
    /// Names of all plans.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub plans: Vec<String>,
}
