//! A certificate authority for a KMS that is reached over TLS.

use std::path::PathBuf;
use std::sync::Arc;

use granary::keys::{Kms, KmsError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::account::Account;
use super::bench::new_tenant;

/// An authority, and its certificate in a file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap());
        let authority = Self {
            issuer: issuer.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A server at 127.0.0.1 with a certificate of this authority.
    pub fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

#[tokio::test]
async fn the_kms_has_to_show_a_certificate_of_the_authority_that_was_named() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let account = Account::over_tls(&right).await;
    let tenant = new_tenant();
    let stranger = account.provider_trusting(&wrong.file());
    let error = stranger.create_key(tenant).await.unwrap_err();
    assert!(matches!(error, KmsError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("ertificate"), "{error}");
    assert!(account.proxy.asked().is_empty());

    let kms = account.provider_trusting(&right.file());
    let key = kms.create_key(tenant).await.unwrap();
    assert_eq!(kms.create_key(tenant).await.unwrap(), key);
}
