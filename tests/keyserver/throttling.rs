//! A KMS that throttles one tenant: the others do not notice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, Router};
use granary::effects::{Commit, Effect};
use granary::keys::{Aws, AwsSettings, KeyId, KeyState, Provider, ProviderName};
use granary::keyserver::Opening;
use granary::keyserver::client::ClientError;
use granary::registry::{keys, tenants};
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::callers::code;
use crate::plane::{Plane, Tenant};
use crate::postgres::Postgres;

/// What a KMS of AWS answers when it is asked for a key's state.
#[derive(Clone, Default)]
struct FakeKms {
    asked: Arc<Mutex<HashMap<String, usize>>>,
    throttled: Arc<Mutex<String>>,
}

impl FakeKms {
    async fn start(&self) -> String {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn asked(&self, key: &KeyId) -> usize {
        self.asked
            .lock()
            .unwrap()
            .get(key.as_str())
            .copied()
            .unwrap_or_default()
    }
}

async fn answer(State(kms): State<FakeKms>, body: String) -> (StatusCode, Json<Value>) {
    let request: Value = serde_json::from_str(&body).unwrap();
    let key = request["KeyId"].as_str().unwrap().to_owned();
    *kms.asked.lock().unwrap().entry(key.clone()).or_default() += 1;
    if *kms.throttled.lock().unwrap() == key {
        let body = json!({"__type": "ThrottlingException", "message": "Rate exceeded"});
        return (StatusCode::BAD_REQUEST, Json(body));
    }
    let metadata = json!({"KeyId": key, "Arn": key, "KeyState": "Enabled", "Enabled": true});
    (StatusCode::OK, Json(json!({"KeyMetadata": metadata})))
}

fn provider(url: &str) -> Provider {
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "test", "test", None, None, "test",
        )))
        .build();
    let settings = AwsSettings {
        plane: "granary".to_owned(),
        region: None,
        ca_file: std::path::PathBuf::new(),
        endpoint: Some(url.to_owned()),
        timeout: Duration::from_secs(2),
    };
    Provider::Aws(Aws::new(&sdk, &settings).unwrap())
}

/// A tenant whose key is at AWS, as the registry knows it.
async fn tenant(plane: &Plane, name: &str) -> (Tenant, KeyId) {
    let tenant = plane.tenant(name);
    let id: KeyId = format!("arn:aws:kms:eu-central-1:111122223333:key/{}", tenant.uid)
        .parse()
        .unwrap();
    let mut transaction = plane.registry.begin().await.unwrap();
    tenants::register(&mut transaction, tenant.uid, name, &tenant.namespace)
        .await
        .unwrap();
    keys::intend(&mut transaction, tenant.uid, "aws")
        .await
        .unwrap();
    keys::created(&mut transaction, tenant.uid, &id, 1)
        .await
        .unwrap();
    let effect = Effect::Operator(Commit::Noted("test"));
    transaction.commit(effect, None).await.unwrap();
    (tenant, id)
}

#[tokio::test]
async fn a_throttled_tenant_holds_up_nobody_else() {
    let kms = FakeKms::default();
    let url = kms.start().await;
    let plane = Plane::start_with(
        Postgres::shared(),
        ApiServer::start().await,
        &["--kms-provider", "aws"],
        |_, _| Opening::ready(ProviderName::Aws, provider(&url)),
    )
    .await;
    let ((acme, acme_key), (globex, _)) =
        (tenant(&plane, "acme").await, tenant(&plane, "globex").await);
    acme_key
        .as_str()
        .clone_into(&mut kms.throttled.lock().unwrap());
    let operator = plane.operate();

    let throttled = async {
        let answer = operator.keys(acme.uid, true).await;
        let transient = answer.as_ref().is_err_and(ClientError::is_transient);
        assert!(transient, "{answer:?}");
        assert_eq!(code(answer), "kms-unavailable");
    };
    let others = async {
        for _ in 0..20 {
            let began = Instant::now();
            let answer = operator.keys(globex.uid, true).await.unwrap();
            assert_eq!(answer.key.kms, Some(KeyState::Enabled));
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
        }
    };
    futures::join!(throttled, others);

    // Asked again at once, it waits its time without another call; then it is asked again, and works.
    let asked = kms.asked(&acme_key);
    assert_eq!(code(operator.keys(acme.uid, true).await), "kms-unavailable");
    assert_eq!(kms.asked(&acme_key), asked);
    kms.throttled.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = operator.keys(acme.uid, true).await.unwrap();
    assert_eq!(answer.key.kms, Some(KeyState::Enabled));
    let line = "granary_keyserver_kms_call_duration_seconds_count{operation=\"describe\",outcome=\"KmsThrottled\"}";
    assert!(plane.figure(line).await >= 1);
}
