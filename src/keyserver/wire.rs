//! What goes over the wire between the key server and its clients. A change here is one for both.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keys::{KeyId, KeyState, Purpose, TenantUid};
use crate::registry::{data_keys, keys, tenants};

/// `POST /v1/unwrap`: a pod asks for the keys of its own silo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnwrapRequest {
    /// Which keys.
    pub purpose: Purpose,
    /// Versions that the pod has already; they are listed and not unwrapped again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub have: Vec<u32>,
}

/// The answer: all versions that can be needed for reading, newest first.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnwrapAnswer<'a> {
    /// One entry a version; exactly one is active.
    #[serde(borrow)]
    pub keys: Vec<KeyEntry<'a>>,
    /// Seconds until it is worth asking again: the fewer pods ask, the sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_in_seconds: Option<u64>,
}

/// One version. It does not print its key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyEntry<'a> {
    /// The version, from 1.
    pub version: u32,
    /// `active`: for writing and reading; `retiring`: for reading what was written before.
    pub state: data_keys::State,
    /// The key's 32 bytes in base64; left out where the pod has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
}

/// `POST /v1/tenants/{uid}/keys`: the tenant shall have keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnsureRequest {
    /// The tenant's name.
    pub name: String,
    /// Its silo's namespace.
    pub namespace: String,
}

/// `POST /v1/tenants/{uid}/rotate`: another data key shall write.
///
/// It names the version that it replaces, so that a request sent twice rotates once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateRequest {
    /// Which data key.
    pub purpose: Purpose,
    /// The version that is active now.
    pub from: u32,
}

/// `POST /v1/tenants/{uid}/retire`: nothing needs this version any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetireRequest {
    /// Which data key.
    pub purpose: Purpose,
    /// The version that is given up.
    pub version: u32,
}

/// `POST /v1/tenants/{uid}/rewrap`: the tenant's key gets a new version, and every data key is wrapped under it.
///
/// It names the version that it replaces, so that a request sent twice rotates once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RewrapRequest {
    /// The tenant key's version now.
    pub from: u32,
}

/// `POST /v1/tenants/{uid}/destroy`: the tenant's key shall be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestroyRequest {
    /// Days until the KMS destroys it, 7 to 30.
    pub days: u32,
}

/// A tenant's keys, without anything secret; the answer to every request of the operator but `prove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantKeys {
    /// UID of the tenant.
    pub tenant: TenantUid,
    /// Its name.
    pub name: String,
    /// The tenant's state in the registry.
    pub tenant_state: tenants::State,
    /// The tenant's key.
    pub key: KeyInfo,
    /// The data keys under it, by purpose and then newest first.
    pub data_keys: Vec<DataKeyInfo>,
}

/// A tenant's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// Who holds it.
    pub provider: String,
    /// The KMS's name of it; none until it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<KeyId>,
    /// What the registry says.
    pub state: keys::State,
    /// Its version, counted by each rotation.
    pub version: u32,
    /// When it was first wanted.
    pub created_at: Timestamp,
    /// When it was last rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Timestamp>,
    /// When the KMS destroys it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_at: Option<Timestamp>,
    /// What the KMS itself says; only where it was asked (`GET …/keys?describe=true`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<KeyState>,
}

/// A data key, wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyInfo {
    /// What it is for.
    pub purpose: Purpose,
    /// Its version, from 1.
    pub version: u32,
    /// `active`, `retiring` or `retired`.
    pub state: data_keys::State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When nothing needed it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Timestamp>,
}

/// The answer to `POST /v1/tenants/{uid}/prove`: whether the KMS refuses to unwrap each of the tenant's data keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// UID of the tenant.
    pub tenant: TenantUid,
    /// The key that was tried.
    pub key_id: KeyId,
    /// When.
    pub at: Timestamp,
    /// Whether every attempt was refused, and there was at least one.
    pub refused: bool,
    /// One attempt a data key.
    pub attempts: Vec<Attempt>,
}

/// One attempt to unwrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which data key.
    pub purpose: Purpose,
    /// Its version.
    pub version: u32,
    /// Whether the KMS refused.
    pub refused: bool,
    /// What it said.
    pub answer: String,
}
