//! Certificates as rustls verifies them, and a silo's authorities over the years.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rstest::rstest;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

const NAMESPACE: &str = "silo-acme-4f1c09ab7d";
const UID: &str = "4f1c09ab-7d20-4c58-8ccc-000000000001";
pub(super) const SHORT: Lifetimes = Lifetimes {
    leaf: Duration::from_mins(10),
    ca: Duration::from_mins(100),
};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn issue(authorities: Vec<Authority>, now: Timestamp, lifetimes: &Lifetimes) -> Issued {
    establish("acme", NAMESPACE, UID, authorities, now, lifetimes).unwrap()
}

fn fresh() -> Issued {
    issue(Vec::new(), at(0), &Lifetimes::default())
}

fn roots(bundle: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_second().unsigned_abs()))
}

pub(super) fn server_is_trusted(pem: &str, bundle: &str, name: &str, now: Timestamp) -> bool {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(bundle), Arc::new(default_provider()))
            .build()
            .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(&der(pem), &[], &name, &[], unix(now))
        .is_ok()
}

pub(super) fn client_is_trusted(pem: &str, bundle: &str, now: Timestamp) -> bool {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(bundle), Arc::new(default_provider()))
            .build()
            .unwrap();
    verifier
        .verify_client_cert(&der(pem), &[], unix(now))
        .is_ok()
}

pub(super) fn database_name() -> String {
    format!("database.{NAMESPACE}.svc")
}

fn common_name(leaf: &Leaf) -> String {
    let der = der(&leaf.certificate_pem);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    certificate
        .subject()
        .iter_common_name()
        .next()
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn servers_are_trusted_under_each_of_their_names_and_no_other() {
    let issued = fresh();
    for (service, leaf, other) in [
        ("database", &issued.leafs.database, "app"),
        ("app", &issued.leafs.app_server, "database"),
    ] {
        let trusted =
            |name: &str| server_is_trusted(&leaf.certificate_pem, &issued.bundle_pem, name, at(1));
        for suffix in [
            String::new(),
            format!(".{NAMESPACE}"),
            format!(".{NAMESPACE}.svc"),
            format!(".{NAMESPACE}.svc.cluster.local"),
        ] {
            assert!(trusted(&format!("{service}{suffix}")), "{service}{suffix}");
            assert!(!trusted(&format!("{other}{suffix}")), "{other}{suffix}");
        }
        assert!(trusted("localhost"));
        assert!(!trusted(&format!("{service}.silo-other-0000000000.svc")));
    }
}

#[test]
fn clients_are_trusted_under_the_name_of_their_role() {
    let issued = fresh();
    let operator = operator_client(issued.signer(), at(0)).unwrap();
    for (leaf, role) in [
        (&issued.leafs.app_client, "app"),
        (&issued.leafs.migrate_client, "owner"),
        (&operator, "operator"),
    ] {
        assert!(
            client_is_trusted(&leaf.certificate_pem, &issued.bundle_pem, at(1)),
            "{role}"
        );
        assert_eq!(common_name(leaf), role);
    }
    assert_eq!(
        operator.not_after.as_second() - operator.not_before.as_second(),
        3600
    );
}

#[test]
fn a_server_cannot_log_in_and_a_client_cannot_serve() {
    let issued = fresh();
    assert!(!client_is_trusted(
        &issued.leafs.app_server.certificate_pem,
        &issued.bundle_pem,
        at(1)
    ));
    assert!(!server_is_trusted(
        &issued.leafs.app_client.certificate_pem,
        &issued.bundle_pem,
        "app",
        at(1)
    ));
}

#[test]
fn silos_do_not_trust_each_other() {
    let (one, two) = (fresh(), fresh());
    let trusted = |bundle: &str| {
        server_is_trusted(
            &one.leafs.database.certificate_pem,
            bundle,
            &database_name(),
            at(1),
        ) || client_is_trusted(&one.leafs.app_client.certificate_pem, bundle, at(1))
    };
    assert!(trusted(&one.bundle_pem));
    assert!(!trusted(&two.bundle_pem));
}

/// What a thief of the authority's key could sign.
fn forge(authority: &Authority, name: &str) -> String {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    authority::set_validity(&mut params, at(0), at(1000)).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
        .signed_by(&key, &authority.issuer().unwrap())
        .unwrap()
        .pem()
}

#[test]
fn a_stolen_authority_speaks_for_no_other_host() {
    let issued = fresh();
    for (name, trusted) in [
        (database_name(), true),
        ("acme.granary.localhost.example".to_owned(), false),
        ("database.silo-other-0000000000.svc".to_owned(), false),
        ("kubernetes.default.svc".to_owned(), false),
    ] {
        let pem = forge(issued.signer(), &name);
        assert_eq!(
            server_is_trusted(&pem, &issued.bundle_pem, &name, at(1)),
            trusted,
            "{name}"
        );
    }
}

/// Verifiers differ in whether they look at it in a trust anchor, so the certificate is read instead.
#[test]
fn an_authority_makes_no_further_authorities() {
    let der = der(&fresh().bundle_pem);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
}

#[rstest]
#[case(Lifetimes::default(), 300)]
#[case(SHORT, 60)]
#[case(Lifetimes { leaf: Duration::from_secs(10), ca: Duration::from_secs(40) }, 1)]
fn leafs_begin_a_little_early_and_are_renewed_at_two_thirds(
    #[case] lifetimes: Lifetimes,
    #[case] early: i64,
) {
    let issued = issue(Vec::new(), at(0), &lifetimes);
    let life = seconds(lifetimes.leaf);
    for leaf in [
        &issued.leafs.database,
        &issued.leafs.app_server,
        &issued.leafs.app_client,
        &issued.leafs.migrate_client,
    ] {
        assert_eq!(leaf.not_before, at(-early));
        assert_eq!(leaf.not_after, at(life - early));
    }
    assert_eq!(issued.renew_at, at(life * 2 / 3 - early));
    assert!(issued.renew_at > at(0));
}

#[test]
fn lifetimes_that_do_not_fit_are_refused() {
    for (leaf, ca) in [(600, 2399), (9, 6000)] {
        let lifetimes = Lifetimes {
            leaf: Duration::from_secs(leaf),
            ca: Duration::from_secs(ca),
        };
        let error = establish("acme", NAMESPACE, UID, Vec::new(), at(0), &lifetimes).unwrap_err();
        assert!(matches!(error, PkiError::Lifetimes { .. }), "{error}");
    }
}

#[test]
fn an_expired_or_foreign_authority_does_not_count() {
    let first = issue(Vec::new(), at(0), &SHORT);
    let expired = issue(first.authorities.clone(), at(10_000), &SHORT);
    assert_eq!(expired.authorities.len(), 1);
    assert_ne!(expired.signer().fingerprint, first.signer().fingerprint);
    for (namespace, uid) in [
        ("silo-other-0000000000", UID),
        (NAMESPACE, "00000000-0000-0000-0000-000000000000"),
    ] {
        let other = establish(
            "acme",
            namespace,
            uid,
            first.authorities.clone(),
            at(1),
            &SHORT,
        )
        .unwrap();
        assert!(!other.bundle_pem.contains(&first.bundle_pem));
    }
}

#[test]
fn an_authority_without_its_key_is_succeeded_at_once_and_still_trusted() {
    let first = fresh();
    let lost = Authority::from_pem(&first.bundle_pem, None).unwrap();
    let next = issue(vec![lost], at(60), &Lifetimes::default());
    assert!(next.bundle_pem.contains(&first.bundle_pem));
    assert_ne!(next.signer().fingerprint, first.signer().fingerprint);
}

#[test]
fn a_stored_authority_is_read_back_or_refused() {
    let (one, two) = (fresh(), fresh());
    let key = one.signer().key_pem().unwrap();
    let read = Authority::from_pem(&one.bundle_pem, Some(key)).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", one.signer()));
    for (certificate, key) in [
        (one.bundle_pem.as_str(), two.signer().key_pem().unwrap()),
        (one.bundle_pem.as_str(), "not a key"),
        ("not a certificate", key),
        (
            one.leafs.database.certificate_pem.as_str(),
            one.leafs.database.key_pem(),
        ),
    ] {
        assert!(matches!(
            Authority::from_pem(certificate, Some(key)),
            Err(PkiError::Unreadable(_))
        ));
    }
}

#[test]
fn no_key_is_ever_printed() {
    let issued = fresh();
    let printed = format!("{issued:?}");
    assert!(printed.contains(&issued.signer().fingerprint));
    let keys = [
        issued.signer().key_pem().unwrap(),
        issued.leafs.database.key_pem(),
        issued.leafs.app_client.key_pem(),
    ];
    for line in keys.iter().flat_map(|key| key.lines()) {
        assert!(!printed.contains(line));
    }
}

#[test]
fn subjects_of_the_longest_names_fit() {
    let name = "a".repeat(63);
    let namespace = format!("silo-{}-4f1c09ab7d", "a".repeat(47));
    let issued = establish(&name, &namespace, UID, Vec::new(), at(0), &SHORT).unwrap();
    let host = format!("database.{namespace}.svc");
    assert!(server_is_trusted(
        &issued.leafs.database.certificate_pem,
        &issued.bundle_pem,
        &host,
        at(1)
    ));
}

#[test]
fn the_planes_certificates_are_for_its_own_services_and_roles() {
    let issued =
        establish_plane("granary-system", Vec::new(), at(0), &Lifetimes::default()).unwrap();
    let leafs = &issued.leafs;
    for (service, leaf) in [
        ("granary-registry", &leafs.registry),
        ("granary-keyserver", &leafs.keyserver),
    ] {
        let trusted =
            |name: &str| server_is_trusted(&leaf.certificate_pem, &issued.bundle_pem, name, at(1));
        assert!(trusted(&format!("{service}.granary-system.svc")));
        assert!(!trusted(&format!("{service}.somewhere-else.svc")));
        assert!(!trusted("database.granary-system.svc"));
    }
    for (leaf, role) in [
        (&leafs.keyserver_client, "app"),
        (&leafs.operator_owner, "owner"),
        (&leafs.operator_app, "app"),
        (&leafs.auditor, "auditor"),
    ] {
        assert!(client_is_trusted(
            &leaf.certificate_pem,
            &issued.bundle_pem,
            at(1)
        ));
        assert_eq!(common_name(leaf), role);
    }
}

#[test]
fn the_plane_and_a_silo_do_not_trust_each_other() {
    let plane =
        establish_plane("granary-system", Vec::new(), at(0), &Lifetimes::default()).unwrap();
    let silo = fresh();
    assert!(!client_is_trusted(
        &silo.leafs.app_client.certificate_pem,
        &plane.bundle_pem,
        at(1)
    ));
    assert!(!client_is_trusted(
        &plane.leafs.operator_app.certificate_pem,
        &silo.bundle_pem,
        at(1)
    ));
    // Nor does an authority that was copied over count.
    let foreign = establish_plane(
        "granary-system",
        silo.authorities,
        at(1),
        &Lifetimes::default(),
    )
    .unwrap();
    assert!(!foreign.bundle_pem.contains(&silo.bundle_pem));
}
