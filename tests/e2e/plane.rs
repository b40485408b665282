//! The plane that all tests share: who disturbs it takes it for itself.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use crate::support::PLANE;
use crate::support::{eventually, wait_for};

/// Name of the operator's Deployment and of its Lease.
const OPERATOR: &str = "granary-operator";

static PLANE_IN_USE: RwLock<()> = RwLock::const_new(());

/// Keeps others from disturbing the plane.
pub type InUse = RwLockReadGuard<'static, ()>;

/// For tests that need the operator and the gateway to work.
pub async fn shared() -> InUse {
    PLANE_IN_USE.read().await
}

/// The same for tests without a runtime.
pub fn shared_blocking() -> InUse {
    PLANE_IN_USE.blocking_read()
}

/// For tests that stop or break the operator or the gateway.
pub async fn exclusive() -> RwLockWriteGuard<'static, ()> {
    PLANE_IN_USE.write().await
}

fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), PLANE)
}

/// The operator's pods.
pub fn pods(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), PLANE)
}

/// Selects the operator's pods.
pub fn operator_pods() -> ListParams {
    ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"))
}

/// The image that the operator runs.
pub async fn operator_image(client: &Client) -> String {
    let deployment = deployments(client)
        .get(OPERATOR)
        .await
        .expect("the operator");
    let template = deployment.spec.expect("a spec").template;
    let container = template.spec.expect("a pod").containers.remove(0);
    container.image.expect("an image")
}

/// The pod that holds the Lease; empty if none does.
pub async fn leader(client: &Client) -> String {
    let leases: Api<Lease> = Api::namespaced(client.clone(), PLANE);
    let lease = leases.get(OPERATOR).await.expect("the lease");
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default()
}

/// Waits until a pod other than this one leads.
pub async fn wait_for_other_leader(client: &Client, old: &str) -> String {
    eventually("another replica leads", async || {
        let now = leader(client).await;
        !now.is_empty() && now != old
    })
    .await;
    leader(client).await
}

/// Sets the number of operator pods and waits until it is reached.
pub async fn scale(client: &Client, replicas: i32) {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let deployments = deployments(client);
    deployments
        .patch_scale(OPERATOR, &PatchParams::default(), &patch)
        .await
        .expect("the operator can be scaled");
    let reached = |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            status.observed_generation == deployment.metadata.generation
                && status.ready_replicas.unwrap_or_default() == replicas
                && status.replicas.unwrap_or_default() == replicas
        })
    };
    wait_for(deployments, OPERATOR, "has its replicas", reached).await;
    if replicas == 0 {
        eventually("the operator's pods are gone", async || {
            let left = pods(client).list(&operator_pods()).await.expect("pods");
            left.items.is_empty()
        })
        .await;
    }
}

/// Waits until both replicas are ready.
pub async fn whole(client: &Client) {
    let ready = |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            status.ready_replicas >= deployment.spec.as_ref().and_then(|spec| spec.replicas)
        })
    };
    wait_for(deployments(client), OPERATOR, "is whole", ready).await;
}

/// Kills a pod of the operator at once, as a crash does.
pub async fn kill(client: &Client, pod: &str) {
    let at_once = kube::api::DeleteParams::default().grace_period(0);
    pods(client).delete(pod, &at_once).await.expect("the pod");
}

/// Kills every pod of the operator at once.
pub async fn kill_all(client: &Client) {
    for pod in pods(client).list(&operator_pods()).await.expect("pods") {
        kill(client, &pod.name_any()).await;
    }
}
