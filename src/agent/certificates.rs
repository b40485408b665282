//! The silo's certificate files: checked together, copied to where PostgreSQL trusts them, served by the agent itself.
//!
//! Kubernetes swaps all files of a Secret volume at once, but a reader that opens them one after the other can still see
//! half of each. So PostgreSQL never reads that volume: it gets copies of a set that was checked as a whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

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

/// What tells one state of a folder's files from another: device, inode, size and time of each.
type Fingerprint = [Option<(u64, u64, u64, i64, i64)>; 3];

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// Paths of the copies that PostgreSQL reads.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted.
    pub authorities: PathBuf,
}

/// A folder of certificate files, and what was last seen in it.
pub struct Certificates {
    source: PathBuf,
    target: PathBuf,
    seen: Fingerprint,
}

impl Certificates {
    /// Watches `source` (`tls.crt`, `tls.key`, `ca.crt`) and installs into the private folder `target`.
    pub fn new(source: &Path, target: &Path) -> Self {
        Self {
            source: source.to_owned(),
            target: target.to_owned(),
            seen: Fingerprint::default(),
        }
    }

    /// Whether the files changed since they were last loaded.
    pub fn changed(&self) -> bool {
        fingerprint(&self.source) != self.seen
    }

    /// Where the copies are.
    pub fn installed(&self) -> Installed {
        Installed {
            certificate: self.target.join(CERTIFICATE),
            key: self.target.join(KEY),
            authorities: self.target.join(AUTHORITIES),
        }
    }

    /// Checks the files as a whole, copies them for PostgreSQL and returns the agent's own server configuration.
    /// If they are not usable, what was installed before stays.
    pub fn load(&mut self) -> Result<Arc<ServerConfig>, CertificateError> {
        // Taken first: a change while reading is then seen as one more change.
        self.seen = fingerprint(&self.source);
        let read = |name: &str| {
            let path = self.source.join(name);
            fs::read(&path)
                .map(Zeroizing::new)
                .map_err(|source| CertificateError::Io { path, source })
        };
        let (certificate, key, authorities) = (read(CERTIFICATE)?, read(KEY)?, read(AUTHORITIES)?);
        let config = server_config(&self.source, &certificate, &key, &authorities)?;
        let installed = self.installed();
        for (path, content) in [
            (installed.authorities, authorities),
            (installed.certificate, certificate),
            (installed.key, key),
        ] {
            install(&path, &content).map_err(|source| CertificateError::Io { path, source })?;
        }
        Ok(Arc::new(config))
    }
}

fn fingerprint(folder: &Path) -> Fingerprint {
    [CERTIFICATE, KEY, AUTHORITIES].map(|name| {
        let file = fs::metadata(folder.join(name)).ok()?;
        Some((
            file.dev(),
            file.ino(),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
        ))
    })
}

/// Replaces a file at once, readable by nobody else: PostgreSQL refuses a key that others can read.
fn install(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content)?;
    fs::rename(&draft, path)
}

/// TLS 1.3 only. A client certificate is optional, because kubelet's probes have none, but one that is shown must be
/// signed by the silo's authority.
fn server_config(
    folder: &Path,
    certificate: &[u8],
    key: &[u8],
    authorities: &[u8],
) -> Result<ServerConfig, CertificateError> {
    let chain = pem_certificates(&folder.join(CERTIFICATE), certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| CertificateError::Pem {
        path: folder.join(KEY),
        what: "private key",
        source: Some(source),
    })?;
    let bundle = folder.join(AUTHORITIES);
    let unusable = |source| CertificateError::Authorities {
        path: bundle.clone(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for authority in pem_certificates(&bundle, authorities)? {
        roots
            .add(authority)
            .map_err(|error| unusable(error.into()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(error.into()))?;
    let pair = |source| CertificateError::Pair {
        path: folder.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn pem_certificates(
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
