//! A certificate authority of one silo, or of the plane.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::AttributeTypeAndValue;
use zeroize::Zeroizing;

use super::{PkiError, backdate, seconds, seconds_after};

/// A certificate authority of one silo, or of the plane.
#[derive(Clone)]
pub struct Authority {
    /// The certificate.
    pub certificate_pem: String,
    /// Begin of its validity, a little before it was made.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Hex SHA-256 of the certificate.
    pub fingerprint: String,
    namespace: String,
    uid: String,
    key_pem: Option<Zeroizing<String>>,
}

/// Whose authority it is; written into its subject.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub uid: &'a str,
    /// Services in that namespace that the authority may sign for.
    pub services: &'a [&'a str],
}

impl Authority {
    /// A new authority that lives from `now` on.
    ///
    /// Name constraints keep it to its subject's own names: stolen, it cannot speak for another silo or any other host.
    pub(super) fn new(
        subject: &Subject<'_>,
        now: Timestamp,
        life: Duration,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let not_before = seconds_after(now, -backdate(seconds(life)));
        let mut params = CertificateParams::default();
        // Authorities of one subject differ in their common name, so that a verifier finds the right one.
        let name = format!("{} CA {}", cut(subject.name), not_before.as_second());
        params.distinguished_name = distinguished_name(&name, subject.namespace, subject.uid);
        set_validity(
            &mut params,
            not_before,
            seconds_after(not_before, seconds(life)),
        )?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let names: BTreeSet<String> = subject
            .services
            .iter()
            .flat_map(|service| server_names(service, subject.namespace))
            .collect();
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.into_iter().map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key)?;
        Self::from_pem(
            &certificate.pem(),
            Some(&Zeroizing::new(key.serialize_pem())),
        )
    }

    /// Reads a stored authority; without a key it is trusted but signs nothing.
    pub fn from_pem(certificate_pem: &str, key_pem: Option<&str>) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| PkiError::Unreadable("the certificate is not PEM"))?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|_| PkiError::Unreadable("the certificate is not X.509"))?;
        if !certificate.is_ca() {
            return Err(PkiError::Unreadable(
                "the certificate is not an authority's",
            ));
        }
        if let Some(key_pem) = key_pem {
            let key = KeyPair::from_pem(key_pem)
                .map_err(|_| PkiError::Unreadable("the key is not PKCS #8"))?;
            if key.subject_public_key_info() != certificate.public_key().raw {
                return Err(PkiError::Unreadable("the key is not the certificate's"));
            }
        }
        let time = |time: ASN1Time| Timestamp::from_second(time.timestamp());
        let validity = certificate.validity();
        let (Ok(not_before), Ok(not_after)) = (time(validity.not_before), time(validity.not_after))
        else {
            return Err(PkiError::Unreadable("the validity is out of range"));
        };
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            not_before,
            not_after,
            fingerprint: format!("{:x}", Sha256::digest(&der)),
            namespace: first(certificate.subject().iter_organization()),
            uid: first(certificate.subject().iter_organizational_unit()),
            key_pem: key_pem.map(|key| Zeroizing::new(key.to_owned())),
        })
    }

    /// The key, unless the authority was succeeded. For storing only.
    #[must_use]
    pub fn key_pem(&self) -> Option<&str> {
        self.key_pem.as_ref().map(|key| key.as_str())
    }

    /// Whether it was made for this subject. Nothing that was copied in from another one counts.
    pub(super) fn is_of(&self, subject: &Subject<'_>) -> bool {
        self.namespace == subject.namespace && self.uid == subject.uid
    }

    /// Forgets the key: what it signed stays valid, nothing is added.
    pub(super) fn retire(&mut self) {
        self.key_pem = None;
    }

    /// Namespace and UID of its subject.
    pub(super) fn owner(&self) -> (&str, &str) {
        (&self.namespace, &self.uid)
    }

    /// What signs leafs.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let key = self.key_pem().ok_or_else(|| PkiError::Retired {
            fingerprint: self.fingerprint.clone(),
        })?;
        Ok(Issuer::from_ca_cert_pem(
            &self.certificate_pem,
            KeyPair::from_pem(key)?,
        )?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("can_sign", &self.key_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// Names under which a Service of the silo is reached.
pub(super) fn server_names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
    ]
}

/// Common name, namespace as organisation, UID as unit.
pub(super) fn distinguished_name(
    common_name: &str,
    namespace: &str,
    uid: &str,
) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, namespace);
    name.push(DnType::OrganizationalUnitName, uid);
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets the validity of a certificate to be made.
pub(super) fn set_validity(
    params: &mut CertificateParams,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<(), PkiError> {
    let convert = |time: Timestamp| {
        ASN1Time::from_timestamp(time.as_second()).map_err(|_| PkiError::Time(time))
    };
    params.not_before = convert(not_before)?.to_datetime();
    params.not_after = convert(not_after)?.to_datetime();
    Ok(())
}

/// A common name may have 64 characters, the rest of it about 20.
fn cut(name: &str) -> String {
    name.chars().take(40).collect()
}

fn first<'a>(mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> String {
    attributes
        .next()
        .and_then(|attribute| attribute.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}
