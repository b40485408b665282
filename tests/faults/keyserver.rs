//! The key server, in this process, with moto as its KMS; and how the operator reaches it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use clap::Parser;
use granary::https::server;
use granary::keys::{Aws, AwsSettings, Provider, ProviderName};
use granary::keyserver::{self, KeyServerSettings, Opening, Surroundings};
use granary::registry::{Registry, Role};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::{NAMESPACE, create, image, parse};
use crate::moto;
use crate::postgres::Postgres;

/// Account of the operator.
const OPERATOR: &str = "granary-operator";

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: KeyServerSettings,
}

/// A key server that serves as long as the process lives.
pub struct KeyServer {
    /// What its KMS is asked by the test itself.
    pub kms: Provider,
    /// Its URL.
    pub url: String,
    /// Files of the operator: `token` and `ca.crt`.
    pub files: PathBuf,
}

impl KeyServer {
    /// Starts it on this registry, with its files in a folder of this one.
    pub async fn start(
        client: &Client,
        postgres: &Postgres,
        database: &str,
        folder: &Path,
    ) -> Self {
        let files = folder.join("keyserver");
        fs::create_dir(&files).unwrap();
        let (leaf, app) = (
            postgres.authority.server(),
            postgres.authority.client("app"),
        );
        for (name, content) in [
            ("tls.crt", leaf.certificate),
            ("tls.key", leaf.key),
            ("client.crt", app.certificate),
            ("client.key", app.key),
            ("ca.crt", postgres.authority.pem()),
            ("token", token(client).await),
        ] {
            fs::write(files.join(name), content).unwrap();
        }
        let settings = settings(postgres, database, &files);
        let kms = kms();
        let surroundings = Surroundings {
            client: client.clone(),
            registry: Registry::connect(&postgres.settings(database, Role::App)).unwrap(),
            kms: Opening::ready(ProviderName::Aws, kms.clone()),
        };
        let listener = server::bind(0).await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        tokio::spawn(async move {
            let never = CancellationToken::new();
            keyserver::serve(&settings, surroundings, listener, never).await
        });
        Self { kms, url, files }
    }
}

fn settings(postgres: &Postgres, database: &str, files: &Path) -> KeyServerSettings {
    let port = postgres.port.to_string();
    let line = [
        "granary",
        "--kms-provider=aws",
        "--registry-host=localhost",
        "--registry-port",
        &port,
        "--registry-database",
        database,
        "--tls-dir",
        files.to_str().unwrap(),
    ];
    Arguments::parse_from(line).settings
}

/// AWS KMS as moto plays it.
fn kms() -> Provider {
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
        endpoint: Some(format!("http://{}", moto::address())),
        ca_file: PathBuf::new(),
        // moto answers one request at a time.
        timeout: Duration::from_mins(1),
    };
    Provider::Aws(Aws::new(&sdk, &settings).unwrap())
}

/// A token of the operator's pod, which only has to be there.
async fn token(client: &Client) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    create(&accounts, &parse(json!({"metadata": {"name": OPERATOR}}))).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = json!({
        "metadata": {"name": OPERATOR},
        "spec": {"serviceAccountName": OPERATOR, "containers": [{"name": "operator", "image": image("granary", 'c')}]},
    });
    let pod = create(&pods, &parse(pod)).await;
    let request: TokenRequest = parse(json!({
        "metadata": {},
        "spec": {
            "audiences": ["granary-keys"], "expirationSeconds": 4 * 3600,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": OPERATOR, "uid": pod.uid()},
        },
    }));
    let made = accounts
        .create_token_request(OPERATOR, &PostParams::default(), &request)
        .await
        .unwrap();
    made.status.unwrap().token
}
