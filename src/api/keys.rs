//! What tenants and plans say about keys, and what is reported of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// What is wanted of a tenant's keys.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantKeys {
    /// Keys that were made before this moment are replaced by new versions, once it has come. `granary keys rotate` sets
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::condition::date_time")]
    pub not_before: Option<Time>,
}

/// How long keys are used.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanKeys {
    /// Age at which a tenant's keys are replaced by new versions, from 1h to 3650d (`90d`); never when left out. Some KMSs
    /// limit how often one key can be rotated (AWS: 25 times).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 7))]
    #[x_kube(validation = rules::rotation_age())]
    pub rotate_after: Option<String>,
}

/// One version of a data key.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyStatus {
    /// What it is for.
    pub purpose: DataKeyPurpose,
    /// Its version, from 1.
    pub version: i64,
    /// What it is used for now.
    pub state: DataKeyState,
    /// When it was made; of a retired one, when it was retired.
    #[schemars(schema_with = "super::condition::date_time")]
    pub since: Time,
    /// Why an older version can still be read with, although no rotation is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// What a data key is for.
#[derive(
    schemars::JsonSchema,
    Clone,
    Copy,
    Debug,
    Deserialize,
    Serialize,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
)]
#[serde(rename_all = "lowercase")]
pub enum DataKeyPurpose {
    /// Columns that the app encrypts.
    App,
    /// Backups.
    Backup,
}

/// What a data key is used for now.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum DataKeyState {
    /// Writes and reads.
    Active,
    /// Reads, until what it wrote is written anew.
    Retiring,
    /// Given to nobody any more.
    Retired,
}

/// A rotation that is under way.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The data key that is replaced; left out where it is the tenant's own key alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<DataKeyPurpose>,
    /// The version that is replaced.
    pub from: i64,
    /// The version that takes its place.
    pub to: i64,
    /// Rows that still have to be sealed anew, once somebody has counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_left: Option<i64>,
    /// When the rotation began.
    #[schemars(schema_with = "super::condition::date_time")]
    pub started_at: Time,
}
