//! The certificates of a silo as `Secret`s, and the trust bundle as a `ConfigMap`.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use super::labels::{APP, CA, DATABASE, MIGRATE, metadata};
use super::manifest::Manifest;
use crate::api::ValidTenant;
use crate::pki::{Authority, Issued, Leaf, SiloLeafs};

/// When the certificates have to be issued again (RFC 3339).
pub const ANNOTATION_RENEW_AT: &str = "granary.dev/renew-at";
/// SHA-256 fingerprint of the authority that signed them.
pub const ANNOTATION_ISSUER: &str = "granary.dev/issuer";
/// Digest of the data (see [`content`]): whether an object is whole can be told without keeping a key in memory.
pub const ANNOTATION_CONTENT: &str = "granary.dev/content";

/// Name of the key that a trust bundle has everywhere.
pub(super) const BUNDLE: &str = "ca.crt";

/// The objects, in the order in which they must be applied, each after the one before it succeeded.
///
/// The authorities' own Secret is last. A new authority counts its waiting time from its making, so every bundle has to
/// hold it before anything can remember it: interrupted in between, the next pass makes another one, and nothing was
/// ever signed by the lost one. The other way round, a pass that was interrupted for hours would go on to sign with
/// an authority that no pod has heard of.
#[must_use]
pub fn certificates(tenant: &ValidTenant, issued: &Issued) -> Vec<Manifest> {
    let bundle = issued.bundle_pem.as_str();
    let SiloLeafs {
        database,
        app_server,
        app_client,
        migrate_client,
    } = &issued.leafs;
    let database = files(bundle, [("tls", database)]);
    let app = files(bundle, [("tls", app_server), ("client", app_client)]);
    let migrate = files(bundle, [("client", migrate_client)]);
    let secret = |name: &str, component: &str, data| {
        Manifest::of(&secret(metadata(tenant, name, component), issued, data))
    };
    vec![
        secret("database-tls", DATABASE, database),
        secret("app-tls", APP, app),
        secret("migrate-tls", MIGRATE, migrate),
        Manifest::of(&trust_bundle(tenant, issued)),
        secret(CA, CA, stored(&issued.authorities)),
    ]
}

/// The authorities in the data of Secret `ca`, oldest first. A damaged certificate is left out; one whose key is damaged
/// is still trusted but signs no more. What is missing is made anew by [`crate::pki::establish`].
#[must_use]
pub fn authorities(data: &BTreeMap<String, ByteString>) -> Vec<Authority> {
    let text = |key: &str| {
        data.get(key)
            .and_then(|value| std::str::from_utf8(&value.0).ok())
    };
    (0..data.len())
        .filter_map(|index| {
            let certificate = text(&format!("{index}.crt"))?;
            let key = text(&format!("{index}.key"));
            Authority::from_pem(certificate, key)
                .or_else(|_| Authority::from_pem(certificate, None))
                .ok()
        })
        .collect()
}

/// SHA-256 over names and values, each with its length before it so that no two maps read the same.
#[must_use]
pub fn content<'a>(data: impl IntoIterator<Item = (&'a String, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (key, value) in data {
        for part in [key.as_bytes(), value] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    format!("{:x}", hash.finalize())
}

/// The data of a Secret that stores authorities: what [`authorities`] reads.
pub(super) fn stored(authorities: &[Authority]) -> BTreeMap<String, ByteString> {
    let entries = authorities
        .iter()
        .enumerate()
        .flat_map(|(index, authority)| {
            let certificate = (format!("{index}.crt"), bytes(&authority.certificate_pem));
            let key = authority
                .key_pem()
                .map(|key| (format!("{index}.key"), bytes(key)));
            std::iter::once(certificate).chain(key)
        });
    entries.collect()
}

/// The data of a Secret that pods read: the trust bundle, and each leaf as `<name>.crt` and `<name>.key`.
pub(super) fn files<const N: usize>(
    bundle: &str,
    leafs: [(&str, &Leaf); N],
) -> BTreeMap<String, ByteString> {
    let leafs = leafs.into_iter().flat_map(|(name, leaf)| {
        [
            (format!("{name}.crt"), bytes(&leaf.certificate_pem)),
            (format!("{name}.key"), bytes(leaf.key_pem())),
        ]
    });
    leafs.chain([(BUNDLE.to_owned(), bytes(bundle))]).collect()
}

/// A Secret with this data, which says when it is due, who signed it and whether it is whole.
pub(super) fn secret<L>(
    metadata: ObjectMeta,
    issued: &Issued<L>,
    data: BTreeMap<String, ByteString>,
) -> Secret {
    let digest = content(data.iter().map(|(key, value)| (key, value.0.as_slice())));
    Secret {
        metadata: annotated(metadata, issued, digest),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn trust_bundle(tenant: &ValidTenant, issued: &Issued) -> ConfigMap {
    let data: BTreeMap<String, String> = [(BUNDLE.to_owned(), issued.bundle_pem.clone())].into();
    let digest = content(data.iter().map(|(key, value)| (key, value.as_bytes())));
    ConfigMap {
        metadata: annotated(metadata(tenant, CA, CA), issued, digest),
        data: Some(data),
        ..ConfigMap::default()
    }
}

fn annotated<L>(metadata: ObjectMeta, issued: &Issued<L>, digest: String) -> ObjectMeta {
    let annotations = [
        (ANNOTATION_RENEW_AT.to_owned(), issued.renew_at.to_string()),
        (
            ANNOTATION_ISSUER.to_owned(),
            issued.signer().fingerprint.clone(),
        ),
        (ANNOTATION_CONTENT.to_owned(), digest),
    ];
    ObjectMeta {
        annotations: Some(annotations.into()),
        ..metadata
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::api::fixtures::valid;
    use crate::api::{LABEL_TENANT, LABEL_TENANT_UID};
    use crate::pki::{Lifetimes, establish};

    fn issue(authorities: Vec<Authority>) -> Issued {
        let tenant = valid();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        establish(
            &tenant.name,
            tenant.namespace.as_str(),
            &tenant.uid,
            authorities,
            now,
            &Lifetimes::default(),
        )
        .unwrap()
    }

    fn secret_data(manifest: &Manifest) -> BTreeMap<String, ByteString> {
        let secret: Secret = serde_json::from_value(manifest.body.clone()).unwrap();
        secret.data.unwrap()
    }

    #[test]
    fn each_pod_gets_what_it_needs_and_the_authority_is_stored_last() {
        let manifests = certificates(&valid(), &issue(Vec::new()));
        let held = manifests.iter().map(|manifest| {
            let keys: Vec<&str> = manifest.body["data"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            format!(
                "{} {}: {}",
                manifest.api.kind,
                manifest.name,
                keys.join(" ")
            )
        });
        let expected = [
            "Secret database-tls: ca.crt tls.crt tls.key",
            "Secret app-tls: ca.crt client.crt client.key tls.crt tls.key",
            "Secret migrate-tls: ca.crt client.crt client.key",
            "ConfigMap ca: ca.crt",
            "Secret ca: 0.crt 0.key",
        ];
        assert_eq!(held.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_object_says_whose_it_is_when_it_is_due_and_whether_it_is_whole() {
        let (tenant, issued) = (valid(), issue(Vec::new()));
        for manifest in certificates(&tenant, &issued) {
            let metadata = &manifest.body["metadata"];
            assert_eq!(metadata["namespace"], tenant.namespace.as_str());
            assert_eq!(metadata["labels"][LABEL_TENANT_UID], tenant.uid.as_str());
            assert_eq!(metadata["labels"][LABEL_TENANT], tenant.name.as_str());
            let annotations = &metadata["annotations"];
            let due: Timestamp = annotations[ANNOTATION_RENEW_AT]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(due, issued.renew_at);
            assert_eq!(
                annotations[ANNOTATION_ISSUER],
                issued.signer().fingerprint.as_str()
            );
            if manifest.api.kind == "Secret" {
                let mut data = secret_data(&manifest);
                let digest = |data: &BTreeMap<String, ByteString>| {
                    content(data.iter().map(|(key, value)| (key, value.0.as_slice())))
                };
                assert_eq!(annotations[ANNOTATION_CONTENT], digest(&data));
                data.pop_first();
                assert_ne!(annotations[ANNOTATION_CONTENT], digest(&data));
            }
        }
    }

    #[test]
    fn a_digest_tells_where_a_name_ends_and_a_value_begins() {
        let digest = |key: &str, value: &str| content([(&key.to_owned(), value.as_bytes())]);
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }

    #[test]
    fn stored_authorities_are_read_back_without_what_is_damaged() {
        let issued = issue(Vec::new());
        let stored = certificates(&valid(), &issued);
        let mut data = secret_data(stored.last().unwrap());
        let read = authorities(&data);
        assert_eq!(read[0].fingerprint, issued.signer().fingerprint);
        assert_eq!(read[0].key_pem(), issued.signer().key_pem());
        data.insert("0.key".to_owned(), bytes("damaged"));
        assert_eq!(authorities(&data)[0].key_pem(), None);
        data.insert("0.crt".to_owned(), bytes("damaged"));
        assert!(authorities(&data).is_empty());
    }

    #[test]
    fn no_secret_is_ever_printed() {
        let manifests = certificates(&valid(), &issue(Vec::new()));
        let printed = format!("{manifests:?}");
        assert!(printed.contains("database-tls"));
        for value in manifests
            .iter()
            .filter_map(|manifest| manifest.body["data"].as_object())
            .flat_map(|data| data.values())
        {
            let Value::String(text) = value else {
                panic!("not a text")
            };
            assert!(!printed.contains(text.as_str()));
        }
    }
}
