//! The silo's certificate files: checked together, copied to where PostgreSQL trusts them, served by the agent itself.
//!
//! Kubernetes swaps all files of a Secret volume at once, but a reader that opens them one after the other can still see
//! half of each. So PostgreSQL never reads that volume: it gets copies of a set that was checked as a whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::https::files::{
    self, AUTHORITIES, CERTIFICATE, CertificateError, Fingerprint, KEY, fingerprint,
};

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
        seen(&self.source) != self.seen
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
        self.seen = seen(&self.source);
        let read = |name: &str| files::read(&self.source.join(name));
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

fn seen(folder: &Path) -> Fingerprint {
    fingerprint(folder, &[CERTIFICATE, KEY, AUTHORITIES])
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
    let chain = files::certificates(&folder.join(CERTIFICATE), certificate)?;
    let key = files::private_key(&folder.join(KEY), key)?;
    let bundle = folder.join(AUTHORITIES);
    let unusable = |source| CertificateError::Authorities {
        path: bundle.clone(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for authority in files::certificates(&bundle, authorities)? {
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
