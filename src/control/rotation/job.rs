//! What one rotation is about, fixed when it begins.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::due::{Due, whole_second};
use crate::{
    keys::Purpose,
    keyserver::wire::TenantKeys,
    registry::{RegistryError, data_keys, operations::Operation},
};

/// Which versions are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Keys from before this moment.
    pub not_before: Timestamp,
    /// Whether it is because of the plan.
    #[serde(default)]
    pub by_plan: bool,
    /// The data keys among them, by their version.
    pub from: BTreeMap<Purpose, u32>,
    /// The version of the tenant's own key, if that is among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_from: Option<u32>,
}

/// A rotation that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The operation of the registry, and the act of the audit.
    pub id: Uuid,
    /// When it began.
    pub started_at: Timestamp,
    /// Which versions it replaces.
    pub scope: Scope,
}

impl Scope {
    /// The keys that are too old.
    #[must_use]
    pub fn of(keys: &TenantKeys, due: Due) -> Self {
        let Due {
            not_before,
            by_plan,
        } = due;
        let is_older = |at: Timestamp| whole_second(at) < not_before;
        let from = keys
            .data_keys
            .iter()
            .filter(|key| key.state == data_keys::State::Active && is_older(key.created_at))
            .map(|key| (key.purpose, key.version))
            .collect();
        let since = keys.key.rotated_at.unwrap_or(keys.key.created_at);
        Self {
            not_before,
            by_plan,
            from,
            key_from: is_older(since).then_some(keys.key.version),
        }
    }

    /// As the registry keeps it.
    pub fn to_detail(&self) -> Result<Value, RegistryError> {
        serde_json::to_value(self)
            .map_err(|error| RegistryError::unreadable("a rotation", &error.to_string()))
    }
}

impl TryFrom<&Operation> for Job {
    type Error = RegistryError;

    fn try_from(operation: &Operation) -> Result<Self, Self::Error> {
        let scope = Scope::deserialize(&operation.detail)
            .map_err(|_| RegistryError::unreadable("a rotation", &operation.detail.to_string()))?;
        Ok(Self {
            id: operation.id,
            started_at: operation.started_at,
            scope,
        })
    }
}
