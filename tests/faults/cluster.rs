//! etcd, an API server and the controllers that end namespaces and make pods; no nodes.

use std::fs;
use std::path::{Path, PathBuf};

use granary::api::{Plan, crds};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::postgres::{Authority, free_port};

/// Namespace of the plane.
pub const NAMESPACE: &str = "granary-system";

/// The plan of all tenants.
pub const PLAN: &str = "small";

/// The controllers that matter to a silo without nodes.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,resourcequota-controller,\
    persistentvolumeclaim-protection-controller,deployment-controller,replicaset-controller,\
    statefulset-controller,job-controller";

/// A token that the API server takes for its administrator.
const TOKEN: &str = "a-token-of-this-test";

/// A cluster without nodes. It ends with the process.
pub struct Cluster {
    pub client: Client,
    _daemons: [Daemon; 3],
}

impl Cluster {
    /// Starts it with its files in this folder, which goes when it ends. `authority` signs the API server's certificate.
    pub async fn start(authority: &Authority, folder: &Path) -> Self {
        let files = Files(folder);
        let port = free_port();
        files.write(authority, port);
        let (etcd, url) = etcd(files);
        let mut api_server = api_server(files, &url, port);
        let config = config(files).await;
        let client = Client::try_from(config).unwrap();
        let asked = client.clone();
        let answers = async || {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            asked.request_text(request).await.is_ok()
        };
        api_server.wait(answers).await;
        let controllers = controllers(files);
        prepare(&client).await;
        Self {
            client,
            _daemons: [etcd, api_server, controllers],
        }
    }
}

/// The folder with everything that the programs read.
#[derive(Clone, Copy)]
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn path(self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(self, authority: &Authority, port: u16) {
        let server = authority.server();
        let accounts = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://localhost:{port}"), "certificate-authority": self.path("ca.crt"),
            }}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        for (name, content) in [
            ("ca.crt", authority.pem()),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("tokens", format!("{TOKEN},admin,admin,system:masters\n")),
            ("kubeconfig", kubeconfig.to_string()),
        ] {
            fs::write(self.path(name), content).unwrap();
        }
    }
}

/// The programs, as `cargo xtask cluster` builds them.
fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("GRANARY_KUBERNETES").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set");
            let kubectl = Path::new(&home).join(".cache/granary/bin/kubectl");
            let link = fs::read_link(&kubectl)
                .expect("`cargo xtask cluster up` was run, or GRANARY_KUBERNETES is set");
            link.parent().unwrap().to_owned()
        },
        PathBuf::from,
    );
    folder.join(name)
}

fn etcd(files: Files) -> (Daemon, String) {
    let (client, peer) = (url(), url());
    let arguments = [
        format!("--data-dir={}", files.path("etcd")),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    (
        Daemon::start_last(&program("etcd"), &arguments, files.0),
        client,
    )
}

fn url() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

fn api_server(files: Files, etcd: &str, port: u16) -> Daemon {
    let arguments = [
        format!("--etcd-servers={etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", files.path("server.crt")),
        format!("--tls-private-key-file={}", files.path("server.key")),
        format!("--token-auth-file={}", files.path("tokens")),
        // Who may write what is tested on the whole cluster.
        "--authorization-mode=AlwaysAllow".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", files.path("accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            files.path("accounts.key")
        ),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    Daemon::start(&program("kube-apiserver"), &arguments, files.0)
}

fn controllers(files: Files) -> Daemon {
    let arguments = [
        format!("--kubeconfig={}", files.path("kubeconfig")),
        format!("--controllers={CONTROLLERS}"),
        "--leader-elect=false".to_owned(),
        format!("--secure-port={}", free_port()),
        "--bind-address=127.0.0.1".to_owned(),
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
        "--concurrent-namespace-syncs=30".to_owned(),
        "--profiling=false".to_owned(),
    ];
    Daemon::start(&program("kube-controller-manager"), &arguments, files.0)
}

async fn config(files: Files<'_>) -> Config {
    let kubeconfig = Kubeconfig::read_from(files.path("kubeconfig")).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

/// What has to be there before any tenant.
async fn prepare(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crds().into_iter().chain(gateway_api()) {
        create(&definitions, &definition).await;
    }
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    create(
        &Api::<Namespace>::all(client.clone()),
        &parse::<Namespace>(namespace),
    )
    .await;
    let class = json!({
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "granary.dev/none", "volumeBindingMode": "WaitForFirstConsumer",
    });
    create(
        &Api::<StorageClass>::all(client.clone()),
        &parse::<StorageClass>(class),
    )
    .await;
    // The API server serves a kind a moment after its definition.
    let plans: Api<Plan> = Api::all(client.clone());
    while plans
        .create(&PostParams::default(), &parse(plan()))
        .await
        .is_err()
    {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The three kinds of the Gateway API that the operator looks at; their content is tested on the whole cluster.
fn gateway_api() -> impl Iterator<Item = CustomResourceDefinition> {
    [
        ("Gateway", "gateways"),
        ("HTTPRoute", "httproutes"),
        ("BackendTLSPolicy", "backendtlspolicies"),
    ]
    .into_iter()
    .map(|(kind, plural)| {
        let group = "gateway.networking.k8s.io";
        parse(json!({
            "metadata": {
                "name": format!("{plural}.{group}"),
                "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"},
            },
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        }))
    })
}

fn plan() -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Plan", "metadata": {"name": PLAN},
        "spec": {
            "app": {"image": image("cashbook", 'a'), "replicas": 1, "cpu": "250m", "memory": "64Mi"},
            "database": {"cpu": "500m", "memory": "128Mi", "storage": "1024Mi", "connections": 25},
        },
    })
}

/// An image by digest, which nobody pulls.
pub fn image(name: &str, digit: char) -> String {
    format!(
        "registry.example/{name}@sha256:{}",
        digit.to_string().repeat(64)
    )
}

/// Creates an object that is not there yet.
pub async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    api.create(&PostParams::default(), object).await.unwrap()
}

/// A typed object out of JSON.
pub fn parse<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
