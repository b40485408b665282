//! The bytes of a wrapped data key.
//!
//! ```text
//! GRNK | 1 | provider | key id | key version | tenant uid | purpose | version | created | ciphertext
//! 4      1   ──────────── header: seven fields, each after its length (u16) ─────────────   u32 length
//! ```
//!
//! Numbers are big-endian. There is exactly one encoding of each value, nothing may follow the ciphertext, and a reader
//! refuses a format that it does not know. What is wrapped is bound to the header: `local` gives its bytes to the cipher
//! as additional data, `aws` puts their SHA-256 into the encryption context. So a header that was changed in a way that
//! still reads well is refused when the key is unwrapped.

use std::fmt;

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Context, KeyId, Purpose, TenantUid};

const MAGIC: &[u8; 4] = b"GRNK";
const FORMAT: u8 = 1;
/// Longest ciphertext, in bytes: what AWS takes for decryption.
const MAX_CIPHERTEXT: usize = 6144;

/// Which KMS holds the tenants' keys.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderName {
    /// Keys under a root key in a file. For evaluation only.
    Local,
    /// AWS KMS, or a service that speaks its protocol.
    Aws,
}

impl ProviderName {
    /// The name in headers, settings and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
        }
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a wrapped data key says of itself, in the clear and authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The KMS that wrapped it.
    pub provider: ProviderName,
    /// The tenant's key that it is wrapped under.
    pub key: KeyId,
    /// Which version of that key, from 1; 0 where the KMS keeps that inside its ciphertext, as AWS does.
    pub key_version: u32,
    /// Whose and what for.
    pub context: Context,
    /// When the data key was made, to the second. Wrapping it again does not change it.
    pub created: Timestamp,
}

impl Header {
    /// The bytes that a wrapped key begins with, and that it is bound to.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &[FORMAT]].concat();
        for field in [
            self.provider.as_str().as_bytes(),
            self.key.as_str().as_bytes(),
            &self.key_version.to_be_bytes(),
            self.context.tenant.0.as_bytes(),
            self.context.purpose.as_str().as_bytes(),
            &self.context.version.to_be_bytes(),
            &self.created.as_second().to_be_bytes(),
        ] {
            // No field is longer than `KeyId::MAX`.
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(field);
        }
        bytes
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, EnvelopeError> {
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(EnvelopeError::NoEnvelope);
        }
        let [format] = reader.array("format")?;
        if format != FORMAT {
            return Err(EnvelopeError::Format(format));
        }
        let provider = match reader.text("provider")? {
            "local" => ProviderName::Local,
            "aws" => ProviderName::Aws,
            _ => return Err(EnvelopeError::Field("provider")),
        };
        let key = reader
            .text("key id")?
            .parse::<KeyId>()
            .map_err(|_| EnvelopeError::Field("key id"))?;
        let key_version = u32::from_be_bytes(reader.exactly("key version")?);
        let tenant = TenantUid(Uuid::from_bytes(reader.exactly("tenant uid")?));
        let purpose = reader
            .text("purpose")?
            .parse::<Purpose>()
            .map_err(|_| EnvelopeError::Field("purpose"))?;
        let version = u32::from_be_bytes(reader.exactly("version")?);
        let created = Timestamp::from_second(i64::from_be_bytes(reader.exactly("created")?))
            .map_err(|_| EnvelopeError::Field("created"))?;
        Ok(Self {
            provider,
            key,
            key_version,
            context: Context {
                tenant,
                purpose,
                version,
            },
            created,
        })
    }
}

/// A data key that only the KMS can unwrap, with what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// What it says of itself.
    pub header: Header,
    /// What the KMS made of it.
    pub ciphertext: Vec<u8>,
}

impl WrappedKey {
    /// Header and ciphertext, for the registry or the head of a backup.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes();
        // Nobody reads a longer one: `MAX_CIPHERTEXT`.
        let length = u32::try_from(self.ciphertext.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.ciphertext);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, and nothing else. Whether it is genuine shows when it is unwrapped.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let mut reader = Reader(bytes);
        let header = Header::read(&mut reader)?;
        let length = u32::from_be_bytes(reader.array("ciphertext")?);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| (1..=MAX_CIPHERTEXT).contains(length))
            .ok_or(EnvelopeError::Field("ciphertext"))?;
        let ciphertext = reader.take(length)?.to_vec();
        if !reader.0.is_empty() {
            return Err(EnvelopeError::Surplus(reader.0.len()));
        }
        Ok(Self { header, ciphertext })
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], EnvelopeError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(EnvelopeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], EnvelopeError> {
        self.take(N)?
            .try_into()
            .map_err(|_| EnvelopeError::Field(name))
    }

    fn field(&mut self) -> Result<&'a [u8], EnvelopeError> {
        let length = u16::from_be_bytes(self.array("length")?);
        self.take(length.into())
    }

    fn exactly<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], EnvelopeError> {
        self.field()?
            .try_into()
            .map_err(|_| EnvelopeError::Field(name))
    }

    fn text(&mut self, name: &'static str) -> Result<&'a str, EnvelopeError> {
        str::from_utf8(self.field()?).map_err(|_| EnvelopeError::Field(name))
    }
}

/// Why bytes are no wrapped data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// They do not begin like one.
    #[error("this is no wrapped data key: it does not begin with GRNK")]
    NoEnvelope,
    /// Written by a newer Granary, or damaged.
    #[error("this wrapped data key has format {0}, and this version of Granary reads format 1")]
    Format(u8),
    /// They end too early.
    #[error("this wrapped data key is truncated: restore it from a backup of the registry")]
    Truncated,
    /// A field has a value that is never written.
    #[error(
        "the {0} of this wrapped data key is damaged: restore it from a backup of the registry"
    )]
    Field(&'static str),
    /// They go on after their end.
    #[error("this wrapped data key is damaged: {0} bytes follow its end")]
    Surplus(usize),
}

#[cfg(test)]
#[path = "envelope/tests.rs"]
mod tests;
