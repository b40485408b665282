//! Conditions of a `Tenant`, after the Kubernetes API conventions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// One condition, with the fields of `metav1.Condition`.
#[derive(schemars::JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition speaks of.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as a stable CamelCase word for programs.
    pub reason: String,
    /// Why, for people, with what to do next where there is something to do.
    pub message: String,
    /// Generation of the spec it was observed at.
    pub observed_generation: i64,
    /// When the status last changed.
    #[schemars(schema_with = "date_time")]
    pub last_transition_time: Time,
}

/// What a condition speaks of, in the order in which a silo comes up.
#[derive(
    schemars::JsonSchema,
    Clone,
    Copy,
    Debug,
    Deserialize,
    Serialize,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
)]
pub enum ConditionType {
    /// The namespace exists with quota, limits and service accounts.
    NamespaceReady,
    /// Every network policy is in place.
    NetworkIsolated,
    /// Certificates are issued and not due for renewal.
    CertificatesReady,
    /// The tenant has a key, and data keys under it.
    KeyReady,
    /// PostgreSQL accepts connections and has room.
    DatabaseReady,
    /// The schema migration of the wanted release succeeded.
    MigrationReady,
    /// The app's pods are up to date and ready.
    AppReady,
    /// The gateway accepted the route and the page answers through it.
    RouteReady,
    /// All of the above: the tenant is served.
    Ready,
}

/// Whether a condition holds.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It could not be found out, which is never the same as "no".
    Unknown,
}

/// The schema of a point in time, as Kubernetes has it: RFC 3339.
pub(super) fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "format": "date-time"})
}
