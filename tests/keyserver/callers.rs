//! Who gets keys, and who does not. Every refusal stands beside the same request that is granted.

use granary::keys::Purpose;
use granary::keyserver::client::{Client, ClientError, OwnKey};
use rstest::rstest;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::plane::{NAMESPACE, Plane};
use crate::postgres::Postgres;

/// The code of the refusal.
pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    match result {
        Err(ClientError::Refused(problem)) => problem.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The active key's bytes.
pub async fn active(client: &Client, purpose: Purpose) -> [u8; 32] {
    let keys = client.unwrap(purpose, &[]).await.unwrap().keys;
    let key: &OwnKey = keys.iter().find(|key| key.active).unwrap();
    *key.key.as_ref().unwrap().expose()
}

#[tokio::test]
async fn each_pod_gets_the_keys_of_its_own_silo() {
    let plane = Plane::start().await;
    let (acme, globex) = (
        plane.tenant_with_keys("acme").await,
        plane.tenant_with_keys("globex").await,
    );
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let key = active(&app, Purpose::App).await;
    assert_eq!(
        active(&app, Purpose::App).await,
        key,
        "the key stays the same"
    );
    let migrate = plane.client(&plane.api.pod(&acme.namespace, "migrate"));
    assert_eq!(active(&migrate, Purpose::App).await, key);
    let database = plane.client(&plane.api.pod(&acme.namespace, "database"));
    assert_ne!(active(&database, Purpose::Backup).await, key);
    let other = plane.client(&plane.api.pod(&globex.namespace, "app"));
    assert_ne!(active(&other, Purpose::App).await, key);
    plane.stop().await;
}

#[rstest]
#[case("app", Purpose::Backup)]
#[case("migrate", Purpose::Backup)]
#[case("database", Purpose::App)]
#[case("default", Purpose::App)]
#[tokio::test]
async fn another_purpose_is_refused_and_audited(#[case] account: &str, #[case] purpose: Purpose) {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.client(&plane.api.pod(&acme.namespace, account));
    assert_eq!(code(pod.unwrap(purpose, &[]).await), "purpose-not-allowed");
    let rows = plane.rows("key-unwrapped").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].0, "refused");
}

#[tokio::test]
async fn the_operator_manages_and_never_reads() {
    let plane = Plane::start().await;
    let acme = plane.tenant("acme");
    // It may manage …
    let made = plane.ensure(&acme).await;
    assert_eq!(made.data_keys.len(), 2);
    // … and not read.
    for purpose in Purpose::ALL {
        let refused = plane.operate().unwrap(purpose, &[]).await;
        assert_eq!(code(refused), "operator-may-not-unwrap");
    }
    // Its account's name in a silo is worth nothing, nor is another account of the plane.
    for (namespace, account) in [
        (acme.namespace.as_str(), "granary-operator"),
        (NAMESPACE, "granary-keyserver"),
        (acme.namespace.as_str(), "app"),
    ] {
        let pod = plane.client(&plane.api.pod(namespace, account));
        assert_eq!(code(pod.keys(acme.uid, false).await), "not-operator");
        assert_eq!(code(pod.disable(acme.uid).await), "not-operator");
        assert_eq!(code(pod.prove(acme.uid).await), "not-operator");
    }
    assert!(plane.operate().keys(acme.uid, true).await.is_ok());
    let refused: Vec<_> = plane
        .audit()
        .await
        .into_iter()
        .filter(|row| row.phase == "refused")
        .map(|row| (row.actor, row.action))
        .collect();
    assert_eq!(refused.len(), 2 + 3 * 3, "{refused:?}");
    assert_eq!(
        refused[0],
        (
            "system:serviceaccount:granary-system:granary-operator".to_owned(),
            "key-unwrapped".to_owned()
        )
    );
}

/// What the API server says of the token.
#[rstest]
#[case::expired(|status: &mut Value| *status = json!({"authenticated": false, "error": "token has expired"}), "token-refused")]
#[case::for_the_api_server(|status: &mut Value| status["audiences"] = json!(["https://kubernetes.default.svc"]), "token-refused")]
#[case::a_person(|status: &mut Value| status["user"]["username"] = json!("alice"), "token-refused")]
#[case::bound_to_nothing(|status: &mut Value| status["user"]["extra"] = json!({}), "token-refused")]
#[tokio::test]
async fn a_token_that_is_not_vouched_for_is_refused(
    #[case] change: fn(&mut Value),
    #[case] expected: &str,
) {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let client = plane.client(&pod);
    active(&client, Purpose::App).await;
    plane.api.change_token(&pod, change);
    assert_eq!(code(client.unwrap(Purpose::App, &[]).await), expected);
}

#[rstest]
#[case::on_its_way_out(|pod: &mut Value| pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z"))]
#[case::ended(|pod: &mut Value| pod["status"]["phase"] = json!("Succeeded"))]
#[case::a_namesake(|pod: &mut Value| pod["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000"))]
#[case::another_account(|pod: &mut Value| pod["spec"]["serviceAccountName"] = json!("database"))]
#[tokio::test]
async fn a_pod_that_does_not_run_gets_nothing(#[case] change: fn(&mut Value)) {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let client = plane.client(&pod);
    active(&client, Purpose::App).await;
    plane.api.change_pod(&pod, change);
    assert_eq!(code(client.unwrap(Purpose::App, &[]).await), "pod-gone");
    let rows = plane.rows("key-unwrapped").await;
    assert_eq!(rows.last().unwrap().0, "refused", "{rows:?}");
}

#[tokio::test]
async fn a_stolen_token_dies_with_its_pod() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let client = plane.client(&pod);
    active(&client, Purpose::App).await;
    plane.api.remove_pod(&pod);
    assert_eq!(code(client.unwrap(Purpose::App, &[]).await), "pod-gone");
}

#[tokio::test]
async fn a_namespace_is_a_silo_only_if_its_tenant_says_so() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let inside = plane.client(&plane.api.pod(&acme.namespace, "app"));
    active(&inside, Purpose::App).await;
    // Right account, in namespaces of other people's making.
    for namespace in [
        "default",
        "silo-acme-0000000000",
        "silo-acme",
        "silo--",
        NAMESPACE,
    ] {
        let outside = plane.client(&plane.api.pod(namespace, "app"));
        let refused = outside.unwrap(Purpose::App, &[]).await;
        assert_eq!(code(refused), "not-in-silo", "{namespace}");
    }
    // A status that names another namespace makes that no silo: the name has to come from the UID.
    plane.api.change_tenant("acme", |tenant| {
        tenant["status"]["namespace"] = json!("default");
    });
    let outside = plane.client(&plane.api.pod("default", "app"));
    assert_eq!(code(outside.unwrap(Purpose::App, &[]).await), "not-in-silo");
    assert_eq!(code(inside.unwrap(Purpose::App, &[]).await), "not-in-silo");
}

#[tokio::test]
async fn a_namesake_of_an_offboarded_tenant_gets_nothing_of_it() {
    let plane = Plane::start().await;
    let old = plane.tenant_with_keys("acme").await;
    let old_pod = plane.client(&plane.api.pod(&old.namespace, "app"));
    active(&old_pod, Purpose::App).await;
    plane.api.remove_tenant("acme");
    let new = plane.tenant("acme");
    assert_ne!(new.namespace, old.namespace);
    // The old pod's token and namespace lead nowhere, the new pod has no keys yet.
    assert_eq!(code(old_pod.unwrap(Purpose::App, &[]).await), "not-in-silo");
    let new_pod = plane.client(&plane.api.pod(&new.namespace, "app"));
    assert_eq!(code(new_pod.unwrap(Purpose::App, &[]).await), "no-key-yet");
}

#[tokio::test]
async fn tenants_that_the_watch_has_shown_cost_no_call() {
    let api = ApiServer::start().await;
    let (uid, namespace) = api.tenant("acme");
    let plane = Plane::start_on(Postgres::shared(), api, &[]).await;
    let acme = crate::plane::Tenant {
        name: "acme".to_owned(),
        uid: granary::keys::TenantUid(uid),
        namespace,
    };
    plane.ensure(&acme).await;
    let pod = plane.client(&plane.api.pod(&acme.namespace, "app"));
    active(&pod, Purpose::App).await;
    let single = "/apis/granary.dev/v1alpha1/tenants/";
    assert_eq!(plane.api.asked(single), 0);
    // One that came since is read.
    let globex = plane.tenant_with_keys("globex").await;
    let pod = plane.client(&plane.api.pod(&globex.namespace, "app"));
    active(&pod, Purpose::App).await;
    assert_eq!(plane.api.asked(single), 1);
}
