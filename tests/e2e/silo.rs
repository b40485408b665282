//! A tenant of a test and its silo.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use granary::api::{
    Condition, ConditionStatus, ConditionType, LABEL_TENANT_UID, Phase, SiloName, Tenant,
};
use granary::https::client::{self as https, Target};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Secret};
use kube::api::{
    Api, ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, Patch, PatchParams,
};
use kube::core::GroupVersionKind;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::specs::with;
use crate::support::{self, eventually, marked, request, unique, wait_for};
use crate::web;

/// Longest wait for an agent's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every kind of which a silo has objects: group, version, kind.
pub const KINDS: [(&str, &str, &str); 18] = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "Endpoints"),
    ("", "v1", "LimitRange"),
    ("", "v1", "Namespace"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Pod"),
    ("", "v1", "ResourceQuota"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "StatefulSet"),
    ("batch", "v1", "Job"),
    ("gateway.networking.k8s.io", "v1", "BackendTLSPolicy"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
];

/// A tenant and where its silo is.
#[derive(Clone)]
pub struct Silo {
    pub client: Client,
    pub name: String,
    pub uid: String,
    pub namespace: String,
}

impl Silo {
    /// Makes a tenant, and does not wait.
    pub async fn create(client: &Client, test: &str, name: &str, spec: Value) -> Self {
        let tenant = json!({
            "apiVersion": "granary.dev/v1alpha1",
            "kind": "Tenant",
            "metadata": {"name": name},
            "spec": with(json!({"plan": "small", "displayName": format!("Books of {name}"), "deletionProtection": false}), spec),
        });
        let tenant = marked(tenant, test);
        let path = support::collection(&tenant);
        let made = request(client, "POST", &path, &tenant)
            .await
            .expect("the tenant is taken");
        let uid = made["metadata"]["uid"].as_str().expect("a UID").to_owned();
        Self {
            client: client.clone(),
            name: name.to_owned(),
            namespace: SiloName::new(name, &uid).to_string(),
            uid,
        }
    }

    /// Makes a tenant and waits until its page answers.
    pub async fn onboard(client: &Client, test: &str, prefix: &str) -> Self {
        let silo = Self::create(client, test, &unique(prefix), json!({})).await;
        silo.ready().await;
        silo
    }

    /// Two tenants that come up side by side.
    pub async fn onboard_two(client: &Client, test: &str, prefix: &str) -> (Self, Self) {
        tokio::join!(
            Self::onboard(client, test, prefix),
            Self::onboard(client, test, prefix)
        )
    }

    /// Waits until the operator says that the current spec is served.
    pub async fn ready(&self) -> Tenant {
        self.wait("is Ready", |tenant| {
            let status = tenant.status.as_ref();
            status.is_some_and(|status| {
                status.phase == Phase::Ready
                    && status.observed_generation == tenant.metadata.generation
            })
        })
        .await
    }

    /// Waits until the tenant is as `holds` wants it.
    pub async fn wait(&self, what: &str, holds: impl Fn(&Tenant) -> bool) -> Tenant {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        let condition = |tenant: Option<&Tenant>| tenant.is_some_and(&holds);
        wait_for(tenants, &self.name, what, condition)
            .await
            .expect("the tenant")
    }

    /// Waits until a condition has this status and one of these reasons.
    pub async fn wait_condition(
        &self,
        type_: ConditionType,
        status: ConditionStatus,
        reasons: &[&str],
    ) -> Condition {
        let find = |tenant: &Tenant| {
            let conditions = &tenant.status.as_ref()?.conditions;
            conditions
                .iter()
                .find(|condition| {
                    condition.type_ == type_
                        && condition.status == status
                        && reasons.contains(&condition.reason.as_str())
                })
                .cloned()
        };
        let what = format!("{type_:?} is {status:?} because of {reasons:?}");
        let tenant = self.wait(&what, |tenant| find(tenant).is_some()).await;
        find(&tenant).expect("it was there")
    }

    /// Changes the spec.
    pub async fn change(&self, spec: Value) {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": spec}));
        tenants
            .patch(&self.name, &PatchParams::default(), &patch)
            .await
            .expect("the change is taken");
    }

    /// Deletes the tenant and waits until it is gone.
    pub async fn delete(&self) {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        tenants
            .delete(&self.name, &DeleteParams::default())
            .await
            .expect("the tenant can be deleted");
        let gone = kube::runtime::conditions::is_deleted(&self.uid);
        wait_for(tenants, &self.name, "is gone", gone).await;
    }

    /// What browsers say as `Host`.
    pub async fn host(&self) -> String {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        let status = tenants.get(&self.name).await.expect("the tenant").status;
        let url = status.and_then(|status| status.url).expect("a URL");
        url.trim_start_matches("https://").to_owned()
    }

    /// The tenant's page.
    pub async fn page(&self) -> web::Answer {
        web::get(&self.host().await, "/").await.expect("an answer")
    }

    /// Waits until the page has this status.
    pub async fn page_turns(&self, status: u16) {
        let host = self.host().await;
        eventually(
            &format!("{host} answers {status}"),
            async || matches!(web::get(&host, "/").await, Ok(answer) if answer.status == status),
        )
        .await;
    }

    /// Objects of the silo's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One object of the silo's namespace.
    pub async fn get<K>(&self, name: &str) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>().get(name).await.expect(name)
    }

    /// Waits until an object of the silo's namespace is as `holds` wants it.
    pub async fn wait_object<K>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let condition = |object: Option<&K>| object.is_some_and(&holds);
        wait_for(self.api::<K>(), name, what, condition)
            .await
            .expect(name)
    }

    /// Entries of one of the silo's Secrets, as text.
    pub async fn secret(&self, name: &str) -> BTreeMap<String, String> {
        let secret: Secret = self.get(name).await;
        secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8(value.0).expect("PEM")))
            .collect()
    }

    /// Pods of a component that are not on their way out.
    pub async fn pods(&self, component: &str) -> Vec<Pod> {
        let selected = ListParams::default().labels(&format!("app.kubernetes.io/name={component}"));
        let pods = self.api::<Pod>().list(&selected).await.expect("pods");
        pods.items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    /// Address of a component's first pod.
    pub async fn pod_ip(&self, component: &str) -> String {
        let pods = self.pods(component).await;
        pods.iter()
            .find_map(|pod| pod.status.as_ref()?.pod_ip.clone())
            .unwrap_or_else(|| panic!("{}: no {component} pod has an address", self.name))
    }

    /// Everything in the cluster that belongs to the silo: by its label, in its namespace, or its volume.
    pub async fn objects(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let list = api.list(&ListParams::default()).await.expect(kind);
            for object in list {
                if object.labels().get(LABEL_TENANT_UID) == Some(&self.uid)
                    || object.namespace().as_deref() == Some(&self.namespace)
                    || (kind == "Namespace" && object.name_any() == self.namespace)
                {
                    let uid = object.uid().unwrap_or_default();
                    found.insert(format!("{kind} {} {uid}", object.name_any()));
                }
            }
        }
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        for volume in volumes.list(&ListParams::default()).await.expect("volumes") {
            let claim = volume
                .spec
                .as_ref()
                .and_then(|spec| spec.claim_ref.as_ref());
            if claim.is_some_and(|claim| claim.namespace.as_deref() == Some(&self.namespace)) {
                found.insert(format!("PersistentVolume {}", volume.name_any()));
            }
        }
        found
    }

    /// Whether connections from the database's own container to `address` are as expected: `open` or `closed`.
    pub async fn database_finds(&self, address: &str, expected: &str) -> bool {
        let command = [
            "/usr/bin/granary",
            "probe",
            "connect",
            address,
            "--expect",
            expected,
            "--within",
            "20s",
        ];
        let how = AttachParams::default().stdout(true).stderr(true);
        let mut process = self
            .api::<Pod>()
            .exec("database-0", command, &how)
            .await
            .expect("exec works");
        let status = process.take_status().expect("a status").await;
        status.and_then(|status| status.status).as_deref() == Some("Success")
    }

    /// What the database's agent answers to somebody without a certificate.
    pub async fn agent_says(&self, path: &'static str) -> String {
        let forward = self.forward("database-0", 8443).await;
        let bundle = self.secret("app-tls").await.remove("ca.crt");
        let tls =
            https::client_config(bundle.expect("a bundle").as_bytes(), None).expect("a bundle");
        let target = Target {
            address: forward.address.to_string(),
            server_name: "database".to_owned(),
            host: "database".to_owned(),
            path,
        };
        let answer = https::get(tls, &target, PATIENCE).await;
        let (_, body) = answer.expect("the agent answers");
        String::from_utf8_lossy(&body).into_owned()
    }

    /// A way to a port of a pod of the silo.
    pub async fn forward(&self, pod: &str, port: u16) -> Forward {
        forward(self.api::<Pod>(), pod, port).await
    }
}

/// A way to a port of a pod that no network policy is asked about: the kubelet's.
pub async fn forward(pods: Api<Pod>, pod: &str, port: u16) -> Forward {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let pod = pod.to_owned();
    let task = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (pods, pod) = (pods.clone(), pod.clone());
            tokio::spawn(async move {
                let mut forwarder = pods.portforward(&pod, &[port]).await?;
                if let Some(mut far) = forwarder.take_stream(port) {
                    // Either end may hang up at any time; the other one then sees it.
                    let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
                Ok::<_, kube::Error>(())
            });
        }
    });
    Forward { address, task }
}

/// A local address that leads into a pod, as long as it is kept.
pub struct Forward {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}
