use serde_json::json;

use super::*;
use crate::{
    api::{ConditionStatus, ConditionType, Phase, TenantStatus},
    control::{
        assess,
        execute::{Executed, Failure},
        observations::ObjectKey,
        probe::AgentReport,
        rotation::look::{Looked, Trouble},
        tenant_keys::KeysError,
        writer::WriteError,
    },
};

fn status(scene: &Scene) -> TenantStatus {
    assess::assess(&scene.valid, &scene.observed, &Executed::default())
}

fn condition(status: &TenantStatus, type_: ConditionType) -> (ConditionStatus, String, String) {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    (
        condition.status,
        condition.reason.clone(),
        condition.message.clone(),
    )
}

fn served() -> Scene {
    let mut scene = Scene::new().built();
    let job = scene.manifest(Kind::Job, &format!("migrate-{}", scene.valid.release));
    scene.change(&job, |body| {
        body["metadata"]["resourceVersion"] = json!("8");
        body["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    });
    let mut scene = scene
        .pod("database", true, json!({}))
        .pod("app", true, json!({}));
    scene.observed.page = Page::Answers;
    scene
}

#[test]
fn a_tenant_is_ready_when_its_page_answers() {
    let status = status(&served());
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!(
        status.url.as_deref(),
        Some("https://acme.granary.localhost:8443")
    );
    insta::assert_json_snapshot!(
        status
            .conditions
            .iter()
            .map(|condition| format!(
                "{:?} {:?} {}",
                condition.type_, condition.status, condition.reason
            ))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_page_that_does_not_answer_is_not_ready_and_says_what_it_said() {
    let mut scene = served();
    scene.observed.page = Page::Fails("the gateway answered 502".to_owned());
    let status = status(&scene);
    assert_eq!(status.phase, Phase::Provisioning);
    let (ready, reason, message) = condition(&status, ConditionType::Ready);
    assert_eq!(
        (ready, reason.as_str()),
        (ConditionStatus::False, "PageNotAnswering")
    );
    assert!(message.contains("502"), "{message}");
}

#[test]
fn a_tenant_says_which_key_it_has() {
    let status = status(&served());
    let (holds, reason, message) = condition(&status, ConditionType::KeyReady);
    assert_eq!(
        (holds, reason.as_str()),
        (ConditionStatus::True, "KeysInPlace")
    );
    assert!(message.contains(&key().id), "{message}");
    assert_eq!(status.key, Some(key()));
}

#[test]
fn a_tenant_that_waits_for_its_keys_says_for_what() {
    let scene = Scene::new();
    let waiting = Executed {
        failures: vec![Failure {
            condition: ConditionType::KeyReady,
            object: "keys".to_owned(),
            error: KeysError::NotConnected.into(),
        }],
        ..Executed::default()
    };
    let status = assess::assess(&scene.valid, &scene.observed, &waiting);
    for type_ in [ConditionType::KeyReady, ConditionType::Ready] {
        let (holds, reason, message) = condition(&status, type_);
        assert_eq!(
            (holds, reason.as_str()),
            (ConditionStatus::False, "RegistryUnavailable")
        );
        assert!(message.contains("registry"), "{message}");
    }
    assert_eq!(status.key, None);
}

#[test]
fn a_change_that_cannot_be_audited_waits_and_the_silo_stays() {
    let scene = served();
    let waiting = Executed {
        failures: vec![Failure {
            condition: ConditionType::Ready,
            object: "the change of the spec waits to be audited".to_owned(),
            error: KeysError::NotConnected.into(),
        }],
        unannounced: true,
        ..Executed::default()
    };
    let status = assess::assess(&scene.valid, &scene.observed, &waiting);
    let (holds, reason, message) = condition(&status, ConditionType::Ready);
    assert_eq!(
        (holds, reason.as_str()),
        (ConditionStatus::False, "RegistryUnavailable")
    );
    assert!(message.contains("the silo stays as it is"), "{message}");
    let (holds, ..) = condition(&status, ConditionType::AppReady);
    assert_eq!(holds, ConditionStatus::True);
    assert_eq!(status.observed_generation, None, "it was not looked at");
}

#[test]
fn pods_that_do_not_get_their_keys_say_why() {
    let mut scene = served();
    scene.observed.key_trouble = Some(("KeyDisabled".to_owned(), "it is disabled".to_owned()));
    let status = status(&scene);
    let (holds, reason, message) = condition(&status, ConditionType::KeyReady);
    assert_eq!(
        (holds, reason.as_str()),
        (ConditionStatus::False, "KeyDisabled")
    );
    assert!(message.contains("those that have them go on"), "{message}");
    assert_eq!(status.key, Some(key()), "which key it is stays known");
}

#[test]
fn somebody_asks_only_for_pods_that_wait_long() {
    let waiting = |started: bool, seconds: i64| {
        let mut scene = Scene::new().built();
        let since = now() - seconds.seconds();
        scene.object(
            Kind::Pod,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "app-0", "namespace": scene.valid.namespace.as_str(), "uid": "x", "resourceVersion": "9",
                    "labels": {"granary.dev/tenant-uid": UID, "app.kubernetes.io/name": "app"},
                },
                "status": {
                    "startTime": since.to_string(),
                    "initContainerStatuses": [{"name": "keys", "started": started, "state": {"running": {}}}],
                },
            }),
        );
        scene.look().observed.lacks_keys()
    };
    assert!(waiting(false, 11));
    assert!(!waiting(false, 5), "it may still come");
    assert!(!waiting(true, 11));
}

#[test]
fn keys_that_were_just_made_are_known_at_once() {
    let scene = Scene::new();
    let made = Executed {
        key: Some(key()),
        ..Executed::default()
    };
    let status = assess::assess(&scene.valid, &scene.observed, &made);
    assert_eq!(
        condition(&status, ConditionType::KeyReady).0,
        ConditionStatus::True
    );
    assert_eq!(status.key, Some(key()));
}

#[test]
fn an_image_that_cannot_be_pulled_is_named() {
    let scene = Scene::new().built().pod(
        "app",
        false,
        json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
    );
    let (_, reason, message) = condition(&status(&scene), ConditionType::AppReady);
    assert_eq!(reason, "ErrImagePull");
    assert!(message.contains("no such image"), "{message}");
}

#[test]
fn a_full_volume_is_the_databases_reason() {
    let mut scene = Scene::new().built().pod("database", false, json!({}));
    scene.observed.database = Some(AgentReport {
        reason: Some("VolumeFull".to_owned()),
        message: Some("0 bytes of 1 GiB are free".to_owned()),
        ..AgentReport::default()
    });
    let (status, reason, _) = condition(&status(&scene), ConditionType::DatabaseReady);
    assert_eq!(
        (status, reason.as_str()),
        (ConditionStatus::False, "VolumeFull")
    );
}

#[test]
fn a_gateway_that_is_missing_is_said_so() {
    let mut scene = Scene::new().built();
    scene.observed.gateway = Gateway::Missing;
    assert_eq!(
        condition(&status(&scene), ConditionType::RouteReady).1,
        "GatewayMissing"
    );
    scene.observed.unavailable = [Kind::HttpRoute].into();
    assert_eq!(
        condition(&status(&scene), ConditionType::RouteReady).0,
        ConditionStatus::Unknown
    );
}

#[test]
fn a_silo_that_was_ready_and_is_not_is_degraded() {
    let mut scene = served();
    let before = status(&scene);
    let mut tenant = tenant(json!({"plan": "small"}));
    tenant.status = Some(before.clone());
    scene.observed.tenant = Arc::new(tenant);
    scene.observed.page = Page::Fails("gone".to_owned());
    scene = scene.at(1);
    let after = status(&scene);
    assert_eq!(after.phase, Phase::Degraded);
    let time = |status: &TenantStatus, type_| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .unwrap()
            .last_transition_time
            .clone()
    };
    assert_eq!(
        time(&after, ConditionType::DatabaseReady),
        time(&before, ConditionType::DatabaseReady)
    );
    assert_ne!(
        time(&after, ConditionType::Ready),
        time(&before, ConditionType::Ready)
    );
}

#[test]
fn a_tenant_is_suspended_when_no_pod_is_left() {
    let suspended = tenant(json!({"plan": "small", "state": "Suspended"}));
    let mut scene = Scene::of(suspended).pod("database", false, json!({}));
    scene.observed.key = Some(key());
    for pod in scene.observed.objects.values_mut() {
        pod.terminating = true;
    }
    let (_, reason, message) = condition(&status(&scene), ConditionType::Ready);
    assert_eq!(reason, "Suspending");
    assert!(message.contains("pods are stopping"), "{message}");
}

#[test]
fn a_tenant_whose_pods_still_run_is_not_suspended_yet() {
    let mut suspended = tenant(json!({"plan": "small", "state": "Suspended"}));
    suspended.status = serde_json::from_value(json!({"phase": "Ready"})).unwrap();
    let scene = Scene::of(suspended).pod("app", true, json!({}));
    assert_eq!(status(&scene).phase, Phase::Degraded);
}

#[test]
fn a_claim_that_somebody_deleted_is_no_secret() {
    let mut scene = served();
    let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
    scene.change(&claim, |body| {
        body["metadata"]["resourceVersion"] = json!("10");
        body["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:59:00Z");
    });
    let (holds, reason, message) = condition(&status(&scene.look()), ConditionType::DatabaseReady);
    assert_eq!(holds, ConditionStatus::False);
    assert_eq!(reason, "VolumeDeleted");
    assert!(message.contains("Copy the data now"), "{message}");
}

#[test]
fn a_suspended_tenant_names_the_way_back() {
    let mut scene = Scene::of(tenant(json!({"plan": "small", "state": "Suspended"})));
    scene.observed.key = Some(key());
    let status = status(&scene);
    assert_eq!(status.phase, Phase::Suspended);
    let (_, reason, message) = condition(&status, ConditionType::Ready);
    assert_eq!(reason, "Suspended");
    assert!(message.contains("granary resume acme"), "{message}");
}

#[test]
fn a_volume_that_is_larger_than_the_plan_says_is_explained() {
    let mut scene = served();
    let claim = scene.manifest(Kind::PersistentVolumeClaim, "data-database-0");
    scene.change(&claim, |body| {
        body["metadata"]["resourceVersion"] = json!("10");
        body["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    });
    let (holds, _, message) = condition(&status(&scene.look()), ConditionType::DatabaseReady);
    assert_eq!(holds, ConditionStatus::True);
    assert!(
        message.contains("keeps 2Gi where plan small has 1Gi"),
        "{message}"
    );
}

#[test]
fn a_gateway_that_is_missing_outranks_a_page_that_still_answers() {
    let mut scene = served();
    scene.observed.gateway = Gateway::Missing;
    let (holds, reason, _) = condition(&status(&scene), ConditionType::RouteReady);
    assert_eq!(
        (holds, reason.as_str()),
        (ConditionStatus::False, "GatewayMissing")
    );
}

#[test]
fn a_namespace_that_is_somebody_elses_holds_up_everything() {
    let scene = Scene::new();
    let namespace = scene.manifest(Kind::Namespace, scene.valid.namespace.as_str());
    let key = ObjectKey::of(Kind::Namespace, &namespace);
    let executed = Executed {
        failures: vec![Failure {
            condition: ConditionType::NamespaceReady,
            object: key.to_string(),
            error: WriteError::Taken(key).into(),
        }],
        ..Executed::default()
    };
    let status = assess::assess(&scene.valid, &scene.observed, &executed);
    let (_, reason, message) = condition(&status, ConditionType::NamespaceReady);
    assert_eq!(reason, "NameTaken");
    assert_eq!(message.matches("Namespace silo-").count(), 1, "{message}");
    for type_ in [
        ConditionType::NetworkIsolated,
        ConditionType::CertificatesReady,
        ConditionType::DatabaseReady,
        ConditionType::MigrationReady,
        ConditionType::AppReady,
        ConditionType::RouteReady,
    ] {
        assert_eq!(
            condition(&status, type_),
            (
                ConditionStatus::False,
                "Waiting".to_owned(),
                "waits for the namespace".to_owned()
            ),
            "{type_:?}"
        );
    }
    assert_eq!(condition(&status, ConditionType::Ready).1, "NameTaken");
}

/// A rotation that could not be looked at, for this reason.
fn rotation_trouble(passes: bool) -> Scene {
    let mut scene = served();
    scene.observed.rotation = Some(Looked::Trouble(Trouble {
        reason: "KmsDenied".to_owned(),
        message: "the KMS refuses".to_owned(),
        passes,
    }));
    scene
}

#[test]
fn a_rotation_that_waits_leaves_the_tenant_ready() {
    let status = status(&rotation_trouble(true));
    assert_eq!(status.phase, Phase::Ready);
    let (holds, reason, message) = condition(&status, ConditionType::KeyReady);
    assert_eq!(
        (holds, reason.as_str()),
        (ConditionStatus::True, "Rotating")
    );
    assert!(message.contains("the KMS refuses"), "{message}");
}

#[test]
fn a_rotation_that_is_refused_says_why() {
    let status = status(&rotation_trouble(false));
    let (holds, reason, message) = condition(&status, ConditionType::KeyReady);
    assert_eq!(
        (holds, reason.as_str()),
        (ConditionStatus::False, "KmsDenied")
    );
    assert!(message.contains("pods that have theirs go on"), "{message}");
}
