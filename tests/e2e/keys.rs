//! Who gets data keys from the key server, asked with real tokens. Every refusal stands beside the same request that is
//! granted.

use std::collections::BTreeSet;
use std::time::Duration;

use granary::https::client as https;
use http::Request;
use http_body_util::Full;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::plane::{operator_pods, pods, shared};
use crate::silo::{Forward, Silo, forward};
use crate::support::{PLANE, cleaning_up, client, eventually, unique};

/// What tokens for the key server are made for.
const AUDIENCE: &str = "granary-keys";

/// Longest wait for an answer of the key server.
const PATIENCE: Duration = Duration::from_secs(20);

/// The key server, reached past all network policies.
pub struct KeyServer {
    forward: Forward,
    authorities: Vec<u8>,
}

impl KeyServer {
    pub async fn reach(client: &Client) -> Self {
        let selected = ListParams::default().labels("app.kubernetes.io/name=granary-keyserver");
        let found = pods(client).list(&selected).await.expect("pods");
        let pod = found.items.first().expect("a key server runs").name_any();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), PLANE);
        let secret = secrets.get("granary-keyserver-tls").await;
        let mut data = secret.expect("its certificate").data.unwrap_or_default();
        Self {
            forward: forward(pods(client), &pod, 8443).await,
            authorities: data.remove("ca.crt").expect("its authorities").0,
        }
    }

    /// Status and body of any request.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body).expect("JSON")
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "granary-keyserver")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(body.into()))
            .expect("a request");
        let tls = https::client_config(&self.authorities, None).expect("authorities");
        let name = format!("granary-keyserver.{PLANE}.svc");
        let address = self.forward.address.to_string();
        let (status, body) = https::send(tls, &address, &name, request, PATIENCE)
            .await
            .expect("the key server answers");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (status.as_u16(), body)
    }

    /// Asks for keys: the newest, or the status and the code of the refusal.
    pub async fn unwrap(&self, token: &str, purpose: &str) -> Result<String, (u16, String)> {
        let request = json!({"purpose": purpose});
        let (status, body) = self.ask("POST", "/v1/unwrap", token, &request).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if status == 200 {
            Ok(text(&body["keys"][0]["key"]))
        } else {
            Err((status, text(&body["code"])))
        }
    }
}

/// A token of an account, as the kubelet asks for them: bound to a pod, or to nothing.
async fn token(
    client: &Client,
    namespace: &str,
    account: &str,
    pod: Option<&Pod>,
    audience: &str,
) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            bound_object_ref: pod.map(|pod| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            expiration_seconds: Some(600),
        },
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .expect("a token");
    made.status.expect("a status").token
}

/// A token for the key server of a silo's first pod of this component.
pub async fn pod_token(silo: &Silo, component: &str) -> String {
    let pods = silo.pods(component).await;
    token(
        &silo.client,
        &silo.namespace,
        component,
        pods.first(),
        AUDIENCE,
    )
    .await
}

#[tokio::test]
async fn each_pod_gets_the_keys_of_its_own_silo_and_purpose() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("keys");
    cleaning_up(&client, &test, async {
        let (one, other) = Silo::onboard_two(&client, &test, "keys").await;
        let server = KeyServer::reach(&client).await;
        let mut keys = BTreeSet::new();
        for silo in [&one, &other] {
            let (app, database) = (
                pod_token(silo, "app").await,
                pod_token(silo, "database").await,
            );
            keys.insert(server.unwrap(&app, "app").await.expect("the app's key"));
            keys.insert(
                server
                    .unwrap(&database, "backup")
                    .await
                    .expect("the database's key"),
            );
            for (token, purpose) in [(&app, "backup"), (&database, "app")] {
                let refused = server.unwrap(token, purpose).await.expect_err(purpose);
                assert_eq!(refused, (403, "purpose-not-allowed".to_owned()));
            }
        }
        assert_eq!(keys.len(), 4, "no two are the same");
    })
    .await;
}

#[tokio::test]
async fn a_token_has_to_be_for_the_key_server_and_of_a_pod_that_runs() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("keys");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "keys").await;
        let server = KeyServer::reach(&client).await;
        let pod = silo.pods("app").await.remove(0);
        let ask = async |pod: Option<&Pod>, audience: &str| {
            let token = token(&client, &silo.namespace, "app", pod, audience).await;
            server.unwrap(&token, "app").await
        };
        ask(Some(&pod), AUDIENCE).await.expect("the app's key");
        let refused = Err((401, "token-refused".to_owned()));
        let api_server = "https://kubernetes.default.svc";
        assert_eq!(
            ask(Some(&pod), api_server).await,
            refused,
            "for the API server"
        );
        assert_eq!(ask(None, AUDIENCE).await, refused, "bound to no pod");

        let stolen = token(&client, &silo.namespace, "app", Some(&pod), AUDIENCE).await;
        let mut forged = stolen.clone();
        let last = forged.pop().expect("a character");
        forged.push(if last == 'A' { 'B' } else { 'A' });
        assert_eq!(
            server.unwrap(&forged, "app").await,
            refused,
            "with another signature"
        );

        server
            .unwrap(&stolen, "app")
            .await
            .expect("the pod still runs");
        silo.api::<Pod>()
            .delete(&pod.name_any(), &DeleteParams::default())
            .await
            .expect("the pod can be deleted");
        eventually("a token dies with its pod", async || {
            matches!(server.unwrap(&stolen, "app").await, Err((401, _)))
        })
        .await;
        // The pod that took its place gets the same key.
        silo.ready().await;
        eventually("the next pod gets keys", async || {
            let token = pod_token(&silo, "app").await;
            server.unwrap(&token, "app").await.is_ok()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_operator_manages_keys_and_reads_none() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("keys");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "keys").await;
        let server = KeyServer::reach(&client).await;
        let found = pods(&client).list(&operator_pods()).await.expect("pods");
        let operator = token(
            &client,
            PLANE,
            "granary-operator",
            found.items.first(),
            AUDIENCE,
        )
        .await;
        let app = pod_token(&silo, "app").await;
        let path = format!("/v1/tenants/{}/keys", silo.uid);

        let (status, keys) = server.ask("GET", &path, &operator, &Value::Null).await;
        assert_eq!(
            (status, &keys["key"]["state"]),
            (200, &json!("enabled")),
            "{keys}"
        );
        assert!(
            keys["dataKeys"]
                .as_array()
                .is_some_and(|keys| keys.len() >= 2),
            "{keys}"
        );
        for purpose in ["app", "backup"] {
            let refused = server.unwrap(&operator, purpose).await.expect_err(purpose);
            assert_eq!(refused, (403, "operator-may-not-unwrap".to_owned()));
        }
        server.unwrap(&app, "app").await.expect("the app's key");
        for action in ["disable", "prove"] {
            let path = format!("/v1/tenants/{}/{action}", silo.uid);
            let (status, body) = server.ask("POST", &path, &app, &Value::Null).await;
            assert_eq!(
                (status, &body["code"]),
                (403, &json!("not-operator")),
                "{body}"
            );
        }
        server
            .unwrap(&app, "app")
            .await
            .expect("nothing was disabled");
    })
    .await;
}
