//! What the tests share: requests, waiting, names, and cleaning up.

use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::time::Duration;

use futures::FutureExt;
use granary::api::{Plan, Tenant};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::Status;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Namespace of the plane.
pub const PLANE: &str = "granary-system";

/// Label on every object that a test makes; its value is the test's own.
const LABEL: &str = "granary.dev/test";

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(90);

/// Pause between two looks at something that cannot be watched.
const PAUSE: Duration = Duration::from_millis(200);

/// A client for the cluster that `KUBECONFIG` names.
pub async fn client() -> Client {
    Client::try_default()
        .await
        .expect("KUBECONFIG names a cluster that can be reached")
}

/// A test's name on its objects, never used before.
pub fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{prefix}-{}", &id[id.len() - 10..])
}

/// `object` with the label of this test.
pub fn marked(object: Value, test: &str) -> Value {
    crate::specs::with(object, json!({"metadata": {"labels": {LABEL: test}}}))
}

/// `object` under another name.
pub fn named(object: Value, name: &str) -> Value {
    crate::specs::with(object, json!({"metadata": {"name": name}}))
}

/// Tenants and plans with the label of this test.
pub async fn leftovers(client: &Client, test: &str) -> Vec<String> {
    let marked = ListParams::default().labels(&format!("{LABEL}={test}"));
    let tenants: Api<Tenant> = Api::all(client.clone());
    let plans: Api<Plan> = Api::all(client.clone());
    let mut names: Vec<_> = tenants
        .list(&marked)
        .await
        .expect("tenants")
        .items
        .into_iter()
        .map(|object| object.metadata.name)
        .collect();
    names.extend(
        plans
            .list(&marked)
            .await
            .expect("plans")
            .items
            .into_iter()
            .map(|object| object.metadata.name),
    );
    names.into_iter().flatten().collect()
}

/// Runs a test and removes what it made, also when it fails.
pub async fn cleaning_up<F: Future<Output = ()>>(client: &Client, test: &str, body: F) {
    let outcome = AssertUnwindSafe(body).catch_unwind().await;
    remove(client, test).await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn remove(client: &Client, test: &str) {
    let tenants: Api<Tenant> = Api::all(client.clone());
    let plans: Api<Plan> = Api::all(client.clone());
    let marked = ListParams::default().labels(&format!("{LABEL}={test}"));
    let left = tenants.list(&marked).await;
    let left = left.map(|list| list.items).unwrap_or_default();
    futures::future::join_all(
        left.into_iter()
            .map(|tenant| remove_tenant(&tenants, tenant)),
    )
    .await;
    remove_namespaces(client, &marked).await;
    for plan in plans
        .list(&marked)
        .await
        .map(|list| list.items)
        .unwrap_or_default()
    {
        let _deleted = plans
            .delete(
                &plan.metadata.name.unwrap_or_default(),
                &DeleteParams::default(),
            )
            .await;
    }
}

/// What a test put into a namespace of its own goes with it.
async fn remove_namespaces(client: &Client, marked: &ListParams) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let left = namespaces.list(marked).await;
    for namespace in left.map(|list| list.items).unwrap_or_default() {
        let name = namespace.metadata.name.unwrap_or_default();
        let _deleted = namespaces.delete(&name, &DeleteParams::default()).await;
    }
}

/// Takes a tenant away as `granary offboard` does, and waits until it is gone.
async fn remove_tenant(tenants: &Api<Tenant>, tenant: Tenant) {
    let name = tenant.metadata.name.unwrap_or_default();
    let offboard = Patch::Merge(json!({"spec": {"state": "Offboarded"}}));
    let _patched = tenants
        .patch(&name, &PatchParams::default(), &offboard)
        .await;
    let _deleted = tenants.delete(&name, &DeleteParams::default()).await;
    let uid = tenant.metadata.uid.unwrap_or_default();
    let gone = await_condition(tenants.clone(), &name, is_deleted(&uid));
    let _waited = tokio::time::timeout(DEADLINE, gone).await;
}

/// Waits until `condition` holds for the object `name`.
pub async fn wait_for<K>(
    api: Api<K>,
    name: &str,
    what: &str,
    condition: impl Condition<K>,
) -> Option<K>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    let waited = tokio::time::timeout(DEADLINE, await_condition(api, name, condition)).await;
    waited
        .unwrap_or_else(|_| panic!("{name}: {what}: not after {DEADLINE:?}"))
        .expect("the watch works")
}

/// Asks again and again until it holds.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, asking).await.is_ok(),
        "{what}: not after {DEADLINE:?}"
    );
}

/// One request; the refusal is what the API server said.
pub async fn request(
    client: &Client,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Value, Box<Status>> {
    let content = if method == "PATCH" {
        "application/apply-patch+yaml"
    } else {
        "application/json"
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", content)
        .body(serde_json::to_vec(body).expect("JSON"))
        .expect("a request");
    match client.request::<Value>(request).await {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic!("{method} {path}: {error:?}"),
    }
}

/// Path of all objects of the kind of `object`.
pub fn collection(object: &Value) -> String {
    let plural = if object["kind"] == "Plan" {
        "plans"
    } else {
        "tenants"
    };
    format!("/apis/granary.dev/v1alpha1/{plural}")
}

/// Server-side apply as the test.
pub async fn apply(client: &Client, object: &Value, options: &str) -> Result<Value, Box<Status>> {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let path = format!(
        "{}/{name}?fieldManager=e2e&force=true{options}",
        collection(object)
    );
    request(client, "PATCH", &path, object).await
}

/// The output of `helm`, from the search path or Granary's cache.
pub fn helm(arguments: &[&str]) -> String {
    let cache = std::env::var("XDG_CACHE_HOME")
        .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap_or_default()));
    let path = format!(
        "{}:{cache}/granary/bin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new("helm")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path)
        .output()
        .expect("helm is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "helm {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
