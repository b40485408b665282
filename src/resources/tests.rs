//! Properties of a whole silo.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::fixtures::{image, settings, small, standard, tenant, valid};
use crate::api::quantity::{Bytes, Cpu};
use crate::api::tenant::{Owner, TenantApp};
use crate::api::{LABEL_TENANT, LABEL_TENANT_UID, Plan, Release, Tenant};

pub(super) fn build(tenant: &Tenant, plan: &Plan) -> (ValidTenant, Vec<(Stage, Manifest)>) {
    let mut tenant = tenant.clone();
    tenant.spec.plan = plan.metadata.name.clone().unwrap();
    let valid = ValidTenant::new(&tenant, plan, &settings()).unwrap();
    let objects = silo(&valid, &settings(), &valid.app.image);
    (valid, objects)
}

pub(super) fn acme() -> Vec<(Stage, Manifest)> {
    build(&tenant(), &small()).1
}

fn yaml(objects: &[(Stage, Manifest)]) -> String {
    let documents = objects.iter().map(|(stage, manifest)| {
        let body = serde_saphyr::to_string(&manifest.body).unwrap();
        format!("--- # {stage:?}\n{}", body.trim_end())
    });
    documents.collect::<Vec<_>>().join("\n")
}

pub(super) fn find<'a>(objects: &'a [(Stage, Manifest)], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|(_, manifest)| manifest.api.kind == kind && manifest.name == name);
    &found.unwrap_or_else(|| panic!("no {kind} {name}")).1.body
}

pub(super) fn pod_templates(objects: &[(Stage, Manifest)]) -> Vec<&Value> {
    objects
        .iter()
        .filter_map(|(_, manifest)| manifest.body.pointer("/spec/template"))
        .collect()
}

/// Every value below, with its path.
fn walk<'a>(value: &'a Value, path: &str, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(path, value);
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, below)| walk(below, &format!("{path}/{key}"), visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, visit)),
        _ => {}
    }
}

#[test]
fn a_small_silo() {
    insta::assert_snapshot!(yaml(&acme()));
}

#[test]
fn a_standard_silo() {
    insta::assert_snapshot!(yaml(&build(&tenant(), &standard()).1));
}

#[rstest]
#[case(TenantState::Suspended)]
#[case(TenantState::Offboarded)]
fn without_being_active_a_silo_is_the_same_without_what_runs(#[case] state: TenantState) {
    let mut still = tenant();
    still.spec.state = state;
    let mut active = acme();
    let runs = |stage: Stage| matches!(stage, Stage::Workload | Stage::Migration);
    assert!(active.iter().any(|(stage, _)| runs(*stage)));
    active.retain(|(stage, _)| !runs(*stage));
    assert_eq!(build(&still, &small()).1, active);
}

#[test]
fn stages_come_in_order_and_the_namespace_comes_alone() {
    let stages: Vec<Stage> = acme().iter().map(|(stage, _)| *stage).collect();
    assert!(stages.is_sorted());
    assert_eq!(
        stages
            .iter()
            .filter(|stage| **stage == Stage::Namespace)
            .count(),
        1
    );
}

#[test]
fn every_object_says_whose_it_is_and_where() {
    let (valid, objects) = build(&tenant(), &standard());
    let templates = pod_templates(&objects);
    assert_eq!(templates.len(), 3);
    for body in objects
        .iter()
        .map(|(_, manifest)| &manifest.body)
        .chain(templates)
    {
        let labels = &body["metadata"]["labels"];
        assert_eq!(labels[LABEL_TENANT_UID], valid.uid.as_str(), "{body}");
        assert_eq!(labels[LABEL_TENANT], "acme", "{body}");
    }
    for (_, manifest) in &objects {
        let namespace = manifest.namespace.as_deref().unwrap_or(&manifest.name);
        assert_eq!(namespace, valid.namespace.as_str(), "{manifest:?}");
        assert_eq!(manifest.body["metadata"]["name"], manifest.name.as_str());
        assert_eq!(manifest.body["kind"], manifest.api.kind.as_str());
        assert_eq!(
            manifest.body["apiVersion"],
            manifest.api.api_version.as_str()
        );
    }
}

#[rstest]
#[case(&format!("{}-one", "a".repeat(50)), &format!("{}-two", "a".repeat(50)))]
#[case("a-b", "a")]
#[case("acme", "acme")]
fn tenants_never_share_an_object(#[case] one: &str, #[case] two: &str) {
    let names = |name: &str, uid: &str| -> BTreeSet<(String, Option<String>, String)> {
        let mut tenant = tenant();
        tenant.metadata.name = Some(name.to_owned());
        tenant.metadata.uid = Some(uid.to_owned());
        let objects = build(&tenant, &small()).1;
        let names = objects.iter().map(|(_, object)| {
            (
                object.api.kind.clone(),
                object.namespace.clone(),
                object.name.clone(),
            )
        });
        let set: BTreeSet<_> = names.collect();
        assert_eq!(set.len(), objects.len(), "an object twice");
        set
    };
    let one = names(one, "4f1c09ab-7d20-4c58-8ccc-000000000001");
    let two = names(two, "90b2a5c3-11d4-4e6f-8ccc-000000000001");
    assert!(one.is_disjoint(&two));
}

#[test]
fn values_are_as_the_api_server_stores_them() {
    let objects = build(&tenant(), &standard()).1;
    let mut quantities = 0;
    for (_, manifest) in &objects {
        walk(&manifest.body, &manifest.api.kind, &mut |path, value| {
            let empty = value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_str().is_some_and(str::is_empty);
            let may_be_empty = path.ends_with("/podSelector") || path.ends_with("/group");
            assert!(
                !value.is_null() && (!empty || may_be_empty),
                "{path} is {value}"
            );
            let is_quantity = [
                "/cpu",
                "/memory",
                "/storage",
                "/sizeLimit",
                "/limits.cpu",
                "/limits.memory",
                "/requests.storage",
            ]
            .iter()
            .any(|end| path.ends_with(end));
            if let Some(text) = value.as_str().filter(|_| is_quantity) {
                let stored = if path.ends_with("cpu") {
                    Cpu::parse(text).unwrap().to_string()
                } else {
                    Bytes::parse(text).unwrap().to_string()
                };
                assert_eq!(text, stored, "{path}");
                quantities += 1;
            }
        });
    }
    assert!(quantities > 20, "the check saw {quantities} quantities");
}

#[test]
fn what_kubernetes_never_lets_change_never_does() {
    let before = acme();
    let mut changed = tenant();
    changed.spec.display_name = Some("Acme & Sons".to_owned());
    changed.spec.owner = Some(Owner {
        email: "new@acme.example".to_owned(),
    });
    changed.spec.app = Some(TenantApp {
        image: Some(small().spec.app.image),
        replicas: Some(7),
    });
    let after = build(&changed, &standard()).1;
    let release = Release::of_image(&image("cashbook", 'a'));
    let job = migration::name(&release);
    assert_eq!(find(&before, "Job", &job), find(&after, "Job", &job));
    for path in [
        "/spec/selector",
        "/spec/serviceName",
        "/spec/podManagementPolicy",
        "/spec/volumeClaimTemplates",
    ] {
        assert_eq!(
            find(&before, "StatefulSet", "database").pointer(path),
            find(&after, "StatefulSet", "database").pointer(path),
            "{path}"
        );
    }
    let selector = |objects| find(objects, "Deployment", "app")["spec"]["selector"].clone();
    assert_eq!(selector(&before), selector(&after));
    // What may change did, so that the comparison means something.
    assert_ne!(
        find(&before, "StatefulSet", "database"),
        find(&after, "StatefulSet", "database")
    );
}

#[test]
fn the_app_runs_the_serving_release_while_the_migration_is_to_the_wanted_one() {
    let (mut tenant, old) = (valid(), image("cashbook", '0'));
    tenant.app.replicas = 2;
    let objects = silo(&tenant, &settings(), &old);
    let app = find(&objects, "Deployment", "app");
    assert_eq!(
        app.pointer("/spec/template/spec/containers/0/image")
            .unwrap(),
        old.as_str()
    );
    for metadata in [&app["metadata"], &app["spec"]["template"]["metadata"]] {
        assert_eq!(
            metadata["labels"]["granary.dev/release"],
            Release::of_image(&old).as_str()
        );
    }
    let job = find(&objects, "Job", &migration::name(&tenant.release));
    assert_eq!(
        job.pointer("/spec/template/spec/containers/0/image")
            .unwrap(),
        tenant.app.image.as_str()
    );
}

/// Sum of the limits of all pods that a change of release can have at one time.
#[test]
fn the_quota_has_room_for_a_rolling_update_and_a_migration() {
    let (valid, objects) = build(&tenant(), &standard());
    let hard = &find(&objects, "ResourceQuota", "silo")["spec"]["hard"];
    let limit = |kind: &str, name: &str, container: &str, what: &str| -> u64 {
        let path = format!("/spec/template/spec/{container}/0/resources/limits/{what}");
        let text = find(&objects, kind, name)
            .pointer(&path)
            .unwrap()
            .as_str()
            .unwrap();
        if what == "cpu" {
            Cpu::parse(text).unwrap().0
        } else {
            Bytes::parse(text).unwrap().0
        }
    };
    let replicas = u64::from(valid.app.replicas.unsigned_abs());
    // Every old pod on its way out, every new one, the surge, and the migration, which gets the app's size.
    let app_pods = 2 * replicas + 1;
    let needed = |what: &str| {
        limit("StatefulSet", "database", "containers", what)
            + (app_pods + 1) * limit("Deployment", "app", "containers", what)
            + app_pods * limit("Deployment", "app", "initContainers", what)
    };
    assert!(Cpu::parse(hard["limits.cpu"].as_str().unwrap()).unwrap().0 >= needed("cpu"));
    assert!(
        Bytes::parse(hard["limits.memory"].as_str().unwrap())
            .unwrap()
            .0
            >= needed("memory")
    );
    let app_like = app_pods + 1;
    assert!(hard["pods"].as_str().unwrap().parse::<u64>().unwrap() > app_like);
    let claim = find(&objects, "PersistentVolumeClaim", "data-database-0");
    assert_eq!(
        hard["requests.storage"],
        claim["spec"]["resources"]["requests"]["storage"]
    );
}

#[test]
fn a_network_policy_closes_both_directions_and_the_first_closes_every_pod() {
    let objects = acme();
    let policies: Vec<&Value> = objects
        .iter()
        .filter(|(_, manifest)| manifest.api.kind == "NetworkPolicy")
        .inspect(|(stage, _)| assert_eq!(*stage, Stage::Isolation))
        .map(|(_, manifest)| &manifest.body["spec"])
        .collect();
    assert_eq!(
        policies[0],
        &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    );
    for policy in &policies {
        assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
        for rule in ["ingress", "egress"]
            .iter()
            .filter_map(|direction| policy[*direction].as_array())
            .flatten()
        {
            // A rule that leaves out its peers or its ports allows all of them.
            let peers = rule["from"].as_array().or(rule["to"].as_array());
            assert!(
                peers.is_some_and(|peers| !peers.is_empty()) && rule["ports"].is_array(),
                "{rule}"
            );
        }
    }
    // The database asks the key server and, to find it, DNS.
    let egress = &find(&objects, "NetworkPolicy", "database")["spec"]["egress"];
    let asked: Vec<(&Value, &Value)> = egress
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            assert_eq!(rule["to"].as_array().unwrap().len(), 1, "{rule}");
            let labels = &rule["to"][0]["podSelector"]["matchLabels"];
            let pods = labels.as_object().unwrap().values().next().unwrap();
            (pods, &rule["ports"][0]["port"])
        })
        .collect();
    assert_eq!(
        asked,
        [
            (&json!("granary-keyserver"), &json!(8443)),
            (&json!("kube-dns"), &json!(53))
        ]
    );
}

#[test]
fn a_container_that_fetches_keys_fits_into_the_smallest_silo() {
    let mut plan = small();
    plan.spec.app.cpu = "10m".to_owned();
    plan.spec.database.cpu = "10m".to_owned();
    plan.spec.app.memory = "16Mi".to_owned();
    let objects = build(&tenant(), &plan).1;
    let max = &find(&objects, "LimitRange", "silo")["spec"]["limits"][0]["max"];
    let limits = find(&objects, "Deployment", "app")
        .pointer("/spec/template/spec/initContainers/0/resources/limits")
        .unwrap();
    let cpu = |value: &Value| Cpu::parse(value["cpu"].as_str().unwrap()).unwrap().0;
    let memory = |value: &Value| Bytes::parse(value["memory"].as_str().unwrap()).unwrap().0;
    assert!(cpu(max) >= cpu(limits) && memory(max) >= memory(limits));
}

#[test]
fn keys_are_in_memory_and_only_what_fetches_them_writes_there() {
    let objects = acme();
    for (kind, name, writers) in [
        ("Deployment", "app", vec!["keys"]),
        ("StatefulSet", "database", vec!["database"]),
    ] {
        let spec = find(&objects, kind, name)
            .pointer("/spec/template/spec")
            .unwrap();
        let keys = spec["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|volume| volume["name"] == "keys");
        assert_eq!(keys.unwrap()["emptyDir"]["medium"], "Memory", "{name}");
        let containers = ["initContainers", "containers"]
            .iter()
            .filter_map(|list| spec[*list].as_array())
            .flatten();
        let writing: Vec<&str> = containers
            .filter(|container| {
                let mounts = container["volumeMounts"].as_array().unwrap();
                mounts
                    .iter()
                    .any(|mount| mount["name"] == "keys" && mount["readOnly"] != true)
            })
            .map(|container| container["name"].as_str().unwrap())
            .collect();
        assert_eq!(writing, writers, "{name}");
    }
    let job = migration::name(&valid().release);
    assert!(!find(&objects, "Job", &job).to_string().contains("keys"));
}
