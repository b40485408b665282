//! A tenant's own keys: there before its first pod, no call about them afterwards, and given up at its end.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::Command;
use std::time::Duration;

use futures::FutureExt;
use granary::api::{ConditionStatus, ConditionType, Phase, Tenant};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::plane::{PLANE, exclusive, shared};
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique, wait_for};

/// The audit's rows about a tenant, oldest first.
fn rows(tenant: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_granary"))
        .args(["audit", "list", "--tenant", tenant, "-o", "json"])
        .output()
        .expect("the program runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    list["items"].as_array().expect("rows").clone()
}

/// Acts in the audit about a tenant, as `action phase`, oldest first.
pub fn acts(tenant: &str) -> Vec<String> {
    rows(tenant)
        .iter()
        .map(|row| {
            let word = |field: &str| row[field].as_str().unwrap_or_default();
            format!("{} {}", word("action"), word("phase"))
        })
        .collect()
}

/// How often each of these is among the acts.
pub fn counts<const N: usize>(acts: &[String], wanted: [&str; N]) -> [usize; N] {
    wanted.map(|wanted| acts.iter().filter(|act| *act == wanted).count())
}

/// What is done while the key server has no pods.
async fn without_key_server<T>(client: &Client, body: impl Future<Output = T>) -> T {
    let api: Api<Deployment> = Api::namespaced(client.clone(), PLANE);
    scale(&api, "granary-keyserver", 0).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), PLANE);
    let selected = ListParams::default().labels("app.kubernetes.io/name=granary-keyserver");
    let done = AssertUnwindSafe(async {
        // Pods on their way out still answer.
        eventually("no pod of the key server is left", async || {
            pods.list(&selected).await.expect("pods").items.is_empty()
        })
        .await;
        body.await
    });
    let done = done.catch_unwind().await;
    scale(&api, "granary-keyserver", 2).await;
    wait_for(
        api,
        "granary-keyserver",
        "has its pods",
        |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.clone());
            status.is_some_and(|status| status.ready_replicas == Some(2))
        },
    )
    .await;
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The same without the registry's database.
pub async fn without_registry<T>(client: &Client, body: impl Future<Output = T>) -> T {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), PLANE);
    scale(&api, "granary-registry", 0).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), PLANE);
    let done = AssertUnwindSafe(async {
        wait_for(
            pods,
            "granary-registry-0",
            "is gone",
            |pod: Option<&Pod>| pod.is_none(),
        )
        .await;
        body.await
    });
    let done = done.catch_unwind().await;
    scale(&api, "granary-registry", 1).await;
    wait_for(
        api,
        "granary-registry",
        "has its pod",
        |set: Option<&StatefulSet>| {
            let status = set.and_then(|set| set.status.clone());
            status.is_some_and(|status| status.ready_replicas == Some(1))
        },
    )
    .await;
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

async fn scale<K>(api: &Api<K>, name: &str, replicas: i32)
where
    K: Clone + DeserializeOwned,
{
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale(name, &PatchParams::default(), &patch)
        .await
        .expect("it is scaled");
}

/// The user that these tests are for the API server.
async fn whoami(client: &Client) -> String {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .expect("the API server answers");
    let user = review.status.and_then(|status| status.user_info);
    user.and_then(|user| user.username).expect("a name")
}

/// That a tenant without keys has everything but pods, and that one that runs does not notice.
async fn waits_beside(waiting: &Silo, running: &Silo, reasons: &[&str]) {
    let why = waiting
        .wait_condition(ConditionType::KeyReady, ConditionStatus::False, reasons)
        .await;
    assert!(!why.message.is_empty());
    waiting
        .wait_condition(
            ConditionType::CertificatesReady,
            ConditionStatus::True,
            &["CertificatesIssued"],
        )
        .await;
    let policies: Api<NetworkPolicy> = waiting.api();
    assert!(
        !policies
            .list(&ListParams::default())
            .await
            .expect("policies")
            .items
            .is_empty()
    );
    let pods = waiting.api::<Pod>().list(&ListParams::default()).await;
    assert_eq!(pods.expect("pods").items.len(), 0, "a pod without keys");
    let before = running.page().await;
    assert_eq!(before.status, 200);
    // Longer than the time between two looks for new versions of a key.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.page().await.status, 200);
    running.ready().await;
}

#[tokio::test]
async fn a_tenant_gets_its_keys_once_and_before_its_pods() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("own-keys");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "own-keys").await;
        let condition = silo
            .wait_condition(
                ConditionType::KeyReady,
                ConditionStatus::True,
                &["KeysInPlace"],
            )
            .await;
        let key = silo.ready().await.status.and_then(|status| status.key);
        let key = key.expect("the status names the key");
        assert!(condition.message.contains(&key.id), "{}", condition.message);
        assert_eq!(key.version, 1);
        // Another pass, by another spec: nothing is made a second time.
        silo.change(json!({"displayName": "Other Books"})).await;
        silo.ready().await;
        let acts = acts(&silo.name);
        let wanted = [
            "tenant-onboarded started",
            "tenant-onboarded finished",
            "key-created started",
            "key-created finished",
            "data-key-created started",
            "data-key-created finished",
        ];
        assert_eq!(counts(&acts, wanted), [1, 1, 1, 1, 2, 2], "{acts:#?}");
        assert_eq!(acts[0], wanted[0]);
    })
    .await;
}

#[tokio::test]
async fn a_change_is_announced_with_who_made_it_and_concluded_once() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("who");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "who").await;
        let forged = json!({"metadata": {"annotations": {"granary.dev/requested-by": "mallory"}}});
        let tenants: Api<Tenant> = Api::all(client.clone());
        tenants
            .patch(&silo.name, &PatchParams::default(), &Patch::Merge(forged))
            .await
            .expect("annotations may be written");
        silo.change(json!({"state": "Suspended"})).await;
        silo.wait("is suspended", |tenant| {
            tenant.status.as_ref().map(|status| status.phase) == Some(Phase::Suspended)
        })
        .await;
        silo.change(json!({"state": "Active"})).await;
        silo.ready().await;
        eventually("the last change is concluded", async || {
            acts(&silo.name).last().map(String::as_str) == Some("tenant-resumed finished")
        })
        .await;
        let me = whoami(&client).await;
        let wanted = ["tenant-onboarded", "tenant-suspended", "tenant-resumed"];
        for action in wanted {
            let about: Vec<_> = rows(&silo.name)
                .into_iter()
                .filter(|row| row["action"] == action)
                .collect();
            assert_eq!(about.len(), 2, "{action}: {about:#?}");
            assert_eq!(about[0]["id"], about[1]["id"]);
            for row in about {
                assert_eq!(row["actor"], me.as_str(), "{action}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_key_server_onboarding_waits_and_silos_run_on() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("no-keys");
    cleaning_up(&client, &test, async {
        let running = Silo::onboard(&client, &test, "no-keys").await;
        let waiting = without_key_server(&client, async {
            let waiting = Silo::create(&client, &test, &unique("no-keys"), json!({})).await;
            waits_beside(&waiting, &running, &["KeyServerUnavailable"]).await;
            waiting
        })
        .await;
        waiting.ready().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_registry_onboarding_waits_and_silos_run_on() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("no-registry");
    cleaning_up(&client, &test, async {
        let running = Silo::onboard(&client, &test, "no-registry").await;
        let waiting = without_registry(&client, async {
            let reasons = ["RegistryUnavailable", "RegistryBusy"];
            let waiting = Silo::create(&client, &test, &unique("no-registry"), json!({})).await;
            waits_beside(&waiting, &running, &reasons).await;
            // Nothing is done unaudited, to a silo that runs neither.
            running.change(json!({"state": "Suspended"})).await;
            running
                .wait_condition(ConditionType::Ready, ConditionStatus::False, &reasons)
                .await;
            assert_eq!(running.page().await.status, 200);
            running.change(json!({"state": "Active"})).await;
            waiting
        })
        .await;
        waiting.ready().await;
        running.ready().await;
        let once = counts(
            &acts(&waiting.name),
            ["tenant-onboarded started", "tenant-onboarded finished"],
        );
        assert_eq!(once, [1, 1]);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_that_is_gone_leaves_a_record_and_a_key_on_its_way_out() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("gone");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "gone").await;
        silo.delete().await;
        let wanted = [
            "tenant-offboarded started",
            "tenant-offboarded finished",
            "key-disabled finished",
            "key-deletion-scheduled finished",
        ];
        let old = acts(&silo.name);
        assert_eq!(counts(&old, wanted), [1, 1, 1, 1], "{old:#?}");
        assert_eq!(old.last().map(String::as_str), Some(wanted[1]));

        // The name is free again, for a tenant that has a key of its own.
        let heir = Silo::create(&client, &test, &silo.name, json!({})).await;
        let status = heir.ready().await.status.expect("a status");
        let key = status.key.expect("a key");
        assert!(!key.id.contains(&silo.uid), "{}", key.id);
        assert_ne!(heir.uid, silo.uid);
    })
    .await;
}

#[tokio::test]
async fn keys_are_in_memory() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("tmpfs");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "tmpfs").await;
        for (component, sidecars) in [("app", 1), ("database", 0)] {
            let pod = silo.pods(component).await.remove(0);
            let name = pod.name_any();
            let statuses = pod.status.unwrap_or_default();
            let fetching = statuses.init_container_statuses.unwrap_or_default();
            assert_eq!(fetching.len(), sidecars, "{name}");
            assert!(fetching.iter().all(|status| status.ready), "{name}");
            let volumes = pod.spec.unwrap_or_default().volumes.unwrap_or_default();
            let keys = volumes.iter().find(|volume| volume.name == "keys");
            let medium = keys.and_then(|keys| keys.empty_dir.as_ref()?.medium.clone());
            assert_eq!(medium.as_deref(), Some("Memory"), "{name}");
        }
    })
    .await;
}
