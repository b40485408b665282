//! Checking a deletion record with nothing but itself and a public key.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::envelope::{Envelope, PAYLOAD_TYPE, pre_authentication_encoding};
use super::record::Impossible;
use super::signing::PublicKey;
use super::statement::{PREDICATE_TYPE, STATEMENT_TYPE, Statement, Subject, Wire};
use super::strict;

/// The largest envelope that is looked at, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// Signatures that are looked at; one is usual.
const MAX_SIGNATURES: usize = 16;

/// A record that holds: signed by a known key, complete, and possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What is proven.
    pub statement: Statement,
    /// Which of the given keys signed it.
    pub key_id: String,
}

/// Why a record proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Too much to be an envelope.
    #[error("the file is larger than any deletion record")]
    Large,
    /// The envelope is no JSON, or not such an object.
    #[error("the file is not one DSSE envelope")]
    Envelope(#[source] serde_json::Error),
    /// The envelope holds something else.
    #[error("the envelope holds {found:?}, not {PAYLOAD_TYPE:?}")]
    PayloadType {
        /// What it says to hold.
        found: String,
    },
    /// A field is no base64.
    #[error("the envelope's {field} is not base64")]
    Base64 {
        /// `payload` or `signature`.
        field: &'static str,
        /// Where it ends to be.
        #[source]
        source: base64::DecodeError,
    },
    /// Nobody signed, or absurdly many did.
    #[error("the envelope has {0} signatures; one is usual, {MAX_SIGNATURES} are the most")]
    Signatures(usize),
    /// The signature does not match.
    #[error(
        "the signature does not match the key {key_id}: the record was changed after it was signed, or never was signed with this key"
    )]
    BadSignature {
        /// The key that should have signed.
        key_id: String,
    },
    /// It was signed with a key that was not given.
    #[error("the record is signed with key {signed_with}, and the key to check with is {given}")]
    UnknownKey {
        /// What the envelope says of its keys.
        signed_with: String,
        /// The keys that were given.
        given: String,
    },
    /// The signed payload is no statement.
    #[error("what is signed is not one in-toto statement about a deletion")]
    Statement(#[source] serde_json::Error),
    /// Another version of in-toto's statement.
    #[error("what is signed is a {found:?}; this program knows {STATEMENT_TYPE:?}")]
    StatementType {
        /// What it says to be.
        found: String,
    },
    /// Another kind of statement, or a later version.
    #[error("the statement is a {found:?}; this program knows {PREDICATE_TYPE:?}")]
    PredicateType {
        /// What it says to be.
        found: String,
    },
    /// The statement is about somebody else than its record.
    #[error("the statement's subject is not the tenant of its record")]
    Subject,
    /// Signed, but it cannot be true.
    #[error(transparent)]
    Impossible(#[from] Impossible),
}

/// Checks an envelope with the keys that are trusted; a signature with any one of them is enough. Needs no cluster.
pub fn verify(envelope: &[u8], keys: &[PublicKey]) -> Result<Verified, VerifyError> {
    if envelope.len() > MAX_BYTES {
        return Err(VerifyError::Large);
    }
    strict::check(envelope).map_err(VerifyError::Envelope)?;
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(VerifyError::Envelope)?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(VerifyError::PayloadType {
            found: envelope.payload_type,
        });
    }
    let payload = decode("payload", &envelope.payload)?;
    let key_id = signer(&envelope, &payload, keys)?;
    Ok(Verified {
        statement: statement(&payload)?,
        key_id,
    })
}

/// The id of the first given key that signed. What the envelope says of its keys only serves the explanation.
fn signer(envelope: &Envelope, payload: &[u8], keys: &[PublicKey]) -> Result<String, VerifyError> {
    let count = envelope.signatures.len();
    if count == 0 || count > MAX_SIGNATURES {
        return Err(VerifyError::Signatures(count));
    }
    let message = pre_authentication_encoding(&envelope.payload_type, payload);
    for signature in &envelope.signatures {
        let bytes = decode("signature", &signature.sig)?;
        if let Some(key) = keys.iter().find(|key| key.signed(&message, &bytes)) {
            return Ok(key.id());
        }
    }
    let given: Vec<String> = keys.iter().map(PublicKey::id).collect();
    let claimed: Vec<&str> = envelope
        .signatures
        .iter()
        .map(|signature| signature.keyid.as_str())
        .filter(|id| !id.is_empty())
        .collect();
    match given.iter().find(|id| claimed.contains(&id.as_str())) {
        Some(key_id) => Err(VerifyError::BadSignature {
            key_id: key_id.clone(),
        }),
        None => Err(VerifyError::UnknownKey {
            signed_with: list(&claimed, "without a name"),
            given: list(&given, "none"),
        }),
    }
}

fn list<T: AsRef<str>>(ids: &[T], none: &str) -> String {
    if ids.is_empty() {
        return none.to_owned();
    }
    ids.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

fn statement(payload: &[u8]) -> Result<Statement, VerifyError> {
    /// What says how to read the rest.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(rename = "_type")]
        statement_type: String,
        predicate_type: String,
    }
    strict::check(payload).map_err(VerifyError::Statement)?;
    let head: Head = serde_json::from_slice(payload).map_err(VerifyError::Statement)?;
    if head.statement_type != STATEMENT_TYPE {
        return Err(VerifyError::StatementType {
            found: head.statement_type,
        });
    }
    if head.predicate_type != PREDICATE_TYPE {
        return Err(VerifyError::PredicateType {
            found: head.predicate_type,
        });
    }
    let wire: Wire = serde_json::from_slice(payload).map_err(VerifyError::Statement)?;
    if wire.subject != [Subject::of(&wire.predicate)] {
        return Err(VerifyError::Subject);
    }
    Ok(Statement::new(wire.predicate)?)
}

/// Both alphabets, with or without padding, as the envelope's specification wants it.
fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, VerifyError> {
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
        .decode(text)
        .map_err(|source| VerifyError::Base64 { field, source })
}
