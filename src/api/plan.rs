//! `Plan`: a size and a policy that tenants share.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A size and a policy. Tenants name a plan; changing a plan changes the silos of all its tenants.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "Plan",
    plural = "plans",
    category = "granary",
    derive = "PartialEq",
    cel
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanSpec {
    /// Sizes of the app.
    pub app: PlanApp,
    /// Sizes of the database.
    pub database: PlanDatabase,
    /// Backup policy. Recorded now, carried out once backups exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<PlanBackup>,
}

/// Sizes of the app.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanApp {
    /// Image by digest (`name@sha256:…`) for tenants that name none.
    pub image: String,
    /// Number of app pods for tenants that name none.
    pub replicas: i32,
    /// CPU limit of one app pod, as a Kubernetes quantity in millicores (`500m`).
    pub cpu: String,
    /// Memory limit of one app pod (`128Mi`).
    pub memory: String,
}

/// Sizes of the database.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanDatabase {
    /// CPU limit of the database pod, in millicores (`1000m`).
    pub cpu: String,
    /// Memory limit of the database pod (`256Mi`).
    pub memory: String,
    /// Size of the volume (`1Gi`). Can be raised, never lowered.
    pub storage: String,
    /// Storage class of the volume; the cluster's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// `max_connections` of PostgreSQL.
    pub connections: i32,
}

/// Backup policy.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanBackup {
    /// When a full backup is taken: a cron line of five fields, UTC.
    pub schedule: String,
    /// How many days backups are kept.
    pub retention_days: i32,
}
