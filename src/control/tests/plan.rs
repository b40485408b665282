use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Phase, TenantStatus},
    audit::Action,
    control::observe,
    control::plan::{self, Build, Certificates, Plan as Planned},
    resources::Stage,
};

fn build(scene: &Scene) -> Build {
    match plan::build(&scene.valid, &settings(), &scene.observed) {
        Planned::Build(build) => *build,
        Planned::Offboard(_) => panic!("a build was expected"),
    }
}

fn wanted(build: &Build) -> Vec<String> {
    build
        .writes
        .iter()
        .flat_map(|(stage, writes)| {
            writes.iter().map(move |write| {
                format!("{stage:?} {} {}", write.kind.name(), write.manifest.name)
            })
        })
        .collect()
}

fn is_empty(build: &Build) -> bool {
    !build.add_finalizer
        && build.namespace.is_none()
        && !build.ensure_keys
        && build.reinstate.is_none()
        && build.certificates.is_none()
        && build.writes.is_empty()
        && build.prune.is_empty()
}

#[test]
fn a_new_tenant_needs_everything_and_policies_come_before_pods() {
    let build = build(&Scene::new());
    assert!(build.namespace.is_some());
    assert!(build.ensure_keys);
    assert_eq!(build.certificates, Some(Certificates::First));
    insta::assert_json_snapshot!(wanted(&build));
    assert!(Stage::Isolation < Stage::Workload);
}

#[test]
fn pods_wait_for_a_volume_that_is_bound_at_once_and_for_no_other() {
    let pods = |scene: &Scene| build(scene).writes.keys().any(|stage| stage.has_pods());
    let mut scene = Scene::new();
    for binding in [Binding::Unknown, Binding::WithPod] {
        scene.observed.storage.binding = binding;
        assert!(pods(&scene), "{binding:?}");
    }
    scene.observed.storage.binding = Binding::Immediate;
    assert!(!pods(&scene));
    let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
    scene.change(&claim, |body| body["status"] = json!({"phase": "Bound"}));
    assert!(pods(&scene.look()));
}

#[test]
fn a_silo_that_is_as_it_should_be_needs_no_call() {
    let build = build(&Scene::new().built());
    assert!(is_empty(&build), "{build:?}");
}

#[test]
fn keys_are_asked_for_once() {
    let mut scene = Scene::new().built();
    assert!(!build(&scene).ensure_keys);
    scene.observed.key = None;
    assert!(build(&scene).ensure_keys);
    let suspended = tenant(json!({"plan": "small", "state": "Suspended"}));
    assert!(build(&Scene::of(suspended)).ensure_keys);
}

#[test]
fn a_change_is_announced_once_and_before_anything_else() {
    let mut scene = Scene::new().built();
    assert_eq!(build(&scene).announce, None);
    scene.observed.announced = Some(0);
    let change = build(&scene).announce.expect("a change");
    assert_eq!(
        (change.generation, change.action),
        (1, Action::TenantChanged)
    );
    assert!(
        !change.detail.to_string().contains('@'),
        "nothing personal: {}",
        change.detail
    );
    // Onboarding announces itself.
    scene.observed.key = None;
    assert_eq!(build(&scene).announce, None);
}

#[test]
fn suspension_and_its_end_have_names_of_their_own() {
    use Phase::{Offboarded, Ready, Suspended};
    let action = |state: &str, phase: Phase| {
        let mut tenant = tenant(json!({"plan": "small", "state": state}));
        tenant.status = Some(TenantStatus {
            phase,
            ..TenantStatus::default()
        });
        let mut scene = Scene::of(tenant);
        scene.observed.key = Some(key());
        scene.observed.announced = Some(0);
        build(&scene).announce.map(|change| change.action)
    };
    assert_eq!(action("Suspended", Ready), Some(Action::TenantSuspended));
    assert_eq!(action("Suspended", Suspended), Some(Action::TenantChanged));
    assert_eq!(action("Active", Suspended), Some(Action::TenantResumed));
    assert_eq!(action("Active", Ready), Some(Action::TenantChanged));
    assert_eq!(action("Offboarded", Ready), None);
    assert_eq!(action("Active", Offboarded), None);
}

#[test]
fn a_status_that_came_with_another_resource_brings_no_key() {
    let mut tenant = tenant(json!({"plan": "small"}));
    let own = Scene::of(tenant.clone()).valid.namespace.to_string();
    let mut with_namespace = |namespace: &str| {
        tenant.status = Some(TenantStatus {
            namespace: Some(namespace.to_owned()),
            key: Some(key()),
            ..TenantStatus::default()
        });
        observe::key_in_status(&tenant)
    };
    assert_eq!(with_namespace(&own), Some(key()));
    assert_eq!(with_namespace("silo-acme-90b2a5c311"), None);
}

#[test]
fn a_missing_finalizer_comes_first() {
    let mut tenant = tenant(json!({"plan": "small"}));
    tenant.metadata.finalizers = None;
    assert!(build(&Scene::of(tenant)).add_finalizer);
}

#[test]
fn an_object_edited_by_hand_is_applied_again_and_only_that() {
    let mut scene = Scene::new().built();
    let deployment = scene.manifest(Kind::Deployment, "app");
    scene.change(&deployment, |body| {
        body["spec"]["replicas"] = json!(9);
        body["metadata"]["resourceVersion"] = json!("8");
    });
    assert_eq!(wanted(&build(&scene.look())), ["Workload Deployment app"]);
}

#[test]
fn content_that_somebody_added_is_replaced_not_merely_applied() {
    let mut scene = Scene::new().built();
    let policy = scene.manifest(Kind::NetworkPolicy, "default-deny");
    scene.change(&policy, |body| {
        body["metadata"]["resourceVersion"] = json!("8");
        let managed = body["metadata"]["managedFields"].as_array_mut().unwrap();
        managed.push(json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:ingress": {}}}}));
    });
    let build = build(&scene.look());
    assert_eq!(wanted(&build), ["Isolation NetworkPolicy default-deny"]);
    assert_eq!(build.writes[&Stage::Isolation][0].replaces, Some(8));
}

#[test]
fn certificates_are_renewed_when_due_and_not_before() {
    assert_eq!(build(&Scene::new().built().at(4)).certificates, None);
    assert_eq!(
        build(&Scene::new().built().at(5)).certificates,
        Some(Certificates::Renewal)
    );
}

#[test]
fn a_damaged_certificate_is_issued_again() {
    let mut scene = Scene::new().built();
    let (key, _) = scene
        .observed
        .objects
        .iter()
        .find(|(key, _)| key.kind == Kind::Secret && key.name == "app-tls")
        .unwrap();
    let key = key.clone();
    scene.object(Kind::Secret, json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": "x", "resourceVersion": "8", "labels": {"granary.dev/tenant-uid": UID}},
        "data": {"tls.crt": "AAAA"},
    }));
    assert_eq!(
        build(&scene.look()).certificates,
        Some(Certificates::Renewal)
    );
}

#[test]
fn a_later_release_takes_over_only_after_its_migration() {
    let old = IMAGE.replace("sha256:0", "sha256:1");
    let scene = Scene::new().built_with(&old);
    assert_eq!(plan::serving_image(&scene.valid, &scene.observed), old);
    let migrated = migration(scene, "Complete");
    assert_eq!(
        plan::serving_image(&migrated.valid, &migrated.observed),
        IMAGE
    );
}

#[test]
fn a_failed_migration_keeps_the_old_release() {
    let old = IMAGE.replace("sha256:0", "sha256:1");
    let scene = migration(Scene::new().built_with(&old), "Failed");
    assert_eq!(plan::serving_image(&scene.valid, &scene.observed), old);
}

fn migration(mut scene: Scene, condition: &str) -> Scene {
    let job = scene.manifest(Kind::Job, &format!("migrate-{}", scene.valid.release));
    scene.change(&job, |body| {
        body["metadata"]["resourceVersion"] = json!("8");
        body["status"] = json!({"conditions": [{"type": condition, "status": "True"}]});
    });
    scene.look()
}

#[test]
fn a_suspended_tenant_loses_what_runs_and_keeps_its_volume() {
    let active = Scene::new().built();
    let mut scene = Scene::of(tenant(json!({"plan": "small", "state": "Suspended"})));
    scene.observed.objects = active.observed.objects;
    let pruned: Vec<String> = build(&scene)
        .prune
        .iter()
        .map(|deletion| deletion.key.to_string())
        .collect();
    insta::assert_json_snapshot!(pruned);
    assert!(
        pruned
            .iter()
            .all(|object| !object.contains("PersistentVolumeClaim")),
        "{pruned:?}"
    );
}

#[test]
fn kinds_that_the_cluster_does_not_serve_are_left_out() {
    let mut scene = Scene::new();
    scene.observed.unavailable = [Kind::BackendTlsPolicy].into();
    let names = wanted(&build(&scene));
    assert!(
        names.iter().any(|name| name.contains("HTTPRoute")),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains("BackendTLSPolicy")),
        "{names:?}"
    );
}

#[test]
fn an_object_with_our_label_in_another_namespace_is_left_alone() {
    let mut scene = Scene::new().built();
    scene.object(Kind::ConfigMap, json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": "somebody-else", "uid": "x", "resourceVersion": "8", "labels": {"granary.dev/tenant-uid": UID}},
        "data": Value::Null,
    }));
    assert!(build(&scene.look()).prune.is_empty());
}

#[test]
fn a_migration_that_is_done_is_left_alone_and_another_is_made_anew() {
    let edited = |outcome: &str| {
        let mut scene = Scene::new().built();
        let job = scene.manifest(Kind::Job, &format!("migrate-{}", scene.valid.release));
        scene.change(&job, |body| {
            body["metadata"]["resourceVersion"] = json!("8");
            body["spec"]["backoffLimit"] = json!(1);
            body["status"] = json!({"conditions": [{"type": outcome, "status": "True"}]});
        });
        build(&scene.look())
    };
    let done = edited("Complete");
    assert!(is_empty(&done), "{done:?}");
    let failed = edited("Failed");
    assert_eq!(wanted(&failed), Vec::<String>::new());
    assert_eq!(failed.prune.len(), 1);
    assert_eq!(failed.prune[0].key.kind, Kind::Job);
}

#[test]
fn a_volume_never_shrinks() {
    let storage = |size: &str| {
        let mut scene = Scene::new().built();
        let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
        scene.change(&claim, |body| {
            body["metadata"]["resourceVersion"] = json!("8");
            body["spec"]["resources"]["requests"]["storage"] = json!(size);
        });
        wanted(&build(&scene.look()))
    };
    assert_eq!(
        storage("512Mi"),
        ["Volume PersistentVolumeClaim data-database-0"]
    );
    assert_eq!(storage("2Gi"), ["Isolation ResourceQuota silo"]);
}

#[test]
fn a_volume_whose_class_cannot_grow_keeps_its_size() {
    let grown = |expands| {
        let mut scene = Scene::new().built();
        let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
        scene.change(&claim, |body| {
            body["metadata"]["resourceVersion"] = json!("8");
            body["spec"]["resources"]["requests"]["storage"] = json!("512Mi");
        });
        scene.observed.storage.expands = expands;
        wanted(&build(&scene.look()))
            .iter()
            .any(|write| write.contains("PersistentVolumeClaim"))
    };
    assert!(grown(Some(true)));
    assert!(grown(None));
    assert!(!grown(Some(false)));
}

#[test]
fn a_volume_that_cannot_be_changed_holds_nothing_else_back() {
    let holds_back = |scene: &Scene| build(scene).writes[&Stage::Volume][0].holds_back;
    assert!(holds_back(&Scene::new()));
    let mut scene = Scene::new().built();
    let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
    scene.change(&claim, |body| {
        body["metadata"]["resourceVersion"] = json!("8");
        body["spec"]["resources"]["requests"]["storage"] = json!("512Mi");
    });
    assert!(!holds_back(&scene.look()));
}

#[test]
fn a_database_whose_claim_was_deleted_is_not_stopped_by_a_suspension() {
    let pruned = |claim_deleted: bool| {
        let mut scene = Scene::new().built();
        let suspended = tenant(json!({"plan": "small", "state": "Suspended"}));
        let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
        scene.change(&claim, |body| {
            body["metadata"]["resourceVersion"] = json!("8");
            if claim_deleted {
                body["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:59:00Z");
            }
        });
        let mut scene = scene.look();
        scene.valid = Scene::of(suspended).valid;
        build(&scene)
            .prune
            .iter()
            .any(|deletion| deletion.key.kind == Kind::StatefulSet)
    };
    assert!(pruned(false));
    assert!(!pruned(true));
}
