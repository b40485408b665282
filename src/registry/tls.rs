//! TLS towards the registry: version 1.3 only, its own authority and no other, always with a client certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::settings::Identity;
use crate::https::files::{self, AUTHORITIES, CERTIFICATE, CertificateError, KEY};

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// A file or text cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// They cannot be used together, for example because certificate and key do not belong together.
    #[error("the client certificate, its key and the authorities of the registry cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// One of the three texts, and where it is from.
struct Pem<'a> {
    place: &'a Path,
    bytes: Zeroizing<Vec<u8>>,
}

/// Client settings, from the files as they are now.
pub(super) fn client_config(identity: &Identity) -> Result<ClientConfig, TlsError> {
    let [ca, certificate, key] = match identity {
        Identity::Files {
            ca,
            certificate,
            key,
        } => [file(ca)?, file(certificate)?, file(key)?],
        Identity::Pem {
            ca,
            certificate,
            key,
        } => [
            text(AUTHORITIES, ca),
            text(CERTIFICATE, certificate),
            text(KEY, key.expose_secret()),
        ],
    };
    let mut roots = RootCertStore::empty();
    for authority in files::certificates(ca.place, &ca.bytes)? {
        roots.add(authority)?;
    }
    let provider = CryptoProvider {
        // PostgreSQL before version 18 takes one curve, by default this one; offering another first costs a round trip.
        kx_groups: vec![kx_group::SECP256R1, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            files::certificates(certificate.place, &certificate.bytes)?,
            files::private_key(key.place, &key.bytes)?,
        )?)
}

fn file(path: &Path) -> Result<Pem<'_>, CertificateError> {
    Ok(Pem {
        place: path,
        bytes: files::read(path)?,
    })
}

/// A text that is named as the file would be.
fn text<'a>(name: &'a str, text: &str) -> Pem<'a> {
    Pem {
        place: Path::new(name),
        bytes: Zeroizing::new(text.as_bytes().to_vec()),
    }
}
