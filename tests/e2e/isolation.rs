//! What pods of a silo can reach. Every probe that must not get through has one beside it that must.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};

use crate::plane::{PLANE, operator_image, shared};
use crate::silo::Silo;
use crate::support::{cleaning_up, client, marked, unique, wait_for};

/// Something to try to connect to.
#[derive(Clone)]
struct Target {
    what: &'static str,
    address: String,
    open: bool,
}

fn open(what: &'static str, address: String) -> Target {
    Target {
        what,
        address,
        open: true,
    }
}

fn closed(what: &'static str, address: String) -> Target {
    Target {
        what,
        address,
        open: false,
    }
}

/// Tries every target from one pod, each in a container of its own, and says which were not as expected.
async fn probe(
    client: &Client,
    namespace: &str,
    component: &str,
    targets: &[Target],
) -> Vec<&'static str> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let image = operator_image(client).await;
    let containers: Vec<Value> = targets
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let expected = if target.open { "open" } else { "closed" };
            json!({
                "name": format!("probe-{index}"),
                "image": image,
                "args": ["probe", "connect", target.address, "--expect", expected, "--within", "20s"],
                "resources": {"limits": {"cpu": "20m", "memory": "16Mi"}, "requests": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            })
        })
        .collect();
    let name = unique("probe");
    let pod = json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": component}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            // Never ready, so that no Service sends it requests.
            "readinessGates": [{"conditionType": "granary.dev/never"}],
            "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": containers,
        },
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("the probe is admitted");
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let pod = wait_for(pods, &name, "has ended", ended)
        .await
        .expect("the pod");
    let statuses = pod
        .status
        .and_then(|status| status.container_statuses)
        .unwrap_or_default();
    targets
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            let name = format!("probe-{index}");
            let status = statuses.iter().find(|status| status.name == name);
            let ended = status.and_then(|status| status.state.as_ref()?.terminated.as_ref());
            ended.is_none_or(|ended| ended.exit_code != 0)
        })
        .map(|(_, target)| target.what)
        .collect()
}

/// An address of this machine that pods can reach unless a policy forbids it.
async fn outside() -> (TcpListener, String) {
    let socket = UdpSocket::bind("0.0.0.0:0").await.expect("a socket");
    // Nothing is sent: this asks the kernel which of our addresses faces the pods.
    let pods = std::env::var("GRANARY_POD_ADDRESS").unwrap_or_else(|_| "10.244.0.1:9".to_owned());
    socket.connect(pods).await.expect("a route to the pods");
    let ours: IpAddr = socket.local_addr().expect("an address").ip();
    let listener = TcpListener::bind(SocketAddr::new(ours, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    (listener, address)
}

/// A namespace without any policy, from which what is not protected can be reached.
async fn control_namespace(client: &Client, test: &str) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": test}});
    let namespace = serde_json::from_value(marked(namespace, test)).expect("a namespace");
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("the namespace");
    let accounts =
        Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(client.clone(), test);
    wait_for(accounts, "default", "exists", |account: Option<&_>| {
        account.is_some()
    })
    .await;
    test.to_owned()
}

#[tokio::test]
async fn a_silo_reaches_its_own_database_and_nothing_else() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("wall");
    cleaning_up(&client, &test, async {
        let (here, there) = Silo::onboard_two(&client, &test, "wall").await;
        let control = control_namespace(&client, &test).await;
        let (listener, machine) = outside().await;
        let accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });

        let own_database = format!("{}:5432", here.pod_ip("database").await);
        let service: Service = there.get("app").await;
        let service = service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .expect("an address");
        let api: Service = Api::namespaced(client.clone(), "default")
            .get("kubernetes")
            .await
            .expect("the API");
        let api = api
            .spec
            .and_then(|spec| spec.cluster_ip)
            .expect("an address");
        let theirs = [
            closed(
                "their database",
                format!("{}:5432", there.pod_ip("database").await),
            ),
            closed(
                "their agent",
                format!("{}:8443", there.pod_ip("database").await),
            ),
            closed("their app", format!("{}:8443", there.pod_ip("app").await)),
            closed("their app's service", format!("{service}:443")),
        ];
        let beyond = [
            Target {
                what: "the API server",
                address: format!("{api}:443"),
                open: false,
            },
            Target {
                what: "the world",
                address: machine,
                open: false,
            },
        ];
        let beyond_open = beyond.clone().map(|target| Target {
            open: true,
            ..target
        });
        let theirs_open = [open("their own database", theirs[0].address.clone())];

        let keyserver = format!("{}:8443", plane_service(&client, "granary-keyserver").await);
        let registry = format!("{}:5432", plane_service(&client, "granary-registry").await);
        let from_app = [
            &theirs[..],
            &beyond,
            &[
                open("its own database", own_database.clone()),
                closed("its own agent", own_database.replace("5432", "8443")),
                open("the key server", keyserver.clone()),
                closed("the registry", registry.clone()),
            ],
        ]
        .concat();
        let from_control = [
            &theirs[..],
            &beyond_open,
            &[
                closed("the key server", keyserver),
                closed("the registry", registry),
            ],
        ]
        .concat();
        let (as_app, as_migrate, as_stranger, at_home) = tokio::join!(
            probe(&client, &here.namespace, "app", &from_app),
            probe(&client, &here.namespace, "migrate", &from_app),
            probe(&client, &control, "app", &from_control),
            probe(&client, &there.namespace, "migrate", &theirs_open),
        );
        accepting.abort();
        assert_eq!(as_app, Vec::<&str>::new(), "an app's pod");
        assert_eq!(as_migrate, Vec::<&str>::new(), "a migration's pod");
        assert_eq!(
            as_stranger,
            Vec::<&str>::new(),
            "a pod of another namespace"
        );
        assert_eq!(at_home, Vec::<&str>::new(), "a pod of their own");
    })
    .await;
}

/// The address of a Service of the plane.
async fn plane_service(client: &Client, name: &str) -> String {
    let service: Service = Api::namespaced(client.clone(), PLANE)
        .get(name)
        .await
        .expect("the plane's Service");
    service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .expect("an address")
}

#[tokio::test]
async fn a_database_reaches_nothing_but_the_key_server() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("mute");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "mute").await;
        let app = format!("{}:8443", silo.pod_ip("app").await);
        let itself = "127.0.0.1:5432";
        let api: Service = Api::namespaced(client.clone(), "default")
            .get("kubernetes")
            .await
            .expect("the API");
        let api = format!(
            "{}:443",
            api.spec
                .and_then(|spec| spec.cluster_ip)
                .expect("an address")
        );
        let keyserver = format!("{}:8443", plane_service(&client, "granary-keyserver").await);
        let registry = format!("{}:5432", plane_service(&client, "granary-registry").await);
        let (from_itself, to_keyserver, to_registry, to_app, to_server) = tokio::join!(
            silo.database_finds(itself, "open"),
            silo.database_finds(&keyserver, "open"),
            silo.database_finds(&registry, "closed"),
            silo.database_finds(&app, "closed"),
            silo.database_finds(&api, "closed"),
        );
        assert!(from_itself, "the probe itself does not work");
        assert!(to_keyserver, "the database cannot reach the key server");
        assert!(to_registry, "the database reaches the registry");
        assert!(to_app, "the database reaches its app");
        assert!(to_server, "the database reaches the API server");
    })
    .await;
}
