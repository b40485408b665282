//! What people change by hand, the operator puts right, once.

use std::time::Duration;

use granary::api::{ConditionStatus, ConditionType, LABEL_TENANT_UID, PLAN_CATALOG, PlanCatalog};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::plane::{exclusive, shared};
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique, wait_for};
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

#[tokio::test]
async fn a_plan_with_a_larger_volume_leaves_one_that_cannot_grow_and_changes_the_rest() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("grow");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "grow").await;
        silo.change(json!({"plan": "standard"})).await;
        let tenant = silo
            .wait("has two pods of the app and says what it kept", |tenant| {
                let conditions = tenant.status.iter().flat_map(|status| &status.conditions);
                let says = |text: &str| conditions.clone().any(|one| one.message.contains(text));
                says("cannot make volumes larger") && says("2 of 2 pods")
            })
            .await;
        assert_eq!(tenant.spec.plan, "standard");
        silo.ready().await;
    })
    .await;
}

#[tokio::test]
async fn what_lost_its_label_is_found_again() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("label");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "label").await;
        let policy: NetworkPolicy = silo.get("database").await;
        let relabelled = json!({"metadata": {"labels": {LABEL_TENANT_UID: "another"}}, "spec": {"ingress": [{}]}});
        edit::<NetworkPolicy>(&silo, "database", relabelled).await;
        silo.wait_object("database", "is closed again", |now: &NetworkPolicy| {
            now.spec == policy.spec && now.labels().get(LABEL_TENANT_UID) == policy.labels().get(LABEL_TENANT_UID)
        })
        .await;

        let namespaces: Api<Namespace> = Api::all(client.clone());
        let bare = json!({"metadata": {"labels": {LABEL_TENANT_UID: null}}});
        namespaces
            .patch(&silo.namespace, &by_hand(), &Patch::Merge(bare))
            .await
            .unwrap();
        let labelled = |namespace: Option<&Namespace>| {
            namespace.is_some_and(|namespace| namespace.labels().contains_key(LABEL_TENANT_UID))
        };
        wait_for(namespaces, &silo.namespace, "has its label again", labelled).await;
        silo.ready().await;
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_was_deleted_is_told_and_the_database_kept_running() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("claim");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "claim").await;
        silo.api::<PersistentVolumeClaim>()
            .delete("data-database-0", &DeleteParams::default())
            .await
            .unwrap();
        let told = async || {
            silo.wait_condition(
                ConditionType::DatabaseReady,
                ConditionStatus::False,
                &["VolumeDeleted"],
            )
            .await
        };
        told().await;
        silo.change(json!({"state": "Suspended"})).await;
        eventually("no pod of the app is left", async || {
            silo.pods("app").await.is_empty()
        })
        .await;
        told().await;
        assert_eq!(silo.pods("database").await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_catalogue_of_plans_is_kept() {
    let _plane = exclusive().await;
    let client = client().await;
    let catalogs: Api<PlanCatalog> = Api::all(client.clone());
    let before = catalogs.get(PLAN_CATALOG).await.unwrap();
    catalogs
        .delete(PLAN_CATALOG, &DeleteParams::default())
        .await
        .unwrap();
    let same = |now: Option<&PlanCatalog>| now.is_some_and(|now| now.spec == before.spec);
    wait_for(catalogs.clone(), PLAN_CATALOG, "is back", same).await;
    let wrong = json!({"spec": {"plans": ["ghost"]}});
    catalogs
        .patch(PLAN_CATALOG, &by_hand(), &Patch::Merge(wrong))
        .await
        .unwrap();
    wait_for(catalogs, PLAN_CATALOG, "is right again", same).await;
}
