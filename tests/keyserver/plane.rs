//! A key server with everything it needs, and the requests that tests make.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use granary::audit::{self, Filter, Record};
use granary::https::{client as https, server};
use granary::keys::{KmsSettings, TenantUid};
use granary::keyserver::client::{Client, ClientArgs, ClientFiles};
use granary::keyserver::wire::{EnsureRequest, TenantKeys};
use granary::keyserver::{self, KeyServerSettings, Opening, Surroundings};
use granary::registry::{Registry, Role};
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api_server::{ApiServer, Pod};
use crate::postgres::Postgres;

/// Namespace of the plane.
pub const NAMESPACE: &str = "granary-system";

/// A plane with a key server.
pub struct Plane {
    pub api: ApiServer,
    pub operator: Pod,
    pub registry: Registry,
    pub database: String,
    pub port: u16,
    files: TempDir,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

/// A tenant that the API server knows.
pub struct Tenant {
    pub name: String,
    pub uid: TenantUid,
    pub namespace: String,
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: KeyServerSettings,
}

impl Plane {
    /// On the PostgreSQL that all tests share.
    pub async fn start() -> Self {
        Self::start_on(Postgres::shared(), ApiServer::start().await, &[]).await
    }

    /// With an API server that knows something already, and with more arguments.
    pub async fn start_on(postgres: &Postgres, api: ApiServer, more: &[&str]) -> Self {
        Self::start_with(postgres, api, more, Opening::of).await
    }

    /// With another KMS than the local one.
    pub async fn start_with(
        postgres: &Postgres,
        api: ApiServer,
        more: &[&str],
        kms: impl FnOnce(KmsSettings, Registry) -> Opening,
    ) -> Self {
        let database = postgres.database().await;
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let (leaf, client) = (
            postgres.authority.server(),
            postgres.authority.client("app"),
        );
        for (name, content) in [
            ("tls.crt", leaf.certificate.as_bytes()),
            ("tls.key", leaf.key.as_bytes()),
            ("client.crt", client.certificate.as_bytes()),
            ("client.key", client.key.as_bytes()),
            ("ca.crt", postgres.authority.pem().as_bytes()),
            ("root.key", &[7; 32]),
        ] {
            fs::write(path(name), content).unwrap();
        }
        fs::set_permissions(path("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let port = postgres.port.to_string();
        let mut line: Vec<String> = [
            "granary",
            "--registry-host",
            "localhost",
            "--registry-port",
            &port,
            "--registry-database",
            &database,
        ]
        .map(str::to_owned)
        .into();
        line.extend(["--tls-dir".to_owned(), text(files.path().to_owned())]);
        line.extend(["--kms-root-key-file".to_owned(), text(path("root.key"))]);
        if !more.contains(&"--kms-provider") {
            line.extend(["--kms-provider", "local"].map(str::to_owned));
        }
        line.extend(more.iter().map(|&argument| argument.to_owned()));
        let settings = Arguments::parse_from(line).settings;
        let registry = Registry::connect(&settings.registry()).unwrap();
        let surroundings = Surroundings {
            client: kube::Client::try_from(kube::Config::new(api.url.parse().unwrap())).unwrap(),
            kms: kms(settings.kms.clone(), registry.clone()),
            registry,
        };
        let listener = server::bind(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let server = tokio::spawn(async move {
            keyserver::serve(&settings, surroundings, listener, stopping).await
        });
        // What is made from here on, the watch has not shown: the API server tells it nothing new.
        while api.asked("/apis/granary.dev/v1alpha1/tenants") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self {
            operator: api.pod(NAMESPACE, "granary-operator"),
            registry: postgres.registry(&database, Role::App),
            database,
            api,
            port,
            files,
            stop,
            server,
        }
    }

    /// Tells the server to stop, and waits until it has.
    pub async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }

    /// A tenant that has no keys yet.
    pub fn tenant(&self, name: &str) -> Tenant {
        let (uid, namespace) = self.api.tenant(name);
        Tenant {
            name: name.to_owned(),
            uid: TenantUid(uid),
            namespace,
        }
    }

    /// A tenant with keys.
    pub async fn tenant_with_keys(&self, name: &str) -> Tenant {
        let tenant = self.tenant(name);
        self.ensure(&tenant).await;
        tenant
    }

    /// Has the tenant's keys made.
    pub async fn ensure(&self, tenant: &Tenant) -> TenantKeys {
        self.operate()
            .ensure(tenant.uid, &tenant.request())
            .await
            .unwrap()
    }

    /// How a pod reaches the server, with a token file of its own.
    pub fn reach(&self, pod: &Pod) -> ClientArgs {
        let token_file = self.files.path().join(Uuid::new_v4().to_string());
        fs::write(&token_file, format!("{}\n", pod.token)).unwrap();
        ClientArgs {
            server: format!("https://localhost:{}", self.port),
            files: ClientFiles {
                token_file,
                ca_file: self.files.path().join("ca.crt"),
            },
        }
    }

    /// The server as a pod sees it.
    pub fn client(&self, pod: &Pod) -> Client {
        Client::new(&self.reach(pod)).unwrap()
    }

    /// The server as the operator sees it.
    pub fn operate(&self) -> Client {
        self.client(&self.operator)
    }

    /// Any request: status and body.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body.into().into())).unwrap();
        let roots = fs::read(self.files.path().join("ca.crt")).unwrap();
        let tls = https::client_config(&roots, None).unwrap();
        let address = format!("localhost:{}", self.port);
        let (status, body) =
            https::send(tls, &address, "localhost", request, Duration::from_secs(30))
                .await
                .unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status.as_u16(), value)
    }

    /// The file of the server's certificate.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Everything in the audit, oldest first.
    pub async fn audit(&self) -> Vec<Record> {
        let mut connection = self.registry.acquire().await.unwrap();
        audit::page(&mut connection, &Filter::default(), 0, 10_000)
            .await
            .unwrap()
    }

    /// The audit's rows of one action: phase and outcome.
    pub async fn rows(&self, action: &str) -> Vec<(String, Option<String>)> {
        let rows = self.audit().await;
        rows.into_iter()
            .filter(|row| row.action == action)
            .map(|row| (row.phase, row.outcome))
            .collect()
    }

    /// A count of `/metrics` by the whole beginning of its line.
    pub async fn figure(&self, line: &str) -> u64 {
        let (_, text) = self.request("GET", "/metrics", None, "").await;
        let text = text.as_str().unwrap().to_owned();
        text.lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
            .unwrap_or_default()
    }
}

impl Tenant {
    /// What the operator asks for.
    pub fn request(&self) -> EnsureRequest {
        EnsureRequest {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
        }
    }
}
