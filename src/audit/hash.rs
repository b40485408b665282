//! What is hashed of a row, and how. The function `audit_hash` of the registry does the same; the two were written
//! apart, so that a changed function there is found here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What every hash begins with: another table, or another encoding, never gives the same hash.
const PREFIX: &[u8] = b"granary.dev/audit/v1";

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first row of all has as the hash before it.
    pub const NONE: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    /// 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// A text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 hexadecimal digits")]
pub struct HashError;

impl TryFrom<String> for Hash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(HashError);
        }
        let mut hash = [0; 32];
        for (place, byte) in hash.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| HashError)?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| HashError)
    }
}

/// A row as it is in the table: what a hash is computed of, and the hash that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Place in the chain.
    pub seq: i64,
    /// Time in microseconds since 1970.
    pub micros: i64,
    /// The act.
    pub id: Uuid,
    /// Where the act is.
    pub phase: String,
    /// Who acts.
    pub actor: String,
    /// What is done.
    pub action: String,
    /// UID of the tenant.
    pub tenant_uid: Option<Uuid>,
    /// Name of the tenant.
    pub tenant: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// What else there is to know, as PostgreSQL writes its JSON.
    pub detail: String,
    /// The hash of the row before, as it is there.
    pub prev: Hash,
    /// The row's own hash, as it is there.
    pub hash: Hash,
}

impl Link {
    /// The hash that the row should have: SHA-256 over the prefix and all fields but the hash, in the order of the
    /// table's columns. An absent field is a byte 0; any other a byte 1, its length in bytes (32 bits, big-endian), and
    /// the bytes: numbers 64 bits big-endian, UIDs their 16 bytes, texts UTF-8.
    #[must_use]
    pub fn computed(&self) -> Hash {
        self.computed_at(self.seq, self.prev)
    }

    /// The hash that the row should have if it were elsewhere in the chain.
    pub(super) fn computed_at(&self, seq: i64, prev: Hash) -> Hash {
        let fields: [Option<&[u8]>; 11] = [
            Some(&seq.to_be_bytes()),
            Some(&self.micros.to_be_bytes()),
            Some(self.id.as_bytes()),
            Some(self.phase.as_bytes()),
            Some(self.actor.as_bytes()),
            Some(self.action.as_bytes()),
            self.tenant_uid
                .as_ref()
                .map(|uid| uid.as_bytes().as_slice()),
            self.tenant.as_deref().map(str::as_bytes),
            self.outcome.as_deref().map(str::as_bytes),
            Some(self.detail.as_bytes()),
            Some(&prev.0),
        ];
        let mut hash = Sha256::new_with_prefix(PREFIX);
        for field in fields {
            match field {
                None => hash.update([0]),
                Some(bytes) => {
                    // No field comes near 4 GiB; one that did would only not verify.
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    hash.update([1]);
                    hash.update(length.to_be_bytes());
                    hash.update(bytes);
                }
            }
        }
        Hash(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            seq: 7,
            micros: 1_795_273_233_123_456,
            id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
            phase: "started".to_owned(),
            actor: "system:serviceaccount:granary-system:granary-operator".to_owned(),
            action: "key-created".to_owned(),
            tenant_uid: Some(Uuid::from_u128(0x4f1c_09ab_7d00_4000_8000_0000_0000_0000)),
            tenant: Some("acme".to_owned()),
            outcome: None,
            detail: r#"{"key": "ключ", "version": 1}"#.to_owned(),
            prev: Hash::NONE,
            hash: Hash::NONE,
        }
    }

    #[test]
    fn the_encoding_stays_as_it_is() {
        // Computed by an independent program from the description at `Link::computed`.
        assert_eq!(
            link().computed().to_string(),
            "33f4ab1d89805cfffd37b1d285549351b2917019a81881a124f7d70a489f319b"
        );
    }

    #[test]
    fn every_field_counts() {
        let plain = link().computed();
        let edits: [fn(&mut Link); 11] = [
            |link| link.seq = 8,
            |link| link.micros += 1,
            |link| link.id = Uuid::nil(),
            |link| link.phase.push('x'),
            |link| link.actor.push('x'),
            |link| link.action.push('x'),
            |link| link.tenant_uid = None,
            |link| link.tenant = None,
            |link| link.outcome = Some(String::new()),
            |link| link.detail.push(' '),
            |link| link.prev = Hash([1; 32]),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut changed = link();
            edit(&mut changed);
            assert_ne!(changed.computed(), plain, "field {number}");
        }
        let (mut left, mut right) = (link(), link());
        (left.actor, left.action) = ("ab".to_owned(), "c".to_owned());
        (right.actor, right.action) = ("a".to_owned(), "bc".to_owned());
        assert_ne!(left.computed(), right.computed(), "fields have borders");
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = link().computed();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        let short = &hash.to_string()[1..];
        for bad in [
            "",
            "00",
            short,
            &format!("{hash}00"),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            assert_eq!(bad.parse::<Hash>(), Err(HashError), "{bad:?}");
        }
    }
}
