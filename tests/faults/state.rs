//! Everything that there is of a tenant, in a form in which two tenants can be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use granary::api::{LABEL_TENANT_UID, Phase, Tenant};
use granary::audit::{Filter, Record};
use granary::control::kind::Kind;
use granary::keys::{KeyState, Kms as _, WrappedKey};
use granary::registry::{data_keys, keys, operations, tenants};
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::Value;
use uuid::Uuid;

use crate::act::Act;
use crate::audit;
use crate::life::Life;

/// What differs between two objects that are the same: addresses, names that were drawn, versions.
const ACCIDENTS: [&str; 7] = [
    "clusterIP",
    "clusterIPs",
    "annotations",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
    "finalizers",
    "volumeName",
];

/// A change of the specification: where the answer to a return is lost, it may be written down as one besides.
const MAY_BE_SAID_AGAIN: &str = "tenant-changed";

/// What there is, by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(BTreeMap<String, String>);

impl State {
    /// What is otherwise in `found`, a line each.
    pub fn differences(&self, found: &Self) -> String {
        let mut text = String::new();
        for (what, is) in &found.0 {
            match self.0.get(what) {
                Some(wanted) if wanted == is => {}
                Some(wanted) => writeln!(text, "  {what}: {is}\n    instead of {wanted}").unwrap(),
                None => writeln!(text, "  {what} should not be: {is}").unwrap(),
            }
        }
        for what in self.0.keys().filter(|what| !found.0.contains_key(*what)) {
            writeln!(text, "  {what} is missing").unwrap();
        }
        text
    }

    /// That this is what an act has to lead to. Everything else is compared with it, so it is held to what it must be.
    pub fn must_be_right_after(&self, act: Act) {
        let is = |what: &str| self.0.get(what).map(String::as_str).unwrap_or_default();
        let with = |start: &str| -> Vec<_> {
            let lines = self.0.iter();
            lines.filter(|(what, _)| what.starts_with(start)).collect()
        };
        let wrong = with("audit, wrong");
        assert!(wrong.is_empty(), "after {act:?}: {wrong:?}");
        let data_keys = with("data key");
        assert!(!data_keys.is_empty(), "{self:?}");
        match act {
            Act::Offboard => {
                assert_eq!(
                    (is("registry, tenant"), is("kms, key")),
                    ("offboarding", "Enabled")
                );
                assert!(with("HTTPRoute").is_empty() && with("Deployment").is_empty());
                assert!(with("StatefulSet").is_empty() && !with("Namespace").is_empty());
            }
            Act::Onboard | Act::Rotate | Act::Reinstate => {
                assert_eq!(
                    (is("registry, tenant"), is("kms, key")),
                    ("live", "Enabled")
                );
                assert!(!with("StatefulSet").is_empty() && !with("Namespace").is_empty());
                let usable = |line: &str| line.ends_with("opens: true");
                assert!(data_keys.iter().all(|(_, is)| usable(is)), "{data_keys:?}");
            }
            Act::Shred | Act::Delete => {
                assert_eq!(
                    (is("registry, tenant"), is("kms, key")),
                    ("tombstone", "pending deletion")
                );
                let left = |what: &str| Kind::ALL.iter().any(|kind| what.starts_with(kind.name()));
                assert!(!self.0.keys().any(|what| left(what)), "{self:?}");
                let refused = |line: &str| line.ends_with("opens: false");
                assert!(data_keys.iter().all(|(_, is)| refused(is)), "{data_keys:?}");
            }
        }
    }

    /// Whether the tenant's resource is as in this state, whatever else there is.
    pub fn tells_of(&self, life: &Life, tenant: Option<&Tenant>) -> bool {
        let mut found = Self::default();
        resource(life, tenant, &mut found);
        let of_resource = self.0.iter().filter(|(what, _)| what.starts_with("tenant"));
        of_resource.eq(found.0.iter())
    }

    fn note(&mut self, what: impl Into<String>, is: impl Into<String>) {
        self.0.insert(what.into(), is.into());
    }
}

/// What there is of this tenant.
pub async fn of(life: &Life, tenant: Option<&Tenant>) -> State {
    let mut state = State::default();
    resource(life, tenant, &mut state);
    objects(life, &mut state).await;
    strays(life, &mut state);
    let running = registry(life, &mut state).await;
    let rows = rows(life).await;
    let happened = life.trace().happened;
    let wrong = [
        audit::unfinished(&rows, &running),
        audit::unannounced(&happened),
        audit::unsaid(&happened, &rows),
    ];
    for (place, wrong) in wrong.concat().into_iter().enumerate() {
        state.note(format!("audit, wrong {place}"), wrong);
    }
    // What the operator does to a tenant as a whole is announced once and ends once.
    let whole = rows
        .iter()
        .filter(|row| row.action.starts_with("tenant-") && row.action != MAY_BE_SAID_AGAIN);
    for row in whole {
        let what = format!("audit, {}", row.action);
        let before = state.0.remove(&what).unwrap_or_default();
        state.note(what, format!("{before} {}", row.phase));
    }
    state
}

/// Whether nobody says that the tenant is gone while it is not.
pub async fn claims(life: &Life, tenant: Option<&Tenant>) -> Result<(), String> {
    let mut connection = life.plane.registry.acquire().await.unwrap();
    let known = tenants::find(&mut connection, life.uid).await.unwrap();
    let is_tombstone = known.is_some_and(|known| known.state == tenants::State::Tombstone);
    drop(connection);
    let is_finished = rows(life)
        .await
        .iter()
        .any(|row| row.action == "tenant-offboarded" && row.outcome.as_deref() == Some("done"));
    let status = tenant.and_then(|tenant| tenant.status.as_ref());
    let is_shredded = status.is_some_and(|status| status.phase == Phase::Shredded);
    if tenant.is_some() && !is_tombstone && !is_finished && !is_shredded {
        return Ok(());
    }
    let mut state = State::default();
    objects(life, &mut state).await;
    let objects = state.0.len();
    let key = kms(life).await;
    if objects == 0 && matches!(key, None | Some(KeyState::PendingDeletion { .. })) {
        return Ok(());
    }
    Err(format!(
        "it is said to be gone, and there are {objects} objects and a key that is {key:?}"
    ))
}

fn resource(life: &Life, tenant: Option<&Tenant>, state: &mut State) {
    let Some(tenant) = tenant else {
        return state.note("tenant", "gone");
    };
    state.note("tenant, finalizers", tenant.finalizers().join(" "));
    let status = tenant.status.clone().unwrap_or_default();
    state.note("tenant, phase", format!("{:?}", status.phase));
    state.note(
        "tenant, speaks of its generation",
        (status.observed_generation == tenant.metadata.generation).to_string(),
    );
    if let Some(offboarding) = status.offboarding {
        state.note("tenant, step", format!("{:?}", offboarding.step));
    }
    if let Some(key) = status.key {
        state.note("tenant, key", key.version.to_string());
        state.note("tenant, rotation", format!("{:?}", key.rotation));
        for data in key.data_keys {
            let what = format!("tenant, data key {:?} {}", data.purpose, data.version);
            state.note(what, format!("{:?}, kept: {:?}", data.state, data.kept));
        }
    }
    for condition in status.conditions {
        let is = format!("{:?} {}", condition.status, condition.reason);
        state.note(
            format!("tenant, {:?}", condition.type_),
            anonymous(life, &is),
        );
    }
}

/// The namespace and everything in it.
async fn objects(life: &Life, state: &mut State) {
    let labelled = ListParams::default().labels(&format!("{LABEL_TENANT_UID}={}", life.uid));
    for kind in Kind::ALL {
        // Pods are made by controllers, when those come to it.
        if kind == Kind::Pod {
            continue;
        }
        let (client, resource) = (life.plane.client.clone(), kind.api());
        let found = if kind == Kind::Namespace {
            let api: Api<DynamicObject> = Api::all_with(client, &resource);
            api.list(&labelled).await.unwrap()
        } else {
            let api: Api<DynamicObject> = Api::namespaced_with(client, &life.namespace, &resource);
            api.list(&ListParams::default()).await.unwrap()
        };
        for object in found {
            let what = format!("{} {}", kind.name(), object.name_any());
            state.note(anonymous(life, &what), anonymous(life, &content(&object)));
        }
    }
}

/// What carries the tenant's label outside of its silo.
fn strays(life: &Life, state: &mut State) {
    for key in life.plane.operators.known(&life.uid.to_string()) {
        let is_silo = key.kind == Kind::Namespace && key.name == life.namespace;
        if !is_silo && key.namespace != life.namespace {
            state.note(anonymous(life, &key.to_string()), "outside of its silo");
        }
    }
}

fn content(object: &DynamicObject) -> String {
    if object.metadata.deletion_timestamp.is_some() {
        return "on its way out".to_owned();
    }
    let mut data = object.data.clone();
    let labels = serde_json::to_value(object.labels()).unwrap();
    let Some(fields) = data.as_object_mut() else {
        return labels.to_string();
    };
    fields.remove("status");
    // Of what is secret or made anew each time, only that it is there.
    if let Some(Value::Object(entries)) = fields.get_mut("data") {
        entries.values_mut().for_each(|value| *value = Value::Null);
    }
    fields.insert("labels".to_owned(), labels);
    without_accidents(&mut data);
    data.to_string()
}

fn without_accidents(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !ACCIDENTS.contains(&name.as_str()));
            fields.values_mut().for_each(without_accidents);
        }
        Value::Array(items) => items.iter_mut().for_each(without_accidents),
        _ => {}
    }
}

/// The text without what tells one tenant from another.
fn anonymous(life: &Life, text: &str) -> String {
    text.replace(&life.namespace, "NAMESPACE")
        .replace(&life.uid.to_string(), "UID")
        .replace(&life.name, "NAME")
}

/// What the registry and the KMS have; returned are the operations that are under way.
async fn registry(life: &Life, state: &mut State) -> Vec<Uuid> {
    let mut connection = life.plane.registry.acquire().await.unwrap();
    let known = tenants::find(&mut connection, life.uid).await.unwrap();
    let is_tombstone = known
        .as_ref()
        .is_some_and(|known| known.state == tenants::State::Tombstone);
    state.note(
        "registry, tenant",
        known.map_or("none", |known| known.state.as_str()),
    );
    let key = keys::find(&mut connection, life.uid).await.unwrap();
    let described = key.as_ref().map(|key| {
        let (state, version, named) = (key.state, key.version, key.id.is_some());
        format!("{state}, version {version}, named: {named}")
    });
    state.note("registry, key", described.unwrap_or_default());
    let mut running = Vec::new();
    for operation in operations::of_tenant(&mut connection, life.uid)
        .await
        .unwrap()
    {
        if operation.state == operations::State::Running {
            running.push(operation.id);
        }
        if operation.kind == operations::Kind::Change {
            continue;
        }
        let what = format!("registry, operation {}", operation.kind);
        let before = state.0.remove(&what).unwrap_or_default();
        state.note(
            what,
            format!("{before} {} {}", operation.step, operation.state),
        );
    }
    if is_tombstone && !running.is_empty() {
        state.note("audit, wrong: operations that run", format!("{running:?}"));
    }
    let found = data_keys::of_tenant(&mut connection, life.uid)
        .await
        .unwrap();
    drop(connection);
    for data in found {
        let id = key.as_ref().and_then(|key| key.id.as_ref()).unwrap();
        let wrapped = WrappedKey::from_bytes(&data.wrapped).unwrap();
        let kms = &life.plane.keyserver.kms;
        let opens = kms.unwrap(id, &wrapped, &data.context).await.is_ok();
        state.note(
            format!("data key {} {}", data.context.purpose, data.context.version),
            format!("{}, opens: {opens}", data.state),
        );
    }
    let is = match kms(life).await {
        Some(KeyState::PendingDeletion { .. }) => "pending deletion".to_owned(),
        Some(other) => format!("{other:?}"),
        None => "none".to_owned(),
    };
    state.note("kms, key", is);
    running
}

/// What the KMS says of the key that the registry names.
async fn kms(life: &Life) -> Option<KeyState> {
    let mut connection = life.plane.registry.acquire().await.unwrap();
    let key = keys::find(&mut connection, life.uid).await.unwrap();
    drop(connection);
    let id = key?.id?;
    Some(life.plane.keyserver.kms.describe(&id).await.unwrap())
}

async fn rows(life: &Life) -> Vec<Record> {
    let filter = Filter {
        tenant_uid: Some(life.uid),
        ..Filter::default()
    };
    let mut connection = life.plane.registry.acquire().await.unwrap();
    granary::audit::page(&mut connection, &filter, 0, 1000)
        .await
        .unwrap()
}
