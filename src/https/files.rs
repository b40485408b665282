//! Certificate files: read, checked as a pair, and looked at again for changes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// The certificate chain in a folder of certificate files.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub const KEY: &str = "tls.key";
/// The authorities that others are checked against.
pub const AUTHORITIES: &str = "ca.crt";

/// Why a set of certificate files is not used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read or written.
    #[error("cannot read or write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file holds no PEM of the kind expected.
    #[error("{path} holds no usable {what}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong with the text, if it is the text.
        #[source]
        source: Option<rustls_pki_types::pem::Error>,
    },
    /// The authorities cannot verify anybody.
    #[error("{path} holds no usable certificate authority")]
    Authorities {
        /// The bundle.
        path: PathBuf,
        /// What rustls said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key are not a pair, or rustls cannot use them.
    #[error("tls.crt and tls.key in {path} are not a usable pair")]
    Pair {
        /// The folder.
        path: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
}

/// What tells one state of some files from another: device, inode, size and time of each.
pub type Fingerprint = Vec<Option<(u64, u64, u64, i64, i64)>>;

/// The state of these files of a folder.
#[must_use]
pub fn fingerprint(folder: &Path, names: &[&str]) -> Fingerprint {
    let of = |name: &&str| {
        let file = fs::metadata(folder.join(name)).ok()?;
        Some((
            file.dev(),
            file.ino(),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
        ))
    };
    names.iter().map(of).collect()
}

/// The content of a file, wiped from memory when it is dropped: it may be a key.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| CertificateError::Io {
            path: path.to_owned(),
            source,
        })
}

/// The certificates in `pem`, which was read from `path`; at least one.
pub fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let error = |source| CertificateError::Pem {
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(Some(e)))?;
    if found.is_empty() {
        Err(error(None))
    } else {
        Ok(found)
    }
}

/// The private key in `pem`, which was read from `path`.
pub fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| CertificateError::Pem {
        path: path.to_owned(),
        what: "private key",
        source: Some(source),
    })
}

/// A server's certificate (`tls.crt`, `tls.key`) in a folder, and the state in which it was last seen.
#[derive(Debug)]
pub struct ServerFiles {
    folder: PathBuf,
    seen: Fingerprint,
}

impl ServerFiles {
    /// The files in this folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            seen: Fingerprint::default(),
        }
    }

    /// TLS 1.3 with this certificate, for clients that show none.
    pub fn load(&mut self) -> Result<Arc<ServerConfig>, CertificateError> {
        // Taken first: a change while reading is then seen as one more change.
        self.seen = self.now();
        let (certificate, key) = (self.folder.join(CERTIFICATE), self.folder.join(KEY));
        let chain = certificates(&certificate, &read(&certificate)?)?;
        let key = private_key(&key, &read(&key)?)?;
        let pair = |source| CertificateError::Pair {
            path: self.folder.clone(),
            source,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Takes changed files into use. Files that cannot be used are told of once, and what was served stays.
    pub fn renew(&mut self, tls: &ArcSwap<ServerConfig>) {
        if self.now() == self.seen {
            return;
        }
        match self.load() {
            Ok(config) => {
                tls.store(config);
                tracing::info!("the server's certificate was renewed");
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the new certificate files cannot be used; the old ones stay"
                );
            }
        }
    }

    fn now(&self) -> Fingerprint {
        fingerprint(&self.folder, &[CERTIFICATE, KEY])
    }
}
