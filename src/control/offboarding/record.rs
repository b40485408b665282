//! The signed record of a tenant's end, from what was written down.

use jiff::Timestamp;
use serde_json::Value;

use super::{Journal, OffboardingError};
use crate::evidence::{
    DataKey, Envelope, Proof, Record, SigningKey, Stage, Statement, Steps, Tenant,
};

/// The data keys that were tried, each once.
#[must_use]
pub fn data_keys(proofs: &[Proof]) -> Vec<DataKey> {
    let mut keys: Vec<DataKey> = Vec::new();
    for key in proofs.iter().filter_map(|proof| proof.data_key.as_ref()) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

/// The record as of `at`; `destroyed` is when the KMS had no key material any more, if it has none.
#[must_use]
pub fn record(
    tenant: Tenant,
    journal: &Journal,
    destroyed: Option<Timestamp>,
    at: Timestamp,
) -> Record {
    Record {
        tenant,
        stage: destroyed.map_or(Stage::Shredded, |_| Stage::Destroyed),
        keys: journal.key.iter().cloned().collect(),
        data_keys: data_keys(&journal.proofs),
        steps: Steps {
            access_cut: journal.access_cut,
            pods_stopped: journal.pods_stopped,
            exported: journal.exported,
            keys_disabled: journal.keys_disabled,
            proved: journal.proved,
            volumes_deleted: journal.volumes_deleted,
            deletion_scheduled: journal.deletion_scheduled,
            destroyed,
        },
        export: journal.export.clone(),
        removed: journal.removed.unwrap_or_default(),
        proofs: journal.proofs.clone(),
        destruction_due: journal.destruction_due.unwrap_or(at),
        recorded_at: at,
    }
}

/// Signs a record that can be true.
pub fn sign(record: Record, key: &SigningKey) -> Result<Value, OffboardingError> {
    let envelope = Envelope::sign(&Statement::new(record)?, key)?;
    serde_json::to_value(&envelope).map_err(OffboardingError::Encode)
}
