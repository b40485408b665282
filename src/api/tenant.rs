//! `Tenant`: a customer, and the intent for their silo.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::keys::{DataKeyStatus, RotationStatus, TenantKeys};
use super::{duration, rules};

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
    validation = rules::no_return(),
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
    /// What the tenant should be: running, suspended (pods gone, volume kept), or offboarded (access cut, and after the
    /// grace period key and data destroyed; until then it can come back).
    #[serde(default)]
    pub state: TenantState,
    /// What is wanted of the tenant's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<TenantKeys>,
    /// How the tenant ends once it is offboarded; what is left out comes from the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offboarding: Option<Offboarding>,
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

/// Longest time that an offboarded tenant can come back.
const LONGEST_GRACE: Duration = Duration::from_hours(90 * 24);

/// How a tenant ends.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Offboarding {
    /// How long the tenant can come back after its access was cut, from 0s to 90d (`7d`, `36h`, `90s`); `0s` destroys at
    /// once. 7 days where neither tenant nor plan say anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 7))]
    #[x_kube(validation = rules::grace_period())]
    pub grace_period: Option<String>,
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
    /// On the way out: access is cut, and after the grace period key and data are destroyed. Deletion is allowed.
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
    /// Access is being cut and pods are being stopped.
    Offboarding,
    /// Access is cut, and the tenant can come back until the grace period ends.
    Offboarded,
    /// Key and data are being destroyed: the tenant cannot come back.
    Shredding,
    /// Key and data are gone; a signed record says so.
    Shredded,
    /// The resource was deleted, and all that is there of the tenant goes first.
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
    /// How far the end of the tenant is, once it is offboarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offboarding: Option<OffboardingStatus>,
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

/// How far the end of a tenant is.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OffboardingStatus {
    /// What is being done, or was done last.
    pub step: OffboardingStep,
    /// When it was begun.
    #[schemars(schema_with = "super::condition::date_time")]
    pub started_at: Time,
    /// When nobody reached the tenant's page any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::condition::date_time")]
    pub access_cut_at: Option<Time>,
    /// Until when the tenant can come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::condition::date_time")]
    pub grace_ends_at: Option<Time>,
    /// When key and data were out of everybody's reach, and the record of it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::condition::date_time")]
    pub shredded_at: Option<Time>,
    /// When the KMS destroys the tenant's key, by its own calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::condition::date_time")]
    pub key_destroyed_at: Option<Time>,
}

/// The steps of an offboarding, in their order.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum OffboardingStep {
    /// It is written down in registry and audit.
    Announce,
    /// Route and app go.
    CutAccess,
    /// The database is exported, sealed, where the plan asks for it.
    Export,
    /// Everything goes that could hold a key in its memory.
    StopPods,
    /// The tenant can come back.
    Grace,
    /// The tenant was read again, and is to be destroyed: from here on nothing brings it back.
    BeginShred,
    /// The key is switched off.
    DisableKey,
    /// Each data key is tried, and refused.
    Prove,
    /// What there is to delete is counted.
    Count,
    /// Namespace and volumes go.
    DeleteData,
    /// The KMS is told to destroy the key.
    ScheduleDestruction,
    /// Each data key is tried once more.
    ProveAgain,
    /// The record is signed, and the tombstone set.
    Record,
    /// It is done.
    Shredded,
}

impl Offboarding {
    /// The grace period; none where there is none that can be read.
    #[must_use]
    pub fn grace_period(&self) -> Option<Duration> {
        duration::parse(self.grace_period.as_deref()?).filter(|grace| *grace <= LONGEST_GRACE)
    }
}

impl OffboardingStep {
    /// The word, as in the resource.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announce => "Announce",
            Self::CutAccess => "CutAccess",
            Self::Export => "Export",
            Self::StopPods => "StopPods",
            Self::Grace => "Grace",
            Self::BeginShred => "BeginShred",
            Self::DisableKey => "DisableKey",
            Self::Prove => "Prove",
            Self::Count => "Count",
            Self::DeleteData => "DeleteData",
            Self::ScheduleDestruction => "ScheduleDestruction",
            Self::ProveAgain => "ProveAgain",
            Self::Record => "Record",
            Self::Shredded => "Shredded",
        }
    }
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
