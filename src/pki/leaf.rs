//! A leaf certificate with its key.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use zeroize::Zeroizing;

use super::authority::{distinguished_name, server_names, set_validity};
use super::{Authority, PkiError, backdate, seconds, seconds_after, two_thirds};

/// A leaf certificate with its key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate.
    pub certificate_pem: String,
    /// Begin of its validity, a little before it was made.
    pub not_before: Timestamp,
    /// End of its validity; never later than its authority's.
    pub not_after: Timestamp,
    key_pem: Zeroizing<String>,
}

/// What a leaf is for. Nothing can be used as the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Serve as this Service of the silo.
    Server(&'static str),
    /// Log in under this name.
    Client(&'static str),
}

impl Leaf {
    /// A new certificate that lives from `now` on.
    pub(super) fn new(
        authority: &Authority,
        purpose: Purpose,
        now: Timestamp,
        life: Duration,
    ) -> Result<Self, PkiError> {
        let issuer = authority.issuer()?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let life = seconds(life).min(authority.not_after.as_second() - now.as_second());
        let not_before = seconds_after(now, -backdate(life)).max(authority.not_before);
        let not_after = seconds_after(not_before, life);
        let (namespace, uid) = authority.owner();
        let (name, names, usage) = match purpose {
            Purpose::Server(service) => (
                service,
                server_names(service, namespace),
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            Purpose::Client(name) => (name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = distinguished_name(name, namespace, uid);
        set_validity(&mut params, not_before, not_after)?;
        // Said explicitly, and with it goes the key identifier that chains are built by.
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            not_before,
            not_after,
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// The key (PKCS #8 PEM).
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// When to replace it: at two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        two_thirds(self.not_before, self.not_after)
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
