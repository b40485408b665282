//! `Tenant`: a customer, and the intent for their silo.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::keys::{DataKeyStatus, RotationStatus, TenantKeys};
use super::rules;

/// What a customer gets: the plan, the app, the environment, and whether they are served at all.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    shortname = "tnt",
    category = "granary",
    status = "TenantStatus",
    derive = "PartialEq",
    doc = "A customer. Granary builds one silo for each: a namespace with a dedicated PostgreSQL database, app containers and a subdomain. The name is the subdomain.",
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan", description = "The plan that sizes the silo."),
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.environment", description = "What the silo is for."),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the tenant is."),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where the tenant's people go."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the tenant was made."),
    printcolumn(name = "DB", type_ = "string", json_path = ".status.database.version", priority = 1, description = "Version of the database."),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release", priority = 1, description = "The release of the app that serves."),
    printcolumn(name = "Key-Age", type_ = "date", json_path = ".status.key.rotatedAt", priority = 1, description = "Time since the tenant's key was made or rotated."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1, description = "Why the tenant is ready, or is not."),
    validation = rules::tenant_name(),
    cel
)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// The customer's name as people write it; shown in the app. One line of at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(
        validation = rules::single_line(),
        validation = rules::trimmed(),
        validation = rules::no_expansion(),
    )]
    pub display_name: Option<String>,
    /// Name of the `Plan` that sizes the silo. It must exist when the tenant is applied.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::plan_reference())]
    pub plan: String,
    /// What the silo is for. It cannot be changed: environments never share a silo.
    #[serde(default)]
    #[x_kube(validation = rules::immutable("environments never share a silo; onboard another tenant"))]
    pub environment: Environment,
    /// First administrator of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The app to run; what is left out comes from the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<TenantApp>,
    /// Custom domains, at most 20, in lower case, without duplicates; an internationalised name in its `xn--`
    /// form. Recorded now, served once domain verification exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = rules::domains())]
    pub domains: Vec<String>,
    /// What the tenant should be: running, suspended (pods gone, volume kept), or offboarded.
    #[serde(default)]
    pub state: TenantState,
    /// What is wanted of the tenant's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<TenantKeys>,
    /// While true, an `Active` tenant cannot be deleted; `granary offboard NAME` is the way out.
    #[serde(default = "yes")]
    pub deletion_protection: bool,
}

const fn yes() -> bool {
    true
}

/// First administrator of the app.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Email address of the first administrator.
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(validation = rules::email())]
    pub email: String,
}

/// The tenant's app; what is left out comes from the plan.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantApp {
    /// Image by digest (`name@sha256:…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: Option<String>,
    /// Number of app pods, 1 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub replicas: Option<i32>,
}

/// What a silo is for.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq,
)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real customers.
    #[default]
    Production,
    /// Rehearsal.
    Staging,
    /// Work in progress.
    Development,
}

/// What a tenant should be.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq,
)]
pub enum TenantState {
    /// Running.
    #[default]
    Active,
    /// Pods gone, volume kept; the subdomain answers 503.
    Suspended,
    /// On the way out; access is cut and deletion is allowed.
    Offboarded,
}

/// Where a tenant is.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash,
)]
pub enum Phase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// The silo is being built.
    Provisioning,
    /// The tenant's page answers through the gateway.
    Ready,
    /// It was ready and is not any more; the conditions say why.
    Degraded,
    /// Pods gone, volume kept.
    Suspended,
    /// Access is cut; waiting for deletion.
    Offboarded,
    /// The silo is being removed.
    Deleting,
    /// The spec cannot be carried out as it is; the `Ready` condition says what to change.
    Rejected,
}

/// What the operator last saw and did.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// One word for people; the conditions are the truth.
    #[serde(default)]
    pub phase: Phase,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The silo's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the tenant's people go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The release that serves: the first eight hex digits of the SHA-256 of the image reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The tenant's key at the KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyStatus>,
    /// What the database reported of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// When the next certificate has to be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::condition::date_time")]
    pub certificates_renew_at: Option<Time>,
    /// Conditions, each with the generation it was observed at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A tenant's key at the KMS, under which its data keys are wrapped.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The KMS's name of it.
    pub id: String,
    /// Its version, counted by each rotation.
    pub version: i64,
    /// When it was made or last rotated.
    #[schemars(schema_with = "super::condition::date_time")]
    pub rotated_at: Time,
    /// The data keys under it: every version that can be read with, and the last one of each purpose that was retired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_keys: Vec<DataKeyStatus>,
    /// The rotation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
}

/// What a silo's database reported of itself.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// PostgreSQL's version, for example `17.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Size of the database in bytes when it was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
}
