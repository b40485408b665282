//! Known answers, and what is no answer.

use proptest::prelude::*;

use super::*;

const UID: &str = "4f1c09ab-7d00-4000-8000-0000000000aa";

/// Written by another program after the layout.
const LOCAL: &str = "47524e4b0100056c6f63616c002a6c6f63616c3a34663163303961622d376430302d343030302d383030302d30303030 \
     303030303030616100040000000200104f1c09ab7d00400080000000000000aa00036170700004000000030008000000 \
     006b00df00000000050102030405";
const AWS: &str = "47524e4b010003617773004e61726e3a6177733a6b6d733a65752d63656e7472616c2d313a3131313132323232333333 \
     333a6b65792f30643165326633302d303030302d343030302d383030302d303030303030303030303031000400000000 \
     00104f1c09ab7d00400080000000000000aa00066261636b75700004ffffffff0008ffffffffffffffff00000001ff";

fn local() -> WrappedKey {
    WrappedKey {
        header: Header {
            provider: ProviderName::Local,
            key: format!("local:{UID}").parse().unwrap(),
            key_version: 2,
            context: Context {
                tenant: UID.parse().unwrap(),
                purpose: Purpose::App,
                version: 3,
            },
            created: "2026-11-21T00:00:00Z".parse().unwrap(),
        },
        ciphertext: vec![1, 2, 3, 4, 5],
    }
}

fn aws() -> WrappedKey {
    WrappedKey {
        header: Header {
            provider: ProviderName::Aws,
            key: "arn:aws:kms:eu-central-1:111122223333:key/0d1e2f30-0000-4000-8000-000000000001"
                .parse()
                .unwrap(),
            key_version: 0,
            context: Context {
                tenant: UID.parse().unwrap(),
                purpose: Purpose::Backup,
                version: u32::MAX,
            },
            created: "1969-12-31T23:59:59Z".parse().unwrap(),
        },
        ciphertext: vec![0xff],
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]);
    bytes.map(|byte| u8::try_from(byte).unwrap()).collect()
}

#[test]
fn known_answers() {
    for (wrapped, bytes) in [(local(), LOCAL), (aws(), AWS)] {
        let bytes = unhex(bytes);
        assert_eq!(wrapped.to_bytes(), bytes);
        assert_eq!(WrappedKey::from_bytes(&bytes), Ok(wrapped));
    }
}

#[test]
fn every_cut_is_refused() {
    for bytes in [unhex(LOCAL), unhex(AWS)] {
        for length in 0..bytes.len() {
            assert!(
                WrappedKey::from_bytes(&bytes[..length]).is_err(),
                "{length}"
            );
        }
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let bytes = [unhex(LOCAL), vec![0, 0]].concat();
    assert_eq!(
        WrappedKey::from_bytes(&bytes),
        Err(EnvelopeError::Surplus(2))
    );
}

#[test]
fn another_format_is_named() {
    let mut bytes = unhex(LOCAL);
    bytes[4] = 2;
    assert_eq!(
        WrappedKey::from_bytes(&bytes),
        Err(EnvelopeError::Format(2))
    );
    bytes[0] = b'X';
    assert_eq!(
        WrappedKey::from_bytes(&bytes),
        Err(EnvelopeError::NoEnvelope)
    );
}

/// One field of [`LOCAL`], replaced with its length.
fn with_field(number: usize, content: &[u8]) -> Vec<u8> {
    let bytes = unhex(LOCAL);
    let mut at = MAGIC.len() + 1;
    let length = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]])) + 2;
    for _ in 0..number {
        at += length(at);
    }
    let prefix = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&bytes[..at], &prefix, content, &bytes[at + length(at)..]].concat()
}

#[rstest::rstest]
#[case(0, b"vault", "provider")]
#[case(0, b"Local", "provider")]
#[case(0, b"", "provider")]
#[case(1, b"", "key id")]
#[case(1, b"two words", "key id")]
#[case(1, b"\xff", "key id")]
#[case(2, b"\0\0\x01", "key version")]
#[case(3, b"4f1c09ab", "tenant uid")]
#[case(4, b"App", "purpose")]
#[case(4, b"app ", "purpose")]
#[case(4, b"", "purpose")]
#[case(5, b"\0\0\0\0\x01", "version")]
#[case(6, &[0x7f; 8], "created")]
#[case(6, b"\0", "created")]
fn fields_have_one_spelling(
    #[case] number: usize,
    #[case] content: &[u8],
    #[case] name: &'static str,
) {
    assert_eq!(
        WrappedKey::from_bytes(&with_field(number, content)),
        Err(EnvelopeError::Field(name))
    );
}

#[rstest::rstest]
#[case(0)]
#[case(6145)]
#[case(u32::MAX)]
fn a_ciphertext_has_a_plausible_length(#[case] length: u32) {
    let header = local().header.to_bytes();
    let bytes = [header, length.to_be_bytes().to_vec(), vec![0; 6145]].concat();
    assert_eq!(
        WrappedKey::from_bytes(&bytes),
        Err(EnvelopeError::Field("ciphertext"))
    );
}

proptest! {
    /// Nothing reads as the same key but the same bytes: whatever is altered is either refused here, or gives another
    /// header or ciphertext, which is refused when it is unwrapped.
    #[test]
    fn altered_bytes_never_read_as_the_same_key(at in 0_usize..1000, change in 1_u8.., aws_one: bool) {
        let wrapped = if aws_one { aws() } else { local() };
        let mut bytes = wrapped.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= change;
        if let Ok(other) = WrappedKey::from_bytes(&bytes) {
            prop_assert_ne!(&other, &wrapped);
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read_as_what_writes_them(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [b"GRNK\x01".as_slice(), &bytes].concat();
        if let Ok(wrapped) = WrappedKey::from_bytes(&bytes) {
            prop_assert_eq!(wrapped.to_bytes(), bytes);
        }
    }
}
