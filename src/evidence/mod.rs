//! The deletion record: a signed statement that a tenant's data is gone, which anybody can check offline.
//!
//! ```text
//! Record ─check→ Statement (in-toto v1) ─sign→ Envelope (DSSE v1, Ed25519) ─verify→ Verified
//! ```
//!
//! The record says what was done and when. It can only be made, and is only accepted, if it is one that can be true:
//! every step there, in order, and no proof that let somebody in.
//!
//! There are two of each tenant: one when its keys refuse for good and its volumes are gone, and a later one when the KMS
//! has destroyed the keys, which no KMS does in less than a week.

mod envelope;
mod record;
mod signing;
mod statement;
mod strict;
#[cfg(test)]
mod tests;
mod verify;

pub use envelope::{Envelope, PAYLOAD_TYPE, Signature};
pub use record::{
    Attempt, DataKey, Export, Fault, Impossible, Key, Outcome, Proof, Record, Removed, Stage,
    Steps, Tenant,
};
pub use signing::{KeyError, PublicKey, SigningKey};
pub use statement::{PREDICATE_TYPE, STATEMENT_TYPE, Statement};
pub use verify::{MAX_BYTES, Verified, VerifyError, verify};

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// SHA-256 as 64 hexadecimal digits in lower case.
fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
