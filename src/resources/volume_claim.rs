//! The database's volume.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::labels::{DATABASE, metadata};
use crate::api::ValidTenant;

/// Name of the claim.
pub const NAME: &str = "data-database-0";

/// The claim. It is applied by itself and not left to a claim template of the StatefulSet, whose templates never
/// change: a plan with more storage has to reach a database that is there already.
#[must_use]
pub fn volume_claim(tenant: &ValidTenant) -> PersistentVolumeClaim {
    let storage = Quantity(tenant.database.storage.to_string());
    PersistentVolumeClaim {
        metadata: metadata(tenant, NAME, DATABASE),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: tenant.database.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), storage)].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
