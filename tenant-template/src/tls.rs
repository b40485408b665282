//! TLS 1.3: the server's certificate, read again when its files change, and the settings towards the database.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::logging::chain;

/// How often, at most, a handshake looks whether the files changed.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why the certificate could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} holds no usable {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key cannot be used, for example because they do not belong together.
    #[error("the certificate and key in {} cannot be used", dir.display())]
    Pair {
        /// The directory.
        dir: PathBuf,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
}

/// Server settings: TLS 1.3 only, HTTP/2 and HTTP/1.1, the certificate from `dir` (`tls.crt`, `tls.key`).
/// A changed certificate is used by the first handshake that comes `check_interval` or more after the last look.
pub fn server_config(dir: &Path, check_interval: Duration) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate = ReloadedCertificate::load(dir, check_interval, Arc::clone(&provider))?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| Error::Pair {
            dir: dir.to_owned(),
            source,
        })?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificate in use. It is looked after by the handshakes themselves: no timer wakes an idle app.
#[derive(Debug)]
struct ReloadedCertificate {
    dir: PathBuf,
    check_interval: Duration,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    checked: Instant,
}

/// What tells one state of the files from another. The resolved path changes when a mounted Secret is swapped, the
/// times when a file is written in place.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    dir: PathBuf,
    certificate: SystemTime,
    key: SystemTime,
}

impl Stamp {
    fn take(dir: &Path) -> Result<Self, Error> {
        let dir = real_dir(dir)?;
        let modified = |name: &str| {
            let path = dir.join(name);
            fs::metadata(&path)
                .and_then(|metadata| metadata.modified())
                .map_err(|source| Error::Read { path, source })
        };
        Ok(Self {
            certificate: modified("tls.crt")?,
            key: modified("tls.key")?,
            dir,
        })
    }
}

/// The directory that holds the files now. A mounted Secret keeps them behind the link `..data`; going through it
/// once makes certificate and key come from the same version.
fn real_dir(dir: &Path) -> Result<PathBuf, Error> {
    let data = dir.join("..data");
    let path = if data.exists() { data } else { dir.to_owned() };
    fs::canonicalize(&path).map_err(|source| Error::Read { path, source })
}

impl ReloadedCertificate {
    fn load(
        dir: &Path,
        check_interval: Duration,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let stamp = Stamp::take(dir)?;
        let certificate = read(&stamp.dir, &provider)?;
        Ok(Self {
            dir: dir.to_owned(),
            check_interval,
            provider,
            current: ArcSwap::from_pointee(certificate),
            seen: Mutex::new(Seen {
                stamp,
                checked: Instant::now(),
            }),
        })
    }

    /// Reads the files again if they changed. On a failure the certificate in use stays.
    fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.checked.elapsed() < self.check_interval {
            return;
        }
        seen.checked = Instant::now();
        let reloaded = Stamp::take(&self.dir).and_then(|stamp| {
            if stamp == seen.stamp {
                return Ok(None);
            }
            let certificate = read(&stamp.dir, &self.provider)?;
            Ok(Some((stamp, certificate)))
        });
        match reloaded {
            Ok(None) => {}
            Ok(Some((stamp, certificate))) => {
                seen.stamp = stamp;
                self.current.store(Arc::new(certificate));
                tracing::info!("the certificate changed and was read again");
            }
            Err(error) => tracing::warn!(
                reason = chain(&error),
                "the changed certificate is not usable; keeping the old one"
            ),
        }
    }
}

fn read(dir: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(&dir.join("tls.crt"))?;
    let key = private_key(&dir.join("tls.key"))?;
    // Also checks that the key is that of the certificate.
    CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::Pair {
        dir: dir.to_owned(),
        source,
    })
}

fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(&contents(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem {
            path: path.to_owned(),
            what: "certificate",
            source,
        })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|source| Error::Pem {
        path: path.to_owned(),
        what: "private key",
        source,
    })
}

/// Client settings for the database, from the files as they are now: TLS 1.3 only, trusting `ca` and nobody else.
pub fn client_config(ca: &Path, certificate: &Path, key: &Path) -> Result<ClientConfig, Error> {
    let unusable = |path: &Path| {
        let dir = path.parent().unwrap_or(path).to_owned();
        move |source| Error::Pair { dir, source }
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca)? {
        roots.add(authority).map_err(unusable(ca))?;
    }
    let provider = CryptoProvider {
        // PostgreSQL before version 18 takes one curve, by default this one; offering another first costs a round trip.
        kx_groups: vec![kx_group::SECP256R1, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable(ca))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
        .map_err(unusable(certificate))
}

/// Draws a first random number: the library gathers entropy for it, once a process.
pub fn warm_up() {
    // A failure shows at the first handshake, with its context.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0]);
}

impl ResolvesServerCert for ReloadedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.refresh();
        Some(self.current.load_full())
    }
}
