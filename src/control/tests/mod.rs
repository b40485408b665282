//! The pure steps on fixtures: observed silos in, plans and conditions out.

#![expect(
    clippy::needless_pass_by_value,
    reason = "literals read better without a borrow"
)]

mod assess;
mod plan;

use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    kind::Kind,
    observations::{Observations, SiloObjects},
    observe::{Gateway, Observed, Volumes},
    offboarding::Progress,
    probe::Page,
    storage_classes::{Binding, Storage},
};
use crate::{
    api::{
        Plan, SiloSettings, Tenant, ValidTenant,
        keys::{DataKeyPurpose, DataKeyState, DataKeyStatus},
        tenant::KeyStatus,
    },
    pki::{self, Lifetimes},
    resources::{self, Manifest, certificates},
};

const UID: &str = "0f3e1c58-aa00-4bbb-8ccc-000000000001";
const IMAGE: &str = "localhost/tenant-template@sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn settings() -> SiloSettings {
    SiloSettings {
        base_domain: "granary.localhost".to_owned(),
        external_port: 8443,
        gateway_name: "granary".to_owned(),
        gateway_namespace: "granary-system".to_owned(),
        gateway_dataplane_namespace: "traefik".to_owned(),
        plane_namespace: "granary-system".to_owned(),
        postgres_image: IMAGE.replace("tenant-template", "granary-postgres"),
        granary_image: IMAGE.replace("tenant-template", "granary"),
        keyserver_ca: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        dns_namespace: "kube-system".to_owned(),
    }
}

fn tenant(spec: Value) -> Tenant {
    serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant",
        "metadata": {"name": "acme", "uid": UID, "generation": 1, "finalizers": ["granary.dev/silo"]},
        "spec": spec,
    }))
    .unwrap()
}

fn plan_small() -> Plan {
    serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "small"},
        "spec": {
            "app": {"image": IMAGE, "replicas": 1, "cpu": "500m", "memory": "128Mi"},
            "database": {"cpu": "1000m", "memory": "256Mi", "storage": "1Gi", "connections": 50},
        },
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn key() -> KeyStatus {
    KeyStatus {
        id: format!("local:{UID}"),
        version: 1,
        rotated_at: Time(now()),
        data_keys: vec![DataKeyStatus {
            purpose: DataKeyPurpose::App,
            version: 1,
            state: DataKeyState::Active,
            since: Time(now()),
            kept: None,
        }],
        rotation: None,
    }
}

/// A tenant that has just been seen: nothing of its silo exists.
struct Scene {
    observed: Observed,
    valid: ValidTenant,
    world: Observations,
}

impl Scene {
    fn of(tenant: Tenant) -> Self {
        let valid = ValidTenant::new(&tenant, &plan_small(), &settings()).unwrap();
        let observed = Observed {
            tenant: Arc::new(tenant),
            plan: Some(Arc::new(plan_small())),
            objects: SiloObjects::new(),
            unavailable: std::collections::BTreeSet::new(),
            gateway: Gateway::Programmed,
            page: Page::NotTried,
            database: None,
            storage: Storage::default(),
            key: None,
            key_trouble: None,
            announced: Some(1),
            rotation: None,
            progress: Progress::NotAsked,
            volumes: Volumes::Unknown,
            now: now(),
        };
        Self {
            observed,
            valid,
            world: Observations::default(),
        }
    }

    fn new() -> Self {
        Self::of(tenant(json!({"plan": "small"})))
    }

    /// Everything of the silo as it is right after it was applied, running `image`.
    fn built_with(mut self, image: &str) -> Self {
        let lifetimes = Lifetimes {
            leaf: std::time::Duration::from_hours(7 * 24),
            ca: std::time::Duration::from_hours(365 * 24),
        };
        let issued = pki::establish(
            "acme",
            self.valid.namespace.as_str(),
            UID,
            Vec::new(),
            now(),
            &lifetimes,
        )
        .unwrap();
        for manifest in certificates::certificates(&self.valid, &issued) {
            self.live(&manifest);
        }
        for (_, manifest) in resources::silo(&self.valid, &settings(), image) {
            self.live(&manifest);
        }
        self.observed.key = Some(key());
        self.look()
    }

    fn built(self) -> Self {
        self.built_with(IMAGE)
    }

    fn live(&mut self, manifest: &Manifest) {
        self.change(manifest, |_| {});
    }

    /// Puts an object into the world as the API server would show it after our apply and then `change`.
    fn change(&mut self, manifest: &Manifest, change: impl FnOnce(&mut Value)) {
        let mut body = manifest.body.clone();
        let mut owned = body.clone();
        for key in ["apiVersion", "kind"] {
            owned.as_object_mut().unwrap().remove(key);
        }
        owned["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "name" && key != "namespace");
        body["metadata"]["uid"] = json!(format!("uid-of-{}", manifest.name));
        body["metadata"]["resourceVersion"] = json!("7");
        body["metadata"]["managedFields"] =
            json!([{"manager": "granary", "operation": "Apply", "fieldsV1": fields(&owned)}]);
        change(&mut body);
        self.object(Kind::of(&manifest.api).unwrap(), body);
    }

    fn object(&mut self, kind: Kind, body: Value) {
        let object: DynamicObject = serde_json::from_value(body).unwrap();
        self.world.apply(kind, &object);
    }

    fn pod(mut self, component: &str, ready: bool, state: Value) -> Self {
        let ready = if ready { "True" } else { "False" };
        self.object(
            Kind::Pod,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("{component}-0"), "namespace": self.valid.namespace.as_str(), "uid": component, "resourceVersion": "9",
                    "labels": {"granary.dev/tenant-uid": UID, "app.kubernetes.io/name": component, "granary.dev/release": self.valid.release.as_str()},
                },
                "status": {"conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [{"state": state}]},
            }),
        );
        self.look()
    }

    fn manifest(&self, kind: Kind, name: &str) -> Manifest {
        resources::silo(&self.valid, &settings(), IMAGE)
            .into_iter()
            .map(|(_, manifest)| manifest)
            .find(|manifest| Kind::of(&manifest.api) == Some(kind) && manifest.name == name)
            .unwrap()
    }

    fn look(mut self) -> Self {
        self.observed.objects = self.world.silo(UID);
        self
    }

    fn at(mut self, days: i64) -> Self {
        self.observed.now = now() + (days * 24).hours();
        self
    }
}

/// `fieldsV1` of an object that owns all it names; lists count as atomic.
fn fields(value: &Value) -> Value {
    match value {
        Value::Object(map) if !map.is_empty() => Value::Object(
            map.iter()
                .map(|(key, value)| (format!("f:{key}"), fields(value)))
                .collect(),
        ),
        _ => json!({}),
    }
}
