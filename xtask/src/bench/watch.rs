//! When each step of each tenant was seen, by watches in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use futures::TryStreamExt as _;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ResourceExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;

/// Label with the tenant's name on every object of a silo.
const LABEL_TENANT: &str = "granary.dev/tenant";

/// The steps of onboarding, in the order in which they usually end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Namespace,
    Certificates,
    Database,
    Migration,
    App,
    Page,
    Ready,
}

/// When steps were first seen, by tenant.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<BTreeMap<(String, Step), Instant>>>);

impl Seen {
    /// Notes a step, the first time.
    pub fn note(&self, tenant: &str, step: Step, at: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry((tenant.to_owned(), step)).or_insert(at);
    }

    /// When the step was first seen.
    pub fn at(&self, tenant: &str, step: Step) -> Option<Instant> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(tenant.to_owned(), step))
            .copied()
    }

    /// Starts to watch what steps show in.
    pub fn watch(&self, client: &Client) {
        let kinds = [
            ("", "Namespace"),
            ("", "Secret"),
            ("", "Pod"),
            ("granary.dev", "Tenant"),
        ];
        for (group, kind) in kinds {
            let version = if group.is_empty() { "v1" } else { "v1alpha1" };
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let config = match kind {
                "Tenant" => watcher::Config::default(),
                _ => watcher::Config::default().labels(LABEL_TENANT),
            };
            let seen = self.clone();
            tokio::spawn(async move {
                let ended: Result<(), _> = watcher(api, config)
                    .default_backoff()
                    .applied_objects()
                    .try_for_each(|object| {
                        seen.take(kind, &object);
                        async { Ok(()) }
                    })
                    .await;
                if let Err(error) = ended {
                    eprintln!("the watch of {kind} ended: {error}");
                }
            });
        }
    }

    fn take(&self, kind: &str, object: &DynamicObject) {
        let now = Instant::now();
        let label = |name: &str| object.labels().get(name).map(String::as_str);
        let tenant = match kind {
            "Tenant" => object.name_any(),
            _ => label(LABEL_TENANT).unwrap_or_default().to_owned(),
        };
        let step = match kind {
            "Namespace" => Some(Step::Namespace),
            "Secret" if object.name_any() == "ca" => Some(Step::Certificates),
            "Tenant" if condition(&object.data, "Ready") => Some(Step::Ready),
            "Pod" => match label("app.kubernetes.io/name") {
                Some("database") if condition(&object.data, "Ready") => Some(Step::Database),
                Some("app") if condition(&object.data, "Ready") => Some(Step::App),
                Some("migrate")
                    if object.data.pointer("/status/phase") == Some(&"Succeeded".into()) =>
                {
                    Some(Step::Migration)
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(step) = step {
            self.note(&tenant, step, now);
        }
    }
}

fn condition(data: &Value, wanted: &str) -> bool {
    let conditions = data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some(wanted)
            && condition.get("status").and_then(Value::as_str) == Some("True")
    })
}
