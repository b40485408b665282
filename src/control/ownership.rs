//! Drift: does a live object still hold exactly what this operator applied?
//!
//! Server-side apply records, in `metadata.managedFields`, which fields the operator owns. Whoever changes an
//! owned field takes it over, and a removed field leaves the set. So the part of a live object that the operator
//! still owns, compared with what it wants, tells drift without a memory of earlier applies: it works across
//! restarts, and a watch needs to keep only a digest. Defaults and fields of other controllers do not count.
//!
//! Source: Kubernetes documentation, "Server-Side Apply" (field management, `fieldsV1` format).

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::api::{FIELD_MANAGER, LABEL_TENANT_UID};

/// Controllers that rightly write to objects of a silo beside their status.
const CONTROLLERS: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "kubelet"];

/// SHA-256 over the canonical form of an object's owned content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest of an object as it is to be applied.
#[must_use]
pub fn of_desired(body: &Value) -> Digest {
    let mut content = body.clone();
    strip_identity(&mut content);
    digest(&content)
}

/// The digest of what the operator still owns of a live object.
#[must_use]
pub fn of_live(object: &Value, managed: &[ManagedFieldsEntry]) -> Digest {
    let owned = managed
        .iter()
        .find(|entry| is_ours(entry, "Apply"))
        .or_else(|| managed.iter().find(|entry| is_ours(entry, "Update")))
        .and_then(|entry| entry.fields_v1.as_ref())
        .map_or(Value::Null, |fields| extract(object, &fields.0));
    let mut owned = if owned.is_null() {
        Value::Object(Map::new())
    } else {
        owned
    };
    strip_identity(&mut owned);
    digest(&owned)
}

/// Whether somebody other than the operator and the cluster's own controllers owns content of the object.
///
/// Status, labels and annotations do not count, a pod template's included: they change nothing that a silo
/// promises, and `kubectl annotate` and `kubectl rollout restart` stay possible.
#[must_use]
pub fn has_foreign_content(managed: &[ManagedFieldsEntry]) -> bool {
    managed.iter().any(|entry| {
        let name = entry.manager.as_deref().unwrap_or_default();
        entry.subresource.is_none()
            && name != FIELD_MANAGER
            && !CONTROLLERS.contains(&name)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|fields| owns_content(&fields.0))
    })
}

fn owns_content(fields: &Value) -> bool {
    let Some(root) = fields.as_object() else {
        return false;
    };
    root.iter()
        .any(|(key, below)| match (key.as_str(), below.as_object()) {
            ("." | "f:metadata" | "f:status", _) => false,
            ("f:spec" | "f:template", Some(children)) if !children.is_empty() => {
                owns_content(below)
            }
            _ => true,
        })
}

/// A namespace is created, which counts as an update, before it is ever applied.
fn is_ours(entry: &ManagedFieldsEntry, operation: &str) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some(operation)
        && entry.subresource.is_none()
}

/// Removes what names an object: it is the same on both sides or the object would not have been found.
fn strip_identity(object: &mut Value) {
    let Some(root) = object.as_object_mut() else {
        return;
    };
    root.remove("apiVersion");
    root.remove("kind");
    if let Some(metadata) = root.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("name");
        metadata.remove("namespace");
    }
}

/// The part of `live` that a `fieldsV1` set names; null where nothing of it is left.
///
/// A node without children owns its whole value. Keys are `f:<field>`, `k:<JSON of the list item's keys>`,
/// `v:<JSON of the set's item>` and `.` for the node itself.
fn extract(live: &Value, fields: &Value) -> Value {
    let Some(children) = fields
        .as_object()
        .filter(|map| map.keys().any(|key| key != "."))
    else {
        return live.clone();
    };
    match live {
        Value::Object(map) => Value::Object(
            children
                .iter()
                .filter_map(|(key, below)| {
                    let name = key.strip_prefix("f:")?;
                    Some((name.to_owned(), extract(map.get(name)?, below)))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            children
                .iter()
                .filter_map(|(key, below)| Some(extract(find_item(items, key)?, below)))
                .collect(),
        ),
        scalar => scalar.clone(),
    }
}

fn find_item<'a>(items: &'a [Value], key: &str) -> Option<&'a Value> {
    if let Some(keys) = key.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
        return items.iter().find(|item| {
            keys.iter()
                .all(|(name, value)| item.get(name) == Some(value))
        });
    }
    let value: Value = serde_json::from_str(key.strip_prefix("v:")?).ok()?;
    items.iter().find(|item| **item == value)
}

fn digest(value: &Value) -> Digest {
    let hash = Sha256::digest(canonical(value).to_string().as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    Digest(short)
}

/// Sorted lists: a keyed list comes back from `fieldsV1` in key order. Reordering an ordered (atomic) list still
/// shows, because it moves the list's ownership.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), canonical(value)))
                .collect(),
        ),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(canonical).collect();
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        scalar => scalar.clone(),
    }
}

/// Whether an object is this tenant's: it says so, or it says nothing and this operator made it.
///
/// Who wrote an object is on record in its managed fields also when somebody took its labels away. Anybody who could
/// forge the record could forge the label as well.
#[must_use]
pub fn belongs_to(object: &DynamicObject, tenant_uid: &str) -> bool {
    match object.labels().get(LABEL_TENANT_UID) {
        Some(label) => label == tenant_uid,
        None => object
            .managed_fields()
            .iter()
            .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn desired() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "app", "namespace": "silo", "labels": {"a": "b"}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [
                {"name": "app", "image": "x", "args": ["one", "two"], "env": [{"name": "Z", "value": "1"}, {"name": "A", "value": "2"}]}
            ]}}}
        })
    }

    fn fields() -> Value {
        json!({
            "f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"app\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:env": {
                    "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}},
                    "k:{\"name\":\"Z\"}": {".": {}, "f:name": {}, "f:value": {}}
                }}
            }}}}
        })
    }

    fn live() -> Value {
        let mut live = desired();
        live["spec"]["progressDeadlineSeconds"] = json!(600);
        live["metadata"]["uid"] = json!("1");
        live["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] =
            json!("/dev/termination-log");
        live
    }

    #[test]
    fn a_namespace_without_its_label_is_known_by_who_made_it() {
        let namespace = |labels: Value, manager: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "silo", "labels": labels, "managedFields": [{"manager": manager}]},
            }))
            .unwrap()
        };
        let mine = json!({LABEL_TENANT_UID: "mine"});
        assert!(belongs_to(&namespace(mine.clone(), "kubectl"), "mine"));
        assert!(!belongs_to(&namespace(mine, FIELD_MANAGER), "another"));
        assert!(belongs_to(&namespace(json!({}), FIELD_MANAGER), "mine"));
        assert!(!belongs_to(&namespace(json!({}), "kubectl"), "mine"));
    }

    #[test]
    fn defaults_are_not_drift() {
        assert_eq!(
            of_live(&live(), &[entry("granary", "Apply", fields())]),
            of_desired(&desired())
        );
    }

    #[test]
    fn a_field_that_somebody_took_over_is_drift() {
        let mut taken = fields();
        taken["f:spec"]
            .as_object_mut()
            .unwrap()
            .remove("f:replicas");
        assert_ne!(
            of_live(&live(), &[entry("granary", "Apply", taken)]),
            of_desired(&desired())
        );
    }

    #[test]
    fn a_changed_value_is_drift_even_with_the_same_owner() {
        let mut changed = live();
        changed["spec"]["replicas"] = json!(5);
        assert_ne!(
            of_live(&changed, &[entry("granary", "Apply", fields())]),
            of_desired(&desired())
        );
    }

    #[test]
    fn an_object_we_never_applied_is_drift() {
        assert_ne!(of_live(&live(), &[]), of_desired(&desired()));
    }

    #[test]
    fn foreign_content_is_what_people_add_not_what_controllers_note() {
        let controller = entry(
            "kube-controller-manager",
            "Update",
            json!({"f:spec": {"f:volumeName": {}}}),
        );
        let mut status = entry("gateway", "Update", json!({"f:spec": {}}));
        status.subresource = Some("status".to_owned());
        let restart = json!({"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}});
        let restarted = entry("kubectl-rollout", "Update", restart);
        let ours = entry("granary", "Apply", fields());
        assert!(!has_foreign_content(&[controller, status, restarted, ours]));
        let sidecar = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {}}}}}});
        assert!(has_foreign_content(&[entry(
            "kubectl-edit",
            "Update",
            sidecar
        )]));
        assert!(has_foreign_content(&[entry(
            "kubectl-edit",
            "Update",
            json!({"f:data": {"f:x": {}}})
        )]));
    }
}
