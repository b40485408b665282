//! The one way in which the local provider encrypts: AES-256-GCM that commits to its key.
//!
//! ```text
//! salt 32 | commitment 32 | ciphertext | tag 16
//! ```
//!
//! HKDF-SHA256 makes from key, salt, label and additional data a key for this one message and a commitment. AES-GCM
//! alone does not commit: a message can be crafted that opens under two keys, to two contents. Since each message has
//! a key of its own, its nonce is zero and no number of messages is too many.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use crate::keys::{KEY_LENGTH, KmsError};

/// For data keys under a tenant's key.
pub const DATA_KEY: Label = Label(b"granary local 1 data key");
/// For a tenant's keys under the root key.
pub const RECORD: Label = Label(b"granary local 1 record  ");

/// Keeps messages of one kind from being taken for another. All have the same length, because HKDF joins its inputs
/// without a separator.
#[derive(Clone, Copy)]
pub struct Label(&'static [u8; 24]);

const SALT: usize = 32;
const COMMITMENT: usize = 32;

/// Encrypts `plain`, bound to `aad`.
pub fn seal(
    key: &[u8; KEY_LENGTH],
    label: Label,
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, KmsError> {
    let mut salt = [0; SALT];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| KmsError::Random)?;
    // The cipher refuses only more than 64 GiB; nothing here has more than some kilobytes.
    seal_with(&salt, key, label, aad, plain).ok_or(KmsError::Random)
}

fn seal_with(
    salt: &[u8; SALT],
    key: &[u8; KEY_LENGTH],
    label: Label,
    aad: &[u8],
    plain: &[u8],
) -> Option<Vec<u8>> {
    let (cipher, commitment) = derive(key, salt, label, aad)?;
    // Encrypted in place: the clear text is nowhere but where the ciphertext will be.
    let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    body.extend(plain);
    cipher
        .seal_in_place_append_tag(nonce(), Aad::from(aad), &mut body)
        .ok()?;
    Some([salt.as_slice(), commitment.as_slice(), &body].concat())
}

/// Decrypts what [`seal`] made of the same key, label and additional data; nothing if anything differs.
pub fn open(
    key: &[u8; KEY_LENGTH],
    label: Label,
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, rest) = sealed.split_at_checked(SALT)?;
    let (claimed, body) = rest.split_at_checked(COMMITMENT)?;
    let (cipher, commitment) = derive(key, salt, label, aad)?;
    verify_slices_are_equal(claimed, commitment.as_slice()).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = cipher
        .open_in_place(nonce(), Aad::from(aad), &mut body)
        .ok()?
        .len();
    body.truncate(length);
    Some(body)
}

/// The key of one message, and the commitment to it.
fn derive(
    key: &[u8; KEY_LENGTH],
    salt: &[u8],
    label: Label,
    aad: &[u8],
) -> Option<(LessSafeKey, Zeroizing<[u8; COMMITMENT]>)> {
    let extracted = Salt::new(HKDF_SHA256, salt).extract(key);
    let info = [label.0.as_slice(), aad];
    let expanded = extracted.expand(&info, Both).ok()?;
    let mut both = Zeroizing::new([0; KEY_LENGTH + COMMITMENT]);
    expanded.fill(both.as_mut_slice()).ok()?;
    let (key, tail) = both.split_at(KEY_LENGTH);
    let mut commitment = Zeroizing::new([0; COMMITMENT]);
    commitment.copy_from_slice(tail);
    let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
    Some((LessSafeKey::new(key), commitment))
}

/// The length of what is derived.
struct Both;

impl KeyType for Both {
    fn len(&self) -> usize {
        KEY_LENGTH + COMMITMENT
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_LENGTH] = [7; KEY_LENGTH];

    /// Written by another implementation: `src/keys/local/seal_vectors.py`.
    const VECTORS: &str = include_str!("seal_vectors.txt");

    #[test]
    fn the_bytes_are_the_ones_that_another_implementation_makes() {
        let mut count = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<Vec<u8>> = line.split(' ').map(unhex).collect();
            let [key, salt, label, aad, plain, sealed] = fields.as_slice() else {
                panic!("a vector has six fields: {line}");
            };
            let label = [DATA_KEY, RECORD]
                .into_iter()
                .find(|known| known.0.as_slice() == label)
                .expect("a label in use");
            let (key, salt) = (&array(key), &array(salt));
            assert_eq!(
                seal_with(salt, key, label, aad, plain).as_ref(),
                Some(sealed)
            );
            assert_eq!(&*open(key, label, aad, sealed).expect("opens"), plain);
            count += 1;
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn nothing_opens_under_another_key_label_or_data() {
        let sealed = seal(&KEY, DATA_KEY, b"aad", b"plain").unwrap();
        assert_eq!(
            open(&KEY, DATA_KEY, b"aad", &sealed).as_deref(),
            Some(&b"plain".to_vec())
        );
        assert!(open(&[8; KEY_LENGTH], DATA_KEY, b"aad", &sealed).is_none());
        assert!(open(&KEY, RECORD, b"aad", &sealed).is_none());
        assert!(open(&KEY, DATA_KEY, b"aae", &sealed).is_none());
    }

    #[test]
    fn a_message_for_two_keys_is_refused_by_its_commitment() {
        // What an attacker who knows both keys can make of AES-GCM is a body that both accept. Stands for it here: a
        // body that the second key accepts, behind the commitment of the first.
        let other = [8; KEY_LENGTH];
        let salt = [9; SALT];
        let first = seal_with(&salt, &KEY, DATA_KEY, b"", b"one").unwrap();
        let second = seal_with(&salt, &other, DATA_KEY, b"", b"two").unwrap();
        let head = SALT + COMMITMENT;
        let crafted = [&first[..head], &second[head..]].concat();
        assert!(open(&KEY, DATA_KEY, b"", &crafted).is_none());
        assert!(open(&other, DATA_KEY, b"", &crafted).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_other_byte_and_any_cut_is_refused(
            plain in proptest::collection::vec(0_u8.., 0..100),
            at in 0_usize..1000,
            change in 1_u8..,
        ) {
            let sealed = seal(&KEY, RECORD, b"aad", &plain).unwrap();
            let at = at % sealed.len();
            let mut altered = sealed.clone();
            altered[at] ^= change;
            proptest::prop_assert!(open(&KEY, RECORD, b"aad", &altered).is_none());
            proptest::prop_assert!(open(&KEY, RECORD, b"aad", &sealed[..at]).is_none());
        }
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
        let bytes = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]);
        bytes.map(|byte| u8::try_from(byte).unwrap()).collect()
    }

    fn array(bytes: &[u8]) -> [u8; 32] {
        bytes.try_into().unwrap()
    }
}
