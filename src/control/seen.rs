//! What the operator keeps of a watched object: a digest and the few facts that decide anything.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::{ResourceExt, core::DynamicObject};
use serde_json::Value;

use super::{kind::Kind, ownership};
use crate::api::quantity::Bytes;
use crate::resources::{
    certificates::{ANNOTATION_CONTENT, ANNOTATION_RENEW_AT, content},
    keys,
    labels::{LABEL_NAME, LABEL_RELEASE},
};

/// A watched object, reduced.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object's UID.
    pub uid: String,
    /// The object's resource version; later writes have higher ones.
    pub resource_version: u64,
    /// Digest of what the operator still owns of it.
    pub digest: ownership::Digest,
    /// Whether somebody else added content.
    pub foreign: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// What matters about an object of this kind.
    pub facts: Facts,
}

/// What matters about an object, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Facts {
    /// Only that it is there.
    Exists,
    /// The database's volume.
    Claim {
        /// Whether a volume is bound to it.
        bound: bool,
        /// How much it asks for.
        storage: Option<Bytes>,
    },
    /// The app's Deployment.
    Deployment {
        /// The image it is told to run.
        image: String,
        /// Whether every pod runs that image and is ready.
        complete: bool,
    },
    /// A schema migration.
    Migration {
        /// The release it is for.
        release: String,
        /// How it went.
        outcome: Outcome,
    },
    /// The route, as the gateway sees it.
    Route(RouteFacts),
    /// A pod of the silo.
    Pod(PodFacts),
    /// A `Secret` or `ConfigMap` with certificates.
    Certificates {
        /// When they are to be renewed; none where the object does not say.
        renew_at: Option<Timestamp>,
        /// Whether the content is what was written.
        whole: bool,
    },
}

/// How something that ends went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not ended.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, and why.
    Failed(String),
}

/// The route, as the gateway sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFacts {
    /// Whether a gateway said anything yet.
    pub reported: bool,
    /// What it does not accept or cannot resolve, as reason and message.
    pub refused: Option<(String, String)>,
}

/// A pod of the silo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `database`, `app` or `migrate`.
    pub component: String,
    /// The release it runs, if it runs one.
    pub release: Option<String>,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// Whether it passes its readiness probe.
    pub ready: bool,
    /// Whether it ran to its end with success.
    pub succeeded: bool,
    /// Whether nothing of it runs any more, nor will.
    pub ended: bool,
    /// Since when it has been there without its keys, if it still is.
    pub without_keys_since: Option<Timestamp>,
    /// What keeps it from running, as reason and message.
    pub trouble: Option<(String, String)>,
}

impl Seen {
    /// Reduces an object.
    #[must_use]
    pub fn of(kind: Kind, object: &DynamicObject) -> Self {
        let managed = object
            .metadata
            .managed_fields
            .as_deref()
            .unwrap_or_default();
        let whole = serde_json::to_value(object).unwrap_or_default();
        Self {
            uid: object.uid().unwrap_or_default(),
            resource_version: object
                .resource_version()
                .and_then(|version| version.parse().ok())
                .unwrap_or_default(),
            digest: ownership::of_live(&whole, managed),
            foreign: ownership::has_foreign_content(managed),
            terminating: object.metadata.deletion_timestamp.is_some(),
            facts: facts(kind, object),
        }
    }

    /// Whether a reconcile could decide differently because of the change from `other`.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        self.uid != other.uid
            || self.digest != other.digest
            || self.foreign != other.foreign
            || self.terminating != other.terminating
            || self.facts != other.facts
    }
}

fn facts(kind: Kind, object: &DynamicObject) -> Facts {
    let data = &object.data;
    match kind {
        Kind::PersistentVolumeClaim => Facts::Claim {
            bound: text(data, "/status/phase") == Some("Bound"),
            storage: text(data, "/spec/resources/requests/storage").and_then(Bytes::parse),
        },
        Kind::Deployment => Facts::Deployment {
            image: text(data, "/spec/template/spec/containers/0/image")
                .unwrap_or_default()
                .to_owned(),
            complete: is_complete(object),
        },
        Kind::Job => Facts::Migration {
            release: object
                .labels()
                .get(LABEL_RELEASE)
                .cloned()
                .unwrap_or_default(),
            outcome: job_outcome(data),
        },
        Kind::HttpRoute => Facts::Route(route_facts(data)),
        Kind::Pod => Facts::Pod(pod_facts(object)),
        Kind::Secret | Kind::ConfigMap => certificate_facts(kind, object),
        _ => Facts::Exists,
    }
}

/// `Deployment` complete: every wanted pod is updated and available, and the controller saw this generation.
fn is_complete(object: &DynamicObject) -> bool {
    let wanted = number(&object.data, "/spec/replicas").unwrap_or(1);
    number(&object.data, "/status/observedGeneration") == object.metadata.generation
        && number(&object.data, "/status/updatedReplicas").unwrap_or(0) >= wanted
        && number(&object.data, "/status/readyReplicas").unwrap_or(0) >= wanted
        && number(&object.data, "/status/replicas").unwrap_or(0) == wanted
}

fn job_outcome(data: &Value) -> Outcome {
    let Some(conditions) = data.pointer("/status/conditions").and_then(Value::as_array) else {
        return Outcome::Running;
    };
    let holds = |wanted: &str| {
        conditions.iter().find(|condition| {
            text(condition, "/type") == Some(wanted) && text(condition, "/status") == Some("True")
        })
    };
    if holds("Complete").is_some() {
        return Outcome::Succeeded;
    }
    holds("Failed").map_or(Outcome::Running, |condition| {
        Outcome::Failed(
            text(condition, "/message")
                .unwrap_or("the job failed")
                .to_owned(),
        )
    })
}

fn route_facts(data: &Value) -> RouteFacts {
    let parents = data
        .pointer("/status/parents")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let refused = parents
        .iter()
        .filter_map(|parent| parent.pointer("/conditions")?.as_array())
        .flatten()
        .find(|condition| {
            matches!(text(condition, "/type"), Some("Accepted" | "ResolvedRefs"))
                && text(condition, "/status") == Some("False")
        })
        .map(reason_and_message);
    RouteFacts {
        reported: !parents.is_empty(),
        refused,
    }
}

fn pod_facts(object: &DynamicObject) -> PodFacts {
    let data = &object.data;
    let label = |name: &str| object.labels().get(name).cloned();
    PodFacts {
        component: label(LABEL_NAME).unwrap_or_default(),
        release: label(LABEL_RELEASE),
        ip: text(data, "/status/podIP").map(str::to_owned),
        ready: conditions(data).any(|condition| {
            text(condition, "/type") == Some("Ready") && text(condition, "/status") == Some("True")
        }),
        succeeded: text(data, "/status/phase") == Some("Succeeded"),
        ended: matches!(text(data, "/status/phase"), Some("Succeeded" | "Failed")),
        without_keys_since: without_keys_since(data),
        trouble: pod_trouble(data),
    }
}

/// When a pod began that fetches keys and has none yet: what fetches them counts as started once they are there.
fn without_keys_since(data: &Value) -> Option<Timestamp> {
    let statuses = data.pointer("/status/initContainerStatuses")?.as_array()?;
    let fetching = statuses
        .iter()
        .find(|status| text(status, "/name") == Some(keys::SIDECAR))?;
    let is_waiting = fetching.pointer("/started") != Some(&Value::Bool(true));
    let since = text(data, "/status/startTime")?.parse().ok()?;
    is_waiting.then_some(since)
}

fn conditions(data: &Value) -> impl Iterator<Item = &Value> {
    data.pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Why a pod does not run: an image that cannot be pulled, a container that keeps failing, no room on any node.
fn pod_trouble(data: &Value) -> Option<(String, String)> {
    let containers = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let statuses = containers
        .iter()
        .filter_map(|path| data.pointer(path)?.as_array())
        .flatten();
    for status in statuses {
        let last_words = text(status, "/lastState/terminated/message")
            .or_else(|| text(status, "/state/terminated/message"))
            .map(str::trim);
        if let Some(waiting) = status.pointer("/state/waiting") {
            let (reason, message) = reason_and_message(waiting);
            if !matches!(
                reason.as_str(),
                "ContainerCreating" | "PodInitializing" | ""
            ) {
                return Some((reason, last_words.map_or(message, str::to_owned)));
            }
        }
        if let Some(code) = number(status, "/state/terminated/exitCode").filter(|code| *code != 0) {
            let message = last_words.map_or_else(
                || format!("the container ended with code {code}"),
                str::to_owned,
            );
            return Some(("ContainerFailed".to_owned(), message));
        }
    }
    conditions(data)
        .find(|condition| text(condition, "/reason") == Some("Unschedulable"))
        .map(reason_and_message)
}

fn certificate_facts(kind: Kind, object: &DynamicObject) -> Facts {
    let annotations = object.annotations();
    let renew_at = annotations
        .get(ANNOTATION_RENEW_AT)
        .and_then(|at| at.parse().ok());
    let whole = annotations.get(ANNOTATION_CONTENT) == content_of(kind, object).as_ref();
    Facts::Certificates { renew_at, whole }
}

/// Digest over the data, so that a changed certificate shows without keeping it.
fn content_of(kind: Kind, object: &DynamicObject) -> Option<String> {
    let data = object.data.get("data")?.clone();
    if kind == Kind::Secret {
        let data: BTreeMap<String, ByteString> = serde_json::from_value(data).ok()?;
        return Some(content(
            data.iter().map(|(key, value)| (key, value.0.as_slice())),
        ));
    }
    let data: BTreeMap<String, String> = serde_json::from_value(data).ok()?;
    Some(content(
        data.iter().map(|(key, value)| (key, value.as_bytes())),
    ))
}

fn reason_and_message(object: &Value) -> (String, String) {
    let part = |path: &str| text(object, path).unwrap_or_default().to_owned();
    (part("/reason"), part("/message"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer)?.as_i64()
}
