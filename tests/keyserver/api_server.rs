//! An API server that knows some tokens, pods and tenants, and answers what a real one would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use granary::api::SiloName;
use serde_json::{Value, json};
use uuid::Uuid;

/// What it knows.
#[derive(Default)]
pub struct World {
    /// The `status` of a review, by token.
    tokens: HashMap<String, Value>,
    /// Pods by `namespace/name`.
    pods: HashMap<String, Value>,
    /// Tenants by name.
    tenants: HashMap<String, Value>,
    /// Paths that were asked for, watches left out.
    asked: Vec<String>,
    /// Whether it fails everything.
    away: bool,
}

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub struct ApiServer {
    pub url: String,
    world: Arc<Mutex<World>>,
}

impl ApiServer {
    pub async fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let router = Router::new().fallback(answer).with_state(world.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, world }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A tenant with a silo; returns UID and namespace.
    pub fn tenant(&self, name: &str) -> (Uuid, String) {
        let uid = Uuid::new_v4();
        let namespace = SiloName::new(name, &uid.to_string()).to_string();
        let tenant = json!({
            "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant",
            "metadata": {"name": name, "uid": uid, "resourceVersion": "1"},
            "spec": {"plan": "small", "environment": "production", "state": "Active"},
            "status": {"phase": "Provisioning", "namespace": namespace},
        });
        self.world().tenants.insert(name.to_owned(), tenant);
        (uid, namespace)
    }

    /// Changes a tenant.
    pub fn change_tenant(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.world().tenants.get_mut(name).unwrap());
    }

    /// The tenant's resource goes.
    pub fn remove_tenant(&self, name: &str) {
        self.world().tenants.remove(name);
    }

    /// A running pod, and a token that is bound to it.
    pub fn pod(&self, namespace: &str, account: &str) -> Pod {
        let number = self.world().pods.len() + 1;
        let (name, uid) = (format!("{account}-{number}"), Uuid::new_v4());
        let token = format!("header.{}.signature", Uuid::new_v4().simple());
        let path = format!("{namespace}/{name}");
        self.world().pods.insert(
            path.clone(),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "uid": uid},
                "spec": {"serviceAccountName": account, "containers": []},
                "status": {"phase": "Pending"},
            }),
        );
        let review = json!({
            "authenticated": true, "audiences": ["granary-keys"],
            "user": {
                "username": format!("system:serviceaccount:{namespace}:{account}"),
                "extra": {
                    "authentication.kubernetes.io/pod-name": [name],
                    "authentication.kubernetes.io/pod-uid": [uid],
                    "authentication.kubernetes.io/credential-id": ["JTI=1"],
                },
            },
        });
        self.world().tokens.insert(token.clone(), review);
        Pod { path, token }
    }

    /// Changes a pod.
    pub fn change_pod(&self, pod: &Pod, change: impl FnOnce(&mut Value)) {
        change(self.world().pods.get_mut(&pod.path).unwrap());
    }

    /// A pod is gone.
    pub fn remove_pod(&self, pod: &Pod) {
        self.world().pods.remove(&pod.path);
    }

    /// Changes what the API server says of a pod's token.
    pub fn change_token(&self, pod: &Pod, change: impl FnOnce(&mut Value)) {
        change(self.world().tokens.get_mut(&pod.token).unwrap());
    }

    /// Everything fails, or works again.
    pub fn away(&self, away: bool) {
        self.world().away = away;
    }

    /// How often a path that begins so was asked for.
    pub fn asked(&self, path: &str) -> usize {
        let world = self.world();
        world
            .asked
            .iter()
            .filter(|asked| asked.starts_with(path))
            .count()
    }
}

/// A pod and its token.
#[derive(Clone, Debug)]
pub struct Pod {
    path: String,
    pub token: String,
}

async fn answer(
    State(world): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut world = world.lock().unwrap();
    if world.away {
        return status(500, "etcd is away");
    }
    if uri
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        // Nothing ever happens on it.
        return Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())
            .into_response();
    }
    world.asked.push(uri.path().to_owned());
    let path: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    match (method, path.as_slice()) {
        (Method::POST, ["apis", "authentication.k8s.io", "v1", "tokenreviews"]) => {
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(review["spec"]["audiences"], json!(["granary-keys"]));
            let token = review["spec"]["token"].as_str().unwrap();
            review["status"] = world.tokens.get(token).cloned().unwrap_or_else(
                || json!({"authenticated": false, "error": "invalid bearer token"}),
            );
            (StatusCode::CREATED, Json(review)).into_response()
        }
        (Method::GET, ["api", "v1", "namespaces", namespace, "pods", name]) => {
            found(world.pods.get(&format!("{namespace}/{name}")))
        }
        (Method::GET, ["apis", "granary.dev", "v1alpha1", "tenants"]) => {
            let items: Vec<_> = world.tenants.values().cloned().collect();
            Json(json!({
                "apiVersion": "granary.dev/v1alpha1", "kind": "TenantList",
                "metadata": {"resourceVersion": "1"}, "items": items,
            }))
            .into_response()
        }
        (Method::GET, ["apis", "granary.dev", "v1alpha1", "tenants", name]) => {
            found(world.tenants.get(*name))
        }
        (method, path) => panic!("the API server was asked to {method} {path:?}"),
    }
}

fn found(object: Option<&Value>) -> Response {
    object.map_or_else(
        || status(404, "not found"),
        |object| Json(object.clone()).into_response(),
    )
}

fn status(code: u16, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
        "reason": if code == 404 { "NotFound" } else { "InternalError" }, "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}
