//! The signed envelope: DSSE v1.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::signing::{KeyError, SigningKey};
use super::statement::Statement;

/// The type of payload in the envelope.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A payload with its signatures, as it is stored and handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Base64 of the statement's bytes.
    pub payload: String,
    /// [`PAYLOAD_TYPE`].
    pub payload_type: String,
    /// At least one.
    pub signatures: Vec<Signature>,
}

/// One signature over payload type and payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key made it: a hint that nobody vouches for.
    #[serde(default)]
    pub keyid: String,
    /// Base64 of the 64 bytes of an Ed25519 signature.
    pub sig: String,
}

impl Envelope {
    /// Signs a statement.
    pub fn sign(statement: &Statement, key: &SigningKey) -> Result<Self, KeyError> {
        let payload = serde_json::to_vec(statement).map_err(KeyError::Encode)?;
        let signature = key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload))?;
        Ok(Self {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signature {
                keyid: key.public().id(),
                sig: STANDARD.encode(signature),
            }],
        })
    }
}

/// What is signed: type and payload with their lengths, so that neither can be taken for a part of the other.
pub(super) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}
