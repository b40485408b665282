//! The app of one tenant, as far as a rotation sees it: a pod with an address, and what it answers at `/keyz`.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::routing::get;
use axum::{Json, Router};
use granary::https::files::ServerFiles;
use granary::https::server::Server;
use granary::keys::{Purpose, TenantUid};
use granary::registry::{Registry, data_keys};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::life::Life;

/// Port of the app.
const PORT: u16 = 8443;

/// An app that serves as long as this lives.
#[derive(Debug)]
pub struct App {
    _serving: DropGuard,
}

impl App {
    /// Gives the app's pod an address of this machine, and answers there.
    pub async fn start(life: &Life) -> Self {
        let address = address();
        let listener = TcpListener::bind((address, PORT)).await.unwrap();
        let (registry, uid) = (life.plane.registry.clone(), life.uid);
        let answer = move || async move { Json(keys(&registry, uid).await) };
        let stop = CancellationToken::new();
        let server = Server {
            listener,
            tls: certificate(life).await,
            router: Router::new().route("/keyz", get(answer)),
            connections: 16,
            per_address: 16,
        };
        tokio::spawn(server.serve(stop.clone()));
        introduce(life, address).await;
        Self {
            _serving: stop.drop_guard(),
        }
    }
}

/// An address of the loopback that nobody else uses.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

/// An app that has the newest key at once, and no rows.
async fn keys(registry: &Registry, uid: TenantUid) -> Value {
    let mut connection = registry.acquire().await.unwrap();
    let found = data_keys::of_tenant(&mut connection, uid).await.unwrap();
    let newest = found
        .iter()
        .filter(|key| key.context.purpose == Purpose::App)
        .map(|key| key.context.version)
        .max();
    json!({"active": newest, "stale": {}})
}

/// The certificate that the operator made for the app.
async fn certificate(life: &Life) -> Arc<ArcSwap<rustls::ServerConfig>> {
    let secrets: Api<Secret> = Api::namespaced(life.plane.client.clone(), &life.namespace);
    let secret = secrets.get("app-tls").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in secret.data.unwrap() {
        fs::write(folder.path().join(name), content.0).unwrap();
    }
    let config = ServerFiles::new(folder.path()).load().unwrap();
    Arc::new(ArcSwap::new(config))
}

/// Says what a kubelet would.
async fn introduce(life: &Life, address: Ipv4Addr) {
    let pods: Api<Pod> = Api::namespaced(life.plane.client.clone(), &life.namespace);
    let wanted = ListParams::default().labels("app.kubernetes.io/name=app");
    let pod = loop {
        let found = pods.list(&wanted).await.unwrap();
        if let Some(pod) = found.items.into_iter().next() {
            break pod;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let status = Patch::Merge(json!({"status": {"phase": "Running", "podIP": address}}));
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &status)
        .await
        .unwrap();
}
