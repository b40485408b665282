//! What the operator keeps in its own namespace, and what it may not touch there or elsewhere.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, ResourceExt};
use serde_json::json;

use crate::audit::Audit;
use crate::plane::{exclusive, shared};
use crate::support::{PLANE, client, eventually, unique};

/// Secrets with certificates of the plane.
const CERTIFICATES: [&str; 5] = [
    "granary-plane-ca",
    "granary-registry-tls",
    "granary-keyserver-tls",
    "granary-operator-tls",
    "granary-auditor-tls",
];

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), PLANE)
}

/// A client that the API server takes for this service account of the plane.
async fn as_account(name: &str) -> Client {
    let mut config = Config::infer().await.expect("KUBECONFIG");
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{PLANE}:{name}"));
    Client::try_from(config).expect("a client")
}

fn refusal<T>(answer: kube::Result<T>) -> String {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => status.message,
        Err(error) => panic!("no refusal: {error:?}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test]
async fn a_certificate_of_the_plane_that_is_lost_is_made_again() {
    // Others must not find registry and key server with new certificates in the middle of what they do.
    let _plane = exclusive().await;
    let secrets = secrets(&client().await);
    let uid = async |name: &str| {
        secrets
            .get_opt(name)
            .await
            .expect("an answer")
            .map(|secret| secret.uid())
    };
    let root_key = uid("granary-root-key").await;
    let authority = secrets
        .get("granary-plane-ca")
        .await
        .expect("it is there")
        .data;
    let lost = uid("granary-auditor-tls").await;
    secrets
        .delete("granary-auditor-tls", &DeleteParams::default())
        .await
        .expect("it is deleted");
    eventually("the Secret is made again", async || {
        let now = uid("granary-auditor-tls").await;
        now.is_some() && now != lost
    })
    .await;
    let kept = secrets
        .get("granary-plane-ca")
        .await
        .expect("it is there")
        .data;
    assert_eq!(kept, authority, "the authority is not due");
    assert_eq!(uid("granary-root-key").await, root_key);
}

#[tokio::test]
async fn at_rest_the_planes_secrets_cost_no_write() {
    let _plane = shared().await;
    Audit::calm(&CERTIFICATES).await;
    let window = Audit::from_now();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let calls = window.of_operator_about(&CERTIFICATES);
    assert!(calls.is_empty(), "{calls:#?}");
}

#[tokio::test]
async fn the_root_key_cannot_be_changed() {
    let secrets = secrets(&client().await);
    if secrets
        .get_metadata_opt("granary-root-key")
        .await
        .expect("an answer")
        .is_none()
    {
        return; // A cluster whose keys are in a KMS.
    }
    let change = Patch::Merge(json!({"data": {"root.key": "AAAA"}}));
    let answer = secrets
        .patch("granary-root-key", &PatchParams::default(), &change)
        .await;
    assert!(
        matches!(&answer, Err(kube::Error::Api(status)) if status.message.contains("immutable")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_operator_writes_inside_silos_and_nowhere_else() {
    let operator = as_account("granary-operator").await;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let said = |message: String| {
        assert!(message.contains("writes inside silos"), "{message}");
    };
    let name = unique("taken-over");
    let config = |namespace: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}}))
            .expect("a ConfigMap")
    };
    for namespace in [PLANE, "kube-system", "default"] {
        let api = Api::namespaced(operator.clone(), namespace);
        said(refusal(api.create(&dry, &config(namespace)).await));
    }
    // A pod under the key server's identity, which could read what that may.
    let spy: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"x": "y"}},
            "template": {
                "metadata": {"labels": {"x": "y"}},
                "spec": {"serviceAccountName": "granary-keyserver", "containers": [{"name": "x", "image": "x"}]},
            },
        },
    }))
    .expect("a Deployment");
    let deployments: Api<Deployment> = Api::namespaced(operator.clone(), PLANE);
    said(refusal(deployments.create(&dry, &spy).await));

    let secrets = secrets(&operator);
    let gone = DeleteParams::default().dry_run();
    said(refusal(secrets.delete("granary-root-key", &gone).await));
    said(refusal(secrets.delete("granary-plane-ca", &gone).await));
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::apply("e2e").force()
    };
    let secret = |name: &str| {
        Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}))
    };
    said(refusal(
        secrets
            .patch(
                "granary-wildcard-tls",
                &params,
                &secret("granary-wildcard-tls"),
            )
            .await,
    ));
    // The positive control: its own.
    let own = secrets
        .patch(
            "granary-auditor-tls",
            &params,
            &secret("granary-auditor-tls"),
        )
        .await;
    assert!(own.is_ok(), "{own:?}");

    // Nor can it make a silo of a namespace that is none.
    let namespaces: Api<Namespace> = Api::all(operator);
    let label = Patch::Merge(json!({"metadata": {"labels": {"granary.dev/tenant-uid": "x"}}}));
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    said(refusal(
        namespaces.patch("kube-system", &params, &label).await,
    ));
    said(refusal(namespaces.delete(PLANE, &gone).await));
}

#[tokio::test]
async fn the_key_server_may_ask_who_somebody_is_and_nothing_else() {
    let api: Api<ClusterRole> = Api::all(client().await);
    let rules = api.get("granary-keyserver").await.expect("the role").rules;
    let said: Vec<String> = rules
        .expect("rules")
        .into_iter()
        .map(|rule| {
            let resources = rule.resources.unwrap_or_default().join(" ");
            format!("{} {resources}", rule.verbs.join(" "))
        })
        .collect();
    assert_eq!(
        said,
        ["create tokenreviews", "get pods", "get list watch tenants"]
    );
    let keyserver = as_account("granary-keyserver").await;
    refusal(secrets(&keyserver).get("granary-keyserver-tls").await);
    let own: Api<ConfigMap> = Api::namespaced(keyserver, PLANE);
    refusal(own.list(&kube::api::ListParams::default()).await);
}
