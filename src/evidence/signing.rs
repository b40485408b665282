//! The plane's signing key and the public key that it is checked with.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::sha256_hex;

/// A key file is a few lines; more is something else.
const MAX_FILE: u64 = 64 * 1024;

/// What precedes the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Access for others than owner and group, in a file's mode.
const FOR_OTHERS: u32 = 0o007;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everybody on the machine could use the key.
    #[error("the signing key {} is open to everybody (mode {mode:04o}); make it readable by its owner alone: chmod 0400", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is larger than any key.
    #[error("the key file {} is larger than any key", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// It is not PEM.
    #[error("the key is not valid PEM")]
    Pem(#[source] pem::Error),
    /// There is none, or several.
    #[error(
        "there must be one PRIVATE KEY (PKCS#8) in the file of the signing key, and there are {0}"
    )]
    NotOnePrivateKey(usize),
    /// There is no public key in the PEM.
    #[error("there is no PUBLIC KEY in it")]
    NoPublicKey,
    /// Another algorithm, or not a key at all.
    #[error("the key is not an Ed25519 key")]
    NotEd25519,
    /// No key could be made.
    #[error("a signing key cannot be made: no random numbers")]
    Generate,
    /// The library refused to sign.
    #[error("the statement cannot be signed")]
    Sign,
    /// The statement could not be written down.
    #[error("the statement cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

/// The key that signs deletion records. It is never shown.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a new key; [`Self::to_pem`] is the only way to keep it.
    pub fn generate() -> Result<Self, KeyError> {
        Self::of(Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?)
    }

    /// Reads a key from a file of PEM that not everybody can read.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        if mode & FOR_OTHERS != 0 {
            return Err(KeyError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let size = metadata.len();
        if size > MAX_FILE {
            return Err(KeyError::Large {
                path: path.to_owned(),
            });
        }
        // Large enough from the start: a vector that grows leaves copies behind.
        let mut content = Zeroizing::new(vec![0; usize::try_from(size).unwrap_or_default()]);
        file.read_exact(&mut content).map_err(failed)?;
        Self::from_pem(&content)
    }

    /// Reads a key from PEM with one PKCS#8 `PRIVATE KEY` in it.
    pub fn from_pem(content: &[u8]) -> Result<Self, KeyError> {
        let mut keys: Vec<PrivatePkcs8KeyDer<'static>> =
            PrivatePkcs8KeyDer::pem_slice_iter(content)
                .collect::<Result<_, _>>()
                .map_err(KeyError::Pem)?;
        let read = match keys.as_slice() {
            [key] => Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der())
                .map_err(|_| KeyError::NotEd25519)
                .and_then(Self::of),
            several => Err(KeyError::NotOnePrivateKey(several.len())),
        };
        keys.iter_mut().for_each(Zeroize::zeroize);
        read
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let spki: PublicKeyX509Der<'_> = pair
            .public_key()
            .as_der()
            .map_err(|_| KeyError::NotEd25519)?;
        let public = PublicKey::from_spki(spki.as_ref())?;
        Ok(Self { pair, public })
    }

    /// The key as PKCS#8 PEM, for the one place that keeps it.
    pub fn to_pem(&self) -> Result<SecretString, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        let body = SecretString::from(STANDARD.encode(document.as_ref()));
        let body = body.expose_secret();
        // One line, because this key's 48 bytes are 64 characters.
        let (begin, end) = (
            "-----BEGIN PRIVATE KEY-----\n",
            "\n-----END PRIVATE KEY-----\n",
        );
        let mut text = String::with_capacity(begin.len() + body.len() + end.len());
        for part in [begin, body, end] {
            text.push_str(part);
        }
        Ok(SecretString::from(text))
    }

    /// The key that others check with.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.try_sign(message).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    raw: [u8; 32],
}

impl PublicKey {
    /// Reads the keys of a file of PEM: one `PUBLIC KEY` or several.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, KeyError> {
        let failed = |source| KeyError::Read {
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
            return Err(KeyError::Large {
                path: path.to_owned(),
            });
        }
        Self::all_from_pem(&fs::read(path).map_err(failed)?)
    }

    /// Reads the keys of PEM: one `PUBLIC KEY` or several.
    pub fn all_from_pem(content: &[u8]) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for spki in SubjectPublicKeyInfoDer::pem_slice_iter(content) {
            keys.push(Self::from_spki(&spki.map_err(KeyError::Pem)?)?);
        }
        if keys.is_empty() {
            return Err(KeyError::NoPublicKey);
        }
        Ok(keys)
    }

    fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        spki.strip_prefix(&SPKI_PREFIX)
            .and_then(|raw| raw.try_into().ok())
            .map(|raw| Self { raw })
            .ok_or(KeyError::NotEd25519)
    }

    fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.raw].concat()
    }

    /// The key's name in signatures: SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        sha256_hex(&self.spki())
    }

    /// The key as PEM, for those who check.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let body = STANDARD.encode(self.spki());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.raw)
            .verify(message, signature)
            .is_ok()
    }
}
