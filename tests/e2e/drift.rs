//! What people change by hand, the operator puts right, once.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{cleaning_up, client, unique};
use crate::web;

/// Somebody at a keyboard.
fn by_hand() -> PatchParams {
    PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    }
}

async fn edit<K>(silo: &Silo, name: &str, patch: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    silo.api::<K>()
        .patch(name, &by_hand(), &Patch::Strategic(patch))
        .await
        .expect(name);
}

#[tokio::test]
async fn what_is_changed_or_deleted_by_hand_is_repaired_once() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("drift");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "drift").await;
        let host = silo.host().await;
        web::add_entry(&host, "flour").await;
        let deny: NetworkPolicy = silo.get("default-deny").await;
        let database_policy: NetworkPolicy = silo.get("database").await;
        let service: Service = silo.get("app").await;
        let deployment: Deployment = silo.get("app").await;
        let stateful_set: StatefulSet = silo.get("database").await;
        let app_tls: Secret = silo.get("app-tls").await;

        silo.api::<NetworkPolicy>().delete("default-deny", &DeleteParams::default()).await.unwrap();
        edit::<NetworkPolicy>(&silo, "database", json!({"spec": {"ingress": [{}]}})).await;
        silo.api::<Service>().delete("app", &DeleteParams::default()).await.unwrap();
        let container = json!({"name": "app", "env": [{"name": "GRANARY_DISPLAY_NAME", "value": "Mine"}, {"name": "EXTRA", "value": "1"}]});
        edit::<Deployment>(&silo, "app", json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}}})).await;
        silo.api::<StatefulSet>().delete("database", &DeleteParams::default()).await.unwrap();
        edit::<Secret>(&silo, "app-tls", json!({"data": {"tls.crt": "bm90aGluZw=="}})).await;

        silo.wait_object("default-deny", "is back", |policy: &NetworkPolicy| {
            policy.spec == deny.spec && policy.uid() != deny.uid()
        })
        .await;
        silo.wait_object("database", "lets in whom it should", |policy: &NetworkPolicy| {
            policy.spec == database_policy.spec
        })
        .await;
        silo.wait_object("app", "is back", |now: &Service| now.uid() != service.uid()).await;
        silo.wait_object("app", "is as it was", |now: &Deployment| now.spec == deployment.spec).await;
        silo.wait_object("database", "is back", |now: &StatefulSet| {
            now.uid() != stateful_set.uid()
                && now.status.as_ref().and_then(|status| status.ready_replicas) == Some(1)
        })
        .await;
        silo.wait_object("app-tls", "has a new certificate", |now: &Secret| {
            let certificate = |secret: &Secret| secret.data.as_ref()?.get("tls.crt").cloned();
            let now = certificate(now).unwrap_or_default();
            now.0.starts_with(b"-----BEGIN CERTIFICATE-----") && Some(now) != certificate(&app_tls)
        })
        .await;
        silo.ready().await;
        silo.page_turns(200).await;
        assert!(silo.page().await.body.contains("flour"));

        // A migration that is done cannot change any more, and need not.
        let job: Job = silo.get(&migration(&silo).await).await;
        edit::<Job>(&silo, &job.name_any(), json!({"spec": {"parallelism": 2}})).await;

        let names = [silo.namespace.as_str(), silo.name.as_str()];
        Audit::calm(&names).await;
        let window = Audit::from_now();
        // There is nothing to wait for: this is the length of what is measured.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let calls = window.of_operator_about(&names);
        assert!(calls.is_empty(), "it goes on and on: {calls:#?}");
        silo.ready().await;
    })
    .await;
}

/// Name of the Job of the release that is served.
async fn migration(silo: &Silo) -> String {
    let status = silo.ready().await.status.expect("a status");
    format!("migrate-{}", status.release.expect("a release"))
}

#[tokio::test]
async fn a_plan_with_a_smaller_volume_leaves_the_volume_as_it_is() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("shrink");
    cleaning_up(&client, &test, async {
        let silo = Silo::create(
            &client,
            &test,
            &unique("shrink"),
            json!({"plan": "standard", "app": {"replicas": 1}}),
        )
        .await;
        silo.ready().await;
        let requested = async || {
            let claim: PersistentVolumeClaim = silo.get("data-database-0").await;
            claim
                .spec
                .and_then(|spec| spec.resources?.requests?.remove("storage"))
        };
        let before = requested().await;
        assert!(before.is_some());

        silo.change(json!({"plan": "small"})).await;
        let tenant = silo.ready().await;
        let conditions = tenant.status.expect("a status").conditions;
        let said = conditions
            .iter()
            .any(|condition| condition.message.contains("never shrink"));
        assert!(said, "{conditions:#?}");
        assert_eq!(requested().await, before);
    })
    .await;
}
