//! What the store keeps of one tenant: facts that anybody may read, and the keys that the root key seals with them.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    RootKey,
    seal::{self, RECORD},
};
use crate::keys::{KEY_LENGTH, KeyId, KeyState, KmsError, PlainKey, TenantUid};

const FORMAT: u8 = 1;

/// What a record says in the clear. The sealed keys are bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    format: u8,
    tenant: TenantUid,
    state: KeyState,
    /// How many versions there are; the newest has this number.
    versions: u32,
    created: Timestamp,
    rotated: Timestamp,
}

/// A tenant's record, open.
pub(super) struct Record {
    facts: Facts,
    /// Every version of the key, one after the other from version 1; empty when destroyed.
    keys: Zeroizing<Vec<u8>>,
}

/// A record as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    facts: Facts,
    /// The keys, sealed by the root key and bound to the facts; base64.
    sealed: String,
}

impl Record {
    /// A tenant's first key.
    pub fn new(tenant: TenantUid, now: Timestamp) -> Result<Self, KmsError> {
        let facts = Facts {
            format: FORMAT,
            tenant,
            state: KeyState::Enabled,
            versions: 0,
            created: now,
            rotated: now,
        };
        let mut record = Self {
            facts,
            keys: Zeroizing::default(),
        };
        record.rotate(now)?;
        Ok(record)
    }

    /// Reads a record of this tenant that this root key sealed.
    pub fn open(root: &RootKey, tenant: TenantUid, bytes: &[u8]) -> Result<Self, KmsError> {
        let refused = |detail| KmsError::Unopenable {
            key: KeyId::local(tenant),
            detail,
        };
        let Stored { facts, sealed } =
            serde_json::from_slice(bytes).map_err(|_| refused("the record is damaged"))?;
        if facts.format != FORMAT {
            return Err(refused("a newer version of Granary wrote it"));
        }
        if facts.tenant != tenant {
            return Err(refused("the record is another tenant's"));
        }
        let sealed = STANDARD
            .decode(sealed)
            .map_err(|_| refused("the record is damaged"))?;
        let keys = seal::open(root.expose(), RECORD, &facts.to_bytes(), &sealed)
            .ok_or_else(|| refused("another root key sealed it, or the record was altered"))?;
        Ok(Self { facts, keys })
    }

    /// The bytes to store.
    pub fn seal(&self, root: &RootKey) -> Result<Vec<u8>, KmsError> {
        let sealed = seal::seal(root.expose(), RECORD, &self.facts.to_bytes(), &self.keys)?;
        let stored = Stored {
            facts: self.facts.clone(),
            sealed: STANDARD.encode(sealed),
        };
        Ok(to_json(&stored))
    }

    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub const fn state(&self) -> KeyState {
        self.facts.state
    }

    pub const fn newest(&self) -> u32 {
        self.facts.versions
    }

    /// One version of the key.
    pub fn version(&self, version: u32) -> Option<&[u8; KEY_LENGTH]> {
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        self.keys.as_chunks().0.get(index)
    }

    /// Adds a version.
    pub fn rotate(&mut self, now: Timestamp) -> Result<(), KmsError> {
        // Into a buffer of the final size: growing the old one would leave a copy behind.
        let mut keys = Zeroizing::new(Vec::with_capacity(self.keys.len() + KEY_LENGTH));
        keys.extend_from_slice(&self.keys);
        keys.extend_from_slice(PlainKey::random()?.expose());
        self.keys = keys;
        self.facts.versions += 1;
        self.facts.rotated = now;
        Ok(())
    }

    pub const fn set_state(&mut self, state: KeyState) {
        self.facts.state = state;
    }

    /// Drops the keys if their deletion is due. Only the fact that there was one stays.
    pub fn destroy_if_due(&mut self, now: Timestamp) -> bool {
        let due = matches!(self.facts.state, KeyState::PendingDeletion { at } if at <= now);
        if due {
            self.facts.state = KeyState::Destroyed;
            self.keys = Zeroizing::default();
        }
        due
    }
}

impl Facts {
    /// What the keys are bound to. Its fields are written in one order, so the same facts are the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// Numbers, names and times: nothing here can fail to become JSON. If it did, nobody could open the record.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
