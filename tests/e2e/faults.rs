//! Faults: the condition says what is wrong, the rest goes on, and it converges once the cause is gone.

use granary::api::{ConditionStatus, ConditionType, LABEL_TENANT_UID};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use sqlx::Executor;

use crate::audit::Audit;
use crate::database::{Database, Identity};
use crate::plane::{self, PLANE, exclusive, shared};
use crate::silo::Silo;
use crate::support::{apply, cleaning_up, client, eventually, marked, named, request, unique};
use crate::web;

async fn exists(client: &Client, namespace: &str) -> bool {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .get_opt(namespace)
        .await
        .expect("an answer")
        .is_some()
}

#[tokio::test]
async fn tenants_come_up_although_the_operator_is_killed_on_the_way() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("kill");
    cleaning_up(&client, &test, async {
        let audit = Audit::from_now();
        let (one, two) = (unique("kill"), unique("kill"));
        let one = Silo::create(&client, &test, &one, json!({})).await;
        let two = Silo::create(&client, &test, &two, json!({})).await;
        eventually("a silo is begun", async || {
            exists(&client, &one.namespace).await
        })
        .await;
        plane::kill_all(&client).await;
        one.ready().await;
        two.ready().await;
        plane::whole(&client).await;
        for silo in [&one, &two] {
            assert_eq!(silo.page().await.status, 200);
            let namespaces: Api<Namespace> = Api::all(client.clone());
            let owned = ListParams::default().labels(&format!("{LABEL_TENANT_UID}={}", silo.uid));
            assert_eq!(namespaces.list(&owned).await.unwrap().items.len(), 1);
        }
        one_writer_at_a_time(&audit);
    })
    .await;
}

#[tokio::test]
async fn another_replica_takes_over_and_only_one_writes() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("lead");
    cleaning_up(&client, &test, async {
        plane::whole(&client).await;
        let audit = Audit::from_now();
        let leader = plane::leader(&client).await;
        let silo = Silo::create(&client, &test, &unique("lead"), json!({})).await;
        eventually("the silo is begun", async || {
            exists(&client, &silo.namespace).await
        })
        .await;
        plane::kill(&client, &leader).await;
        let next = plane::wait_for_other_leader(&client, &leader).await;
        silo.ready().await;
        let writers = one_writer_at_a_time(&audit);
        assert_eq!(writers, [leader, next]);
        plane::whole(&client).await;
    })
    .await;
}

/// The pods that wrote to silos, in order; none writes again after another did.
fn one_writer_at_a_time(audit: &Audit) -> Vec<String> {
    let mut writers: Vec<String> = Vec::new();
    for call in audit.of_operator() {
        let elects = call.resource == "leases" || call.resource == "events";
        if call.is_write() && !elects && writers.last() != Some(&call.pod) {
            assert!(
                !writers.contains(&call.pod),
                "{} wrote again after {writers:?}",
                call.pod
            );
            writers.push(call.pod);
        }
    }
    assert!(
        !writers.is_empty(),
        "the audit log does not see the operator"
    );
    writers
}

#[tokio::test]
async fn a_namespace_that_is_there_already_is_not_adopted() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("taken");
    let outcome = std::panic::AssertUnwindSafe(cleaning_up(&client, &test, async {
        plane::scale(&client, 0).await;
        let silo = Silo::create(&client, &test, &unique("taken"), json!({})).await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": silo.namespace}});
        let namespace: Namespace = serde_json::from_value(marked(namespace, &test)).unwrap();
        let namespace = namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        plane::scale(&client, 2).await;

        let condition = silo
            .wait_condition(
                ConditionType::NamespaceReady,
                ConditionStatus::False,
                &["NameTaken"],
            )
            .await;
        assert!(condition.message.contains(&silo.namespace), "{condition:?}");
        let now = namespaces.get(&silo.namespace).await.unwrap();
        assert_eq!(now.metadata.labels, namespace.metadata.labels);
        let pods = silo
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap();
        assert!(pods.items.is_empty());

        namespaces
            .delete(&silo.namespace, &DeleteParams::default())
            .await
            .unwrap();
        silo.ready().await;
        assert_eq!(silo.page().await.status, 200);
    }));
    let outcome = futures::FutureExt::catch_unwind(outcome).await;
    plane::scale(&client, 2).await;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_named_and_tenants_come_back_with_it() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("gateway");
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "gateway.networking.k8s.io",
        "v1",
        "Gateway",
    ));
    let gateways: Api<DynamicObject> = Api::namespaced_with(client.clone(), PLANE, &kind);
    let gateway = gateways.get("granary").await.expect("the gateway");
    let again = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "granary", "labels": gateway.labels(), "annotations": gateway.annotations()},
        "spec": gateway.data["spec"],
    });
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "gateway").await;
        gateways
            .delete("granary", &DeleteParams::default())
            .await
            .unwrap();
        let missing =
            futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(silo.wait_condition(
                ConditionType::RouteReady,
                ConditionStatus::False,
                &["GatewayMissing"],
            )))
            .await;
        // As Helm made it, so that the next upgrade finds it its own.
        gateways
            .patch(
                "granary",
                &PatchParams::apply("helm").force(),
                &Patch::Apply(&again),
            )
            .await
            .expect("the gateway can be made again");
        missing.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        silo.ready().await;
        silo.page_turns(200).await;
    })
    .await;
}

#[tokio::test]
async fn a_silo_whose_pods_or_namespace_somebody_removes_comes_back() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("loss");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "loss").await;
        web::add_entry(&silo.host().await, "flour").await;
        let at_once = DeleteParams::default().grace_period(0);
        silo.api::<Pod>()
            .delete_collection(&at_once, &ListParams::default())
            .await
            .unwrap();
        eventually("the book is served again", async || {
            let page = silo.page().await;
            page.status == 200 && page.body.contains("flour")
        })
        .await;
        silo.ready().await;

        let namespaces: Api<Namespace> = Api::all(client.clone());
        let old = namespaces.get(&silo.namespace).await.unwrap().uid();
        namespaces
            .delete(&silo.namespace, &DeleteParams::default())
            .await
            .unwrap();
        eventually("the namespace is a new one", async || {
            let now = namespaces
                .get_opt(&silo.namespace)
                .await
                .expect("an answer");
            now.is_some_and(|now| now.uid() != old)
        })
        .await;
        silo.ready().await;
        silo.page_turns(200).await;
    })
    .await;
}

/// A plan whose volume a test can fill.
fn tiny() -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1",
        "kind": "Plan",
        "metadata": {"name": "tiny"},
        "spec": {
            "app": {"image": "", "replicas": 1, "cpu": "250m", "memory": "64Mi"},
            "database": {"cpu": "500m", "memory": "128Mi", "storage": "160Mi", "connections": 25},
        },
    })
}

#[tokio::test]
async fn a_full_volume_is_named_hurts_nobody_else_and_is_over_once_there_is_room() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("full");
    cleaning_up(&client, &test, async {
        let small = request(&client, "GET", "/apis/granary.dev/v1alpha1/plans/small", &Value::Null).await.unwrap();
        let plan = unique("tiny");
        let mut tiny = marked(named(tiny(), &plan), &test);
        tiny["spec"]["app"]["image"] = small["spec"]["app"]["image"].clone();
        apply(&client, &tiny, "").await.expect("the plan is taken");
        let other = Silo::onboard(&client, &test, "full");
        let silo = async {
            let name = unique("full");
            eventually("the plan can be used", async || {
                let tenant = json!({"apiVersion": "granary.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": {"plan": plan}});
                apply(&client, &tenant, "&dryRun=All").await.is_ok()
            })
            .await;
            let silo = Silo::create(&client, &test, &name, json!({"plan": plan})).await;
            silo.ready().await;
            silo
        };
        let (silo, other) = tokio::join!(silo, other);

        let database = Database::of(&silo).await;
        let owner = Identity::of(&silo, "migrate-tls").await;
        let mut session = database.session("owner", Some(&owner)).await.unwrap();
        // Unlogged and in small steps: a write-ahead log without room would end PostgreSQL.
        session.execute("CREATE UNLOGGED TABLE filler (content text STORAGE EXTERNAL)").await.unwrap();
        eventually("the volume is full", async || {
            let mut session = database.session("owner", Some(&owner)).await.expect("a session");
            let more = "INSERT INTO filler SELECT repeat(md5(random()::text), 30000) FROM generate_series(1, 4)";
            session.execute(more).await.expect("there is room for one more step");
            silo.agent_says("/readyz").await.contains("VolumeFull")
        })
        .await;
        let condition = silo
            .wait_condition(ConditionType::DatabaseReady, ConditionStatus::False, &["VolumeFull"])
            .await;
        assert!(condition.message.contains("MiB free"), "{condition:?}");
        other.ready().await;
        assert_eq!(other.page().await.status, 200);

        let mut session = database.session("owner", Some(&owner)).await.expect("the owner can still make room");
        session.execute("DROP TABLE filler").await.expect("room is made");
        silo.ready().await;
        silo.page_turns(200).await;
    })
    .await;
}
