//! A data key in the clear.

use std::fmt;

use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};

use super::KmsError;

/// Length of every key here, in bytes: AES-256.
pub const KEY_LENGTH: usize = 32;

/// A data key in the clear: wiped from memory when dropped, printed nowhere, not cloned.
pub struct PlainKey(SecretBox<[u8; KEY_LENGTH]>);

impl PlainKey {
    /// A key from the system's generator.
    pub(super) fn random() -> Result<Self, KmsError> {
        let mut key = SecretBox::new(Box::<[u8; KEY_LENGTH]>::default());
        aws_lc_rs::rand::fill(key.expose_secret_mut()).map_err(|_| KmsError::Random)?;
        Ok(Self(key))
    }

    /// The bytes, for the one place that has to write them out.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LENGTH] {
        self.0.expose_secret()
    }
}

impl TryFrom<&[u8]> for PlainKey {
    type Error = WrongLength;

    /// Copies a key; the caller wipes the source.
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        if bytes.len() != KEY_LENGTH {
            return Err(WrongLength(bytes.len()));
        }
        let mut key = SecretBox::new(Box::<[u8; KEY_LENGTH]>::default());
        key.expose_secret_mut().copy_from_slice(bytes);
        Ok(Self(key))
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey(..)")
    }
}

/// Bytes that are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a data key has {KEY_LENGTH} bytes, and this has {0}")]
pub struct WrongLength(pub usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_prints_nothing_of_itself() {
        let key = PlainKey::try_from([0xab; KEY_LENGTH].as_slice()).unwrap();
        assert_eq!(format!("{key:?}"), "PlainKey(..)");
        assert_eq!(key.expose(), &[0xab; KEY_LENGTH]);
    }

    #[test]
    fn only_32_bytes_are_a_key() {
        for length in [0, 16, 31, 33] {
            assert_eq!(
                PlainKey::try_from(vec![1; length].as_slice()).err(),
                Some(WrongLength(length))
            );
        }
    }

    #[test]
    fn keys_are_drawn_anew() {
        let (one, other) = (PlainKey::random().unwrap(), PlainKey::random().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_ne!(one.expose(), &[0; KEY_LENGTH]);
    }
}
