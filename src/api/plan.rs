//! `Plan`: a size and a policy that tenants share.

use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::duration;
use super::keys::PlanKeys;
use super::rules;
use super::tenant::Offboarding;

/// The sizes and the policy.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "Plan",
    plural = "plans",
    category = "granary",
    derive = "PartialEq",
    doc = "A size and a policy that tenants share. Changing a plan changes the silos of all its tenants.",
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.app.replicas", description = "App pods of a tenant that asks for no other number."),
    printcolumn(name = "DB-CPU", type_ = "string", json_path = ".spec.database.cpu", description = "CPU limit of the database."),
    printcolumn(name = "DB-Memory", type_ = "string", json_path = ".spec.database.memory", description = "Memory limit of the database."),
    printcolumn(name = "Storage", type_ = "string", json_path = ".spec.database.storage", description = "Size of the database's volume."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the plan was made."),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".spec.database.connections", priority = 1, description = "Connections the database accepts."),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.app.image", priority = 1, description = "Image of tenants that name no other."),
    validation = rules::plan_name(),
    cel
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// Sizes of the app.
    pub app: PlanApp,
    /// Sizes of the database.
    pub database: PlanDatabase,
    /// Backup policy. Recorded now, carried out once backups exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<PlanBackup>,
    /// How long keys are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<PlanKeys>,
    /// How tenants end that say nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offboarding: Option<Offboarding>,
    /// The export that is made of a tenant before its end; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<PlanExport>,
}

/// The export that is made of a tenant before its end: the whole database, as `pg_dump` writes it, sealed. What the app
/// has encrypted with the tenant's key stays encrypted inside.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanExport {
    /// Who can open it: an X25519 recipient of age (`age1…`), the way `age-keygen` prints it.
    #[schemars(length(min = 62, max = 62))]
    #[x_kube(validation = rules::recipient())]
    pub recipient: String,
}

impl PlanSpec {
    /// Age at which a tenant's keys are replaced; none where the plan has none that can be read.
    #[must_use]
    pub fn rotate_after(&self) -> Option<Duration> {
        duration::parse(self.keys.as_ref()?.rotate_after.as_deref()?)
    }
}

/// Sizes of the app.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanApp {
    /// Image by digest (`name@sha256:…`) for tenants that name none.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: String,
    /// Number of app pods, 1 to 20, for tenants that name none.
    #[schemars(range(min = 1, max = 20))]
    pub replicas: i32,
    /// CPU limit of one app pod in millicores (`500m`).
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::cpu())]
    pub cpu: String,
    /// Memory limit of one app pod (`128Mi`).
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::memory("16Mi"))]
    pub memory: String,
}

/// Sizes of the database.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[x_kube(validation = rules::storage_class_stays())]
#[serde(rename_all = "camelCase")]
pub struct PlanDatabase {
    /// CPU limit of the database pod in millicores (`1000m`).
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::cpu())]
    pub cpu: String,
    /// Memory limit of the database pod (`256Mi`).
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::memory("64Mi"))]
    pub memory: String,
    /// Size of the volume (`1Gi`). It can be raised, never lowered.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::storage(), validation = rules::grows())]
    pub storage: String,
    /// Storage class of the volume; the cluster's default when left out. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::storage_class())]
    pub storage_class_name: Option<String>,
    /// `max_connections` of PostgreSQL, 10 to 1000.
    #[schemars(range(min = 10, max = 1000))]
    pub connections: i32,
}

/// Backup policy.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanBackup {
    /// When a full backup is taken: a cron line of five fields in numbers, UTC (`30 2 * * *`).
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = rules::schedule(), validation = rules::schedule_ranges())]
    pub schedule: String,
    /// How many days backups are kept, 1 to 3650.
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: i32,
}
