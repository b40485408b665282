//! When a silo's certificates are renewed. Reads no Secret: the renewal time is in the tenant's status and the
//! authority's certificate in a `ConfigMap` that anybody may know.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use serde::Serialize;
use x509_parser::pem::Pem;

use super::super::cluster::Cluster;
use crate::api::Tenant;

/// What is known about a silo's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// When the next certificate is to be renewed.
    pub renew_at: Option<Timestamp>,
    /// The authorities that the silo trusts, in the order of its bundle.
    pub authorities: Vec<Authority>,
    /// Why the authorities could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// One certificate authority of the silo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Its subject.
    pub subject: String,
    /// When it was issued.
    pub not_before: Option<Timestamp>,
    /// When it expires.
    pub not_after: Option<Timestamp>,
}

/// Reads what is known about the certificates of the tenant's silo.
pub async fn read(cluster: &Cluster, tenant: &Tenant, namespace: &str) -> Certificates {
    let renew_at = tenant
        .status
        .as_ref()
        .and_then(|status| status.certificates_renew_at.as_ref())
        .map(|time| time.0);
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let what = format!(
        "cannot read the trust bundle of tenant {:?}",
        tenant.name_any()
    );
    match cluster.ask(&what, api.get("ca")).await {
        Ok(bundle) => {
            let pem = bundle
                .data
                .unwrap_or_default()
                .remove("ca.crt")
                .unwrap_or_default();
            Certificates {
                renew_at,
                authorities: authorities(&pem),
                unknown: None,
            }
        }
        Err(failure) => Certificates {
            renew_at,
            authorities: Vec::new(),
            unknown: Some(failure.reasons().join("; ")),
        },
    }
}

fn authorities(bundle: &str) -> Vec<Authority> {
    Pem::iter_from_buffer(bundle.as_bytes())
        .filter_map(Result::ok)
        .filter_map(|pem| {
            let certificate = pem.parse_x509().ok()?;
            let validity = certificate.validity();
            let time =
                |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
            Some(Authority {
                subject: certificate.subject().to_string(),
                not_before: time(validity.not_before),
                not_after: time(validity.not_after),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    }

    #[test]
    fn every_authority_of_the_bundle_is_read() {
        let bundle = format!("{}{}", certificate("one"), certificate("two"));
        let authorities = authorities(&bundle);
        assert_eq!(authorities.len(), 2, "{authorities:?}");
        assert!(authorities[1].subject.contains("two"), "{authorities:?}");
        assert_eq!(
            authorities[0].not_after,
            "2027-01-01T00:00:00Z".parse().ok()
        );
    }

    #[test]
    fn rubbish_is_no_authority() {
        assert!(
            authorities("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .is_empty()
        );
        assert!(authorities("").is_empty());
    }
}
