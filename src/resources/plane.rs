//! What the operator keeps in the plane's own namespace: certificates of registry and key server, the key for deletion
//! records, and a root key.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;

use super::certificates::{files, secret, stored};
use super::labels::{LABEL_MANAGED_BY, LABEL_NAME, owned};
use super::manifest::Manifest;
use crate::api::plane::{KEYSERVER, LABEL_PLANE, OPERATOR, REGISTRY};
use crate::pki::{Issued, PlaneLeafs};

/// Value of [`LABEL_PLANE`] on the Secrets with certificates; the operator watches only these.
pub const CERTIFICATES: &str = "certificates";
/// Secret with the plane's authorities and their keys; mounted nowhere.
pub const AUTHORITY: &str = "granary-plane-ca";
/// Secret with the registry's server certificate.
pub const REGISTRY_TLS: &str = "granary-registry-tls";
/// Secret with the key server's server certificate, and its client certificate for the registry.
pub const KEYSERVER_TLS: &str = "granary-keyserver-tls";
/// Secret with the operator's client certificates for the registry, as `owner` and as `app`.
pub const OPERATOR_TLS: &str = "granary-operator-tls";
/// Secret with a client certificate for people who read the registry as `auditor`; mounted nowhere.
pub const AUDITOR_TLS: &str = "granary-auditor-tls";
/// Secret with the key of the `local` key provider.
pub const ROOT_KEY: &str = "granary-root-key";
/// Name of the key file in [`ROOT_KEY`].
pub const ROOT_KEY_FILE: &str = "root.key";
/// Bytes of a root key.
pub const ROOT_KEY_BYTES: usize = 32;

/// Secret with the key that deletion records are signed with, and `ConfigMap` with the public half.
pub const EVIDENCE_KEY: &str = crate::api::plane::EVIDENCE_KEY;
/// Name of the key file in the Secret.
pub const EVIDENCE_KEY_FILE: &str = "signing.pem";
/// Name of the file with public keys in the `ConfigMap`.
pub const EVIDENCE_PUBLIC_FILE: &str = crate::api::plane::EVIDENCE_PUBLIC_FILE;

/// Every Secret with certificates of the plane.
pub const CERTIFICATE_SECRETS: [&str; 5] = [
    AUTHORITY,
    REGISTRY_TLS,
    KEYSERVER_TLS,
    OPERATOR_TLS,
    AUDITOR_TLS,
];

/// The Secrets, in the order in which they must be applied: the authorities' own is last, as in a silo (see
/// [`super::certificates::certificates`]).
#[must_use]
pub fn certificates(namespace: &str, issued: &Issued<PlaneLeafs>) -> Vec<Manifest> {
    let bundle = issued.bundle_pem.as_str();
    let PlaneLeafs {
        registry,
        keyserver,
        keyserver_client,
        operator_owner,
        operator_app,
        auditor,
    } = &issued.leafs;
    let secret = |name: &str, component: &str, data| {
        let metadata = metadata(namespace, name, component, CERTIFICATES);
        Manifest::of(&secret(metadata, issued, data))
    };
    vec![
        secret(REGISTRY_TLS, REGISTRY, files(bundle, [("tls", registry)])),
        secret(
            KEYSERVER_TLS,
            KEYSERVER,
            files(bundle, [("tls", keyserver), ("client", keyserver_client)]),
        ),
        secret(
            OPERATOR_TLS,
            OPERATOR,
            files(bundle, [("owner", operator_owner), ("app", operator_app)]),
        ),
        secret(AUDITOR_TLS, REGISTRY, files(bundle, [("client", auditor)])),
        secret(AUTHORITY, OPERATOR, stored(&issued.authorities)),
    ]
}

/// The root key of the `local` provider. Immutable: Kubernetes itself refuses to change what every tenant's key hangs on.
#[must_use]
pub fn root_key(namespace: &str, key: &[u8; ROOT_KEY_BYTES]) -> Manifest {
    Manifest::of(&Secret {
        metadata: metadata(namespace, ROOT_KEY, KEYSERVER, "root-key"),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some([(ROOT_KEY_FILE.to_owned(), ByteString(key.to_vec()))].into()),
        ..Secret::default()
    })
}

/// The key that deletion records are signed with. Immutable: who wants another deletes it.
#[must_use]
pub fn evidence_key(namespace: &str, pem: &str) -> Manifest {
    let file = ByteString(pem.as_bytes().to_vec());
    Manifest::of(&Secret {
        metadata: metadata(namespace, EVIDENCE_KEY, OPERATOR, "evidence-key"),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some([(EVIDENCE_KEY_FILE.to_owned(), file)].into()),
        ..Secret::default()
    })
}

/// The public keys that deletion records are checked with.
#[must_use]
pub fn evidence_public(namespace: &str, pem: &str) -> Manifest {
    Manifest::of(&ConfigMap {
        metadata: metadata(namespace, EVIDENCE_KEY, OPERATOR, "evidence-key"),
        data: Some([(EVIDENCE_PUBLIC_FILE.to_owned(), pem.to_owned())].into()),
        ..ConfigMap::default()
    })
}

fn metadata(namespace: &str, name: &str, component: &str, what: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(owned([
            (LABEL_MANAGED_BY, "granary"),
            (LABEL_NAME, component),
            ("app.kubernetes.io/part-of", "granary"),
            (LABEL_PLANE, what),
        ])),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::pki::{Lifetimes, establish_plane};
    use crate::resources::certificates::{ANNOTATION_CONTENT, ANNOTATION_RENEW_AT, authorities};

    fn issued() -> Issued<PlaneLeafs> {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        establish_plane("granary-system", Vec::new(), now, &Lifetimes::default()).unwrap()
    }

    #[test]
    fn each_program_gets_what_it_needs_and_the_authority_is_stored_last() {
        let manifests = certificates("granary-system", &issued());
        let held = manifests.iter().map(|manifest| {
            let keys: Vec<&str> = manifest.body["data"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            format!("{}: {}", manifest.name, keys.join(" "))
        });
        let expected = [
            "granary-registry-tls: ca.crt tls.crt tls.key",
            "granary-keyserver-tls: ca.crt client.crt client.key tls.crt tls.key",
            "granary-operator-tls: app.crt app.key ca.crt owner.crt owner.key",
            "granary-auditor-tls: ca.crt client.crt client.key",
            "granary-plane-ca: 0.crt 0.key",
        ];
        assert_eq!(held.collect::<Vec<_>>(), expected);
        let mut names: Vec<&str> = manifests.iter().map(|manifest| &*manifest.name).collect();
        let mut known = CERTIFICATE_SECRETS.to_vec();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn every_secret_says_when_it_is_due_and_carries_no_tenants_label() {
        let issued = issued();
        for manifest in certificates("granary-system", &issued) {
            let metadata = &manifest.body["metadata"];
            assert_eq!(metadata["namespace"], "granary-system");
            assert_eq!(metadata["labels"][LABEL_PLANE], CERTIFICATES);
            assert_eq!(
                metadata["labels"].get(crate::api::LABEL_TENANT_UID),
                None,
                "the watches of silos would take it in"
            );
            let annotations = &metadata["annotations"];
            assert_eq!(
                annotations[ANNOTATION_RENEW_AT],
                issued.renew_at.to_string()
            );
            assert!(annotations[ANNOTATION_CONTENT].is_string());
        }
    }

    #[test]
    fn the_authority_is_read_back() {
        let issued = issued();
        let stored = certificates("granary-system", &issued).pop().unwrap();
        let secret: Secret = serde_json::from_value(stored.body).unwrap();
        let read = authorities(&secret.data.unwrap());
        assert_eq!(read[0].fingerprint, issued.signer().fingerprint);
        assert_eq!(read[0].key_pem(), issued.signer().key_pem());
    }

    #[test]
    fn the_key_for_records_is_not_printed_and_its_public_half_is() {
        let manifest = evidence_key("granary-system", "-----BEGIN PRIVATE KEY-----\n");
        assert_eq!(manifest.body["immutable"], json!(true));
        let text = manifest.body["data"][EVIDENCE_KEY_FILE].as_str().unwrap();
        assert!(!format!("{manifest:?}").contains(text));
        let public = evidence_public("granary-system", "-----BEGIN PUBLIC KEY-----\n");
        assert_eq!(public.name, manifest.name);
        assert_eq!(
            public.body["data"][EVIDENCE_PUBLIC_FILE],
            "-----BEGIN PUBLIC KEY-----\n"
        );
    }

    #[test]
    fn a_root_key_cannot_be_changed_and_is_not_printed() {
        let manifest = root_key("granary-system", &[7; ROOT_KEY_BYTES]);
        assert_eq!(manifest.body["immutable"], json!(true));
        let text = manifest.body["data"][ROOT_KEY_FILE].as_str().unwrap();
        assert_eq!(text.len(), 44, "32 bytes in base64");
        assert!(!format!("{manifest:?}").contains(text));
    }
}
