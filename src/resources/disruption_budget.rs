//! How many app pods may be drained at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{APP, metadata, selector};
use crate::api::ValidTenant;

/// One at a time. As a maximum of the missing, not a minimum of the present, so that an app of one pod does not keep a
/// node from being drained; pods that serve nobody anyway never do.
#[must_use]
pub fn disruption_budget(tenant: &ValidTenant) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(tenant, APP, APP),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(APP)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
