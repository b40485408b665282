//! Texts sealed with the tenant's key: AES-256-GCM, bound to the row and column they belong to.
//!
//! A sealed text is `format (1 byte) | version of the key (4, big-endian) | nonce (12) | ciphertext | tag (16)`. The
//! tenant's UID, the table, the column and the row are authenticated with it, so that a text that was copied to another
//! place is as unreadable as one that was altered.

use std::sync::Arc;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use tokio::sync::watch;
use uuid::Uuid;

use crate::keys::{Keyring, Keys};

/// The only format there is.
const FORMAT: u8 = 1;

/// Length of format and version, in bytes: what tells which key a text is sealed with.
pub const PREFIX_LENGTH: usize = 5;

/// Where a text belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The column that holds the sealed text.
    pub column: &'static str,
    /// The row's primary key.
    pub row: i64,
}

/// There is no key to seal with yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys have not arrived yet")]
pub struct NoKeys;

/// Why a text could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// See [`NoKeys`].
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
    /// The cryptography library failed, for want of random numbers.
    #[error("the text could not be sealed")]
    Failed,
}

/// Why a sealed text cannot be read. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no sealed text, or one of a later format.
    #[error("it is not in a known format")]
    Format,
    /// Its key is not there.
    #[error("there is no key of version {version}")]
    NoKey {
        /// The version it is sealed with.
        version: u32,
    },
    /// It was altered, or belongs to another row, column or tenant.
    #[error("it was altered or belongs to another place")]
    Refused,
}

/// What seals and opens the texts of one tenant.
#[derive(Debug)]
pub struct Vault {
    tenant: Uuid,
    keyring: Keyring,
}

impl Vault {
    /// For the tenant with this UID and these keys.
    #[must_use]
    pub fn new(tenant: Uuid, keyring: Keyring) -> Self {
        Self { tenant, keyring }
    }

    /// The keys as they are now.
    pub fn keys(&self) -> Result<Arc<Keys>, NoKeys> {
        self.keyring.current().ok_or(NoKeys)
    }

    /// Tells when another version becomes the active one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<u32>> {
        self.keyring.changes()
    }

    /// Seals a text for its place with the active key.
    pub fn seal(&self, place: Place, text: &str) -> Result<Vec<u8>, SealError> {
        let keys = self.keys()?;
        let version = keys.active();
        let key = keys.get(version).ok_or(NoKeys)?;
        let mut ciphertext = text.as_bytes().to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(self.associated_data(place)), &mut ciphertext)
            .map_err(|_| SealError::Failed)?;
        Ok([prefix(version).as_slice(), nonce.as_ref(), &ciphertext].concat())
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<String, Unreadable> {
        let version = version_of(sealed).ok_or(Unreadable::Format)?;
        let (nonce, ciphertext) = sealed
            .get(PREFIX_LENGTH..)
            .and_then(|rest| rest.split_first_chunk::<NONCE_LEN>())
            .ok_or(Unreadable::Format)?;
        let no_key = Unreadable::NoKey { version };
        let keys = self.keyring.knowing(version).ok_or(no_key)?;
        let key = keys.get(version).ok_or(no_key)?;
        let mut text = ciphertext.to_vec();
        let length = key
            .open_in_place(
                Nonce::from(nonce),
                Aad::from(self.associated_data(place)),
                &mut text,
            )
            .map_err(|_| Unreadable::Refused)?
            .len();
        text.truncate(length);
        String::from_utf8(text).map_err(|_| Unreadable::Format)
    }

    /// Each part after its length in bytes (4, big-endian), so that no two places read the same.
    fn associated_data(&self, place: Place) -> Vec<u8> {
        let row = place.row.to_be_bytes();
        let parts: [&[u8]; 4] = [
            self.tenant.as_bytes(),
            place.table.as_bytes(),
            place.column.as_bytes(),
            &row,
        ];
        let mut data = Vec::new();
        for part in parts {
            // All parts are short: names, a UUID, a number.
            data.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend(part);
        }
        data
    }
}

/// How every text that is sealed with this version begins.
#[must_use]
pub fn prefix(version: u32) -> [u8; PREFIX_LENGTH] {
    let [a, b, c, d] = version.to_be_bytes();
    [FORMAT, a, b, c, d]
}

/// The version of the key that a text is sealed with, from all of it or its first [`PREFIX_LENGTH`] bytes.
#[must_use]
pub fn version_of(sealed: &[u8]) -> Option<u32> {
    match sealed.first_chunk::<PREFIX_LENGTH>()? {
        [FORMAT, version @ ..] => Some(u32::from_be_bytes(*version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    const TENANT: Uuid = Uuid::from_u128(0x4f1c_09ab_7d2e_4c3b_9a10_0123_4567_89ab);
    const PLACE: Place = Place {
        table: "entry",
        column: "description_sealed",
        row: 42,
    };

    /// Made by another implementation (Python's `cryptography`): key 00 01 … 1f, nonce a0 a1 … ab, [`TENANT`],
    /// [`PLACE`].
    const KNOWN: &str = "0100000007a0a1a2a3a4a5a6a7a8a9aaaba07d194965ad6dcd4211efb62712a5b0038cbb8c014bddefebe876f182c85c0dec45291c6a";

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    fn put(dir: &Path, version: u32, key: [u8; 32]) {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(version.to_string());
        fs::write(&path, key).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(dir.join("active.tmp"), version.to_string()).unwrap();
        fs::rename(dir.join("active.tmp"), dir.join("active")).unwrap();
    }

    fn vault(dir: &TempDir, tenant: Uuid) -> Vault {
        Vault::new(tenant, Keyring::new(dir.path().to_owned(), Duration::ZERO))
    }

    fn with_key() -> (TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            7,
            std::array::from_fn(|at| u8::try_from(at).unwrap()),
        );
        let vault = vault(&dir, TENANT);
        (dir, vault)
    }

    #[test]
    fn what_another_implementation_sealed_is_opened() {
        let (_dir, vault) = with_key();
        let known = unhex(KNOWN);
        assert_eq!(vault.open(PLACE, &known).unwrap(), "Feed for the hens ✓");
        assert_eq!(known[..PREFIX_LENGTH], prefix(7));
        assert_eq!(version_of(&known), Some(7));
    }

    #[test]
    fn the_place_is_written_without_ambiguity() {
        let (_dir, vault) = with_key();
        let expected = [
            b"\0\0\0\x10".as_slice(),
            TENANT.as_bytes(),
            b"\0\0\0\x05entry\0\0\0\x12description_sealed\0\0\0\x08\0\0\0\0\0\0\0\x2a",
        ]
        .concat();
        assert_eq!(vault.associated_data(PLACE), expected);
    }

    #[test]
    fn sealed_texts_are_opened_and_never_the_same() {
        let (_dir, vault) = with_key();
        for text in ["x", "Ünïcode ✓ 漢字", &"é".repeat(200)] {
            let one = vault.seal(PLACE, text).unwrap();
            let other = vault.seal(PLACE, text).unwrap();
            assert_ne!(one, other);
            assert_eq!(one.len(), PREFIX_LENGTH + 12 + text.len() + 16);
            assert_eq!(one[..PREFIX_LENGTH], prefix(7));
            assert_eq!(vault.open(PLACE, &one).unwrap(), text);
            assert_eq!(vault.open(PLACE, &other).unwrap(), text);
            assert!(text.len() < 4 || !one.windows(text.len()).any(|part| part == text.as_bytes()));
        }
    }

    #[test]
    fn a_text_in_another_place_is_refused() {
        let (dir, vault) = with_key();
        let sealed = vault.seal(PLACE, "Hay").unwrap();
        for place in [
            Place { row: 43, ..PLACE },
            Place {
                table: "entries",
                ..PLACE
            },
            Place {
                column: "description",
                ..PLACE
            },
            // The same bytes, cut elsewhere.
            Place {
                table: "entrydescription_",
                column: "sealed",
                ..PLACE
            },
        ] {
            assert_eq!(
                vault.open(place, &sealed),
                Err(Unreadable::Refused),
                "{place:?}"
            );
        }
        let other_tenant = self::vault(&dir, Uuid::from_u128(TENANT.as_u128() + 1));
        assert_eq!(other_tenant.open(PLACE, &sealed), Err(Unreadable::Refused));
        assert_eq!(vault.open(PLACE, &sealed).unwrap(), "Hay");
    }

    #[test]
    fn an_altered_or_cut_text_is_refused() {
        let (_dir, vault) = with_key();
        let sealed = vault.seal(PLACE, "Hay").unwrap();
        for at in PREFIX_LENGTH..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(
                vault.open(PLACE, &altered),
                Err(Unreadable::Refused),
                "byte {at}"
            );
        }
        for length in 0..sealed.len() {
            let expected = if length < PREFIX_LENGTH + 12 {
                Unreadable::Format
            } else {
                Unreadable::Refused
            };
            assert_eq!(
                vault.open(PLACE, &sealed[..length]),
                Err(expected),
                "{length} bytes"
            );
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(vault.open(PLACE, &longer), Err(Unreadable::Refused));
        let mut format = sealed.clone();
        format[0] = 2;
        assert_eq!(vault.open(PLACE, &format), Err(Unreadable::Format));
        let mut version = sealed;
        version[4] = 8;
        assert_eq!(
            vault.open(PLACE, &version),
            Err(Unreadable::NoKey { version: 8 })
        );
    }

    #[test]
    fn an_old_version_is_read_while_its_key_is_there() {
        let (dir, vault) = with_key();
        let old = vault.seal(PLACE, "Hay").unwrap();
        put(dir.path(), 8, [8; 32]);
        let new = vault.seal(PLACE, "Straw").unwrap();
        assert_eq!((version_of(&old), version_of(&new)), (Some(7), Some(8)));
        assert_eq!(vault.open(PLACE, &old).unwrap(), "Hay");
        assert_eq!(vault.open(PLACE, &new).unwrap(), "Straw");
        // The right version with a wrong key.
        put(dir.path(), 8, [9; 32]);
        assert_eq!(vault.open(PLACE, &new), Err(Unreadable::Refused));
        fs::remove_file(dir.path().join("7")).unwrap();
        assert_eq!(
            vault.open(PLACE, &old),
            Err(Unreadable::NoKey { version: 7 })
        );
    }

    #[test]
    fn nothing_works_without_keys() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&dir, TENANT);
        assert_eq!(vault.seal(PLACE, "Hay"), Err(SealError::NoKeys(NoKeys)));
        assert_eq!(
            vault.open(PLACE, &unhex(KNOWN)),
            Err(Unreadable::NoKey { version: 7 })
        );
        put(
            dir.path(),
            7,
            std::array::from_fn(|at| u8::try_from(at).unwrap()),
        );
        assert!(vault.open(PLACE, &unhex(KNOWN)).is_ok(), "and then does");
    }
}
