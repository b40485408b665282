//! How requests reach the KMS: directly, and over TLS unless it is on this machine.
//!
//! The SDK's own client would send requests through whatever proxy the environment names, also the ones in the clear to
//! this machine, and fails without a word of help where a machine has no certificate authorities.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_sdk_kms::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why nobody's certificate can be checked.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error(
        "cannot read the certificate authorities {}, which the KMS's certificate is checked against: \
         mount them, or set GRANARY_KMS_AWS_CA_FILE",
        .path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no authority in it.
    #[error(
        "{} holds no usable certificate authority, and the KMS's certificate is checked against it: \
         it has to be PEM, with one certificate at least",
        .path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The SDK makes no client.
    #[error("the HTTP client for the KMS cannot be made: {0}")]
    Client(String),
}

/// A client that trusts the authorities in this file and nobody else.
pub(super) fn trusting(authorities: &Path) -> Result<SharedHttpClient, TrustError> {
    let pem = fs::read(authorities).map_err(|source| TrustError::Io {
        path: authorities.to_owned(),
        source,
    })?;
    let usable = usable(&pem);
    if usable.is_empty() {
        return Err(TrustError::Empty {
            path: authorities.to_owned(),
        });
    }
    let store = TrustStore::empty().with_pem_certificate(usable);
    client(store)
}

/// A client that trusts nobody: for this machine.
pub(super) fn without_tls() -> Result<SharedHttpClient, TrustError> {
    client(TrustStore::empty())
}

fn client(store: TrustStore) -> Result<SharedHttpClient, TrustError> {
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|error| TrustError::Client(error.to_string()))?;
    Ok(Builder::new()
        .tls_provider(Provider::rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

/// The certificates of a bundle that rustls can use, as PEM. The SDK panics at others, and public bundles have some.
fn usable(pem: &[u8]) -> String {
    let mut usable = String::new();
    for certificate in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
        let text = STANDARD.encode(&certificate);
        if RootCertStore::empty().add(certificate).is_ok() {
            usable.push_str("-----BEGIN CERTIFICATE-----\n");
            usable.push_str(&text);
            usable.push_str("\n-----END CERTIFICATE-----\n");
        }
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn what_cannot_be_used_is_left_out() {
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bundle = format!("# a comment\n{damaged}{}{}", authority(), authority());
        assert_eq!(usable(bundle.as_bytes()).matches("BEGIN").count(), 2);
        assert!(trusting(&file(&bundle).1).is_ok());

        for nothing in ["", "nonsense", damaged] {
            let (_folder, path) = file(nothing);
            let error = trusting(&path).unwrap_err();
            assert!(matches!(error, TrustError::Empty { .. }), "{nothing:?}");
        }
    }

    #[test]
    fn a_missing_bundle_is_named() {
        let error = trusting(Path::new("/missing/ca.crt")).unwrap_err();
        assert!(error.to_string().contains("/missing/ca.crt"), "{error}");
    }
}
