//! One tenant's app, in this process, with its own database.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tenant_template::config::{DatabaseArgs, MigrateArgs, ServeArgs};
use tenant_template::migrate;
use tenant_template::serve::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::certificates::{Authority, mount};
use crate::client::Client;
use crate::cluster::Cluster;

pub const URL: &str = "https://acme.granary.localhost:8443";
pub const HOST: &str = "acme.granary.localhost:8443";

pub const TENANT: Uuid = Uuid::from_u128(0x4f1c_09ab_7d2e_4c3b_9a10_0123_4567_89ab);

/// A database, the certificates for it and the tenant's keys, mounted as in a pod.
pub struct Silo {
    pub database: String,
    pub mounted: TempDir,
    pub keys: TempDir,
    pub authority: Authority,
}

impl Silo {
    pub async fn new() -> Self {
        let database = Cluster::shared().database().await;
        let silo = Self {
            database,
            mounted: tempfile::tempdir().unwrap(),
            keys: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        silo.mount_app("app", 1);
        silo.put_key(1);
        silo.activate(1);
        silo
    }

    /// A silo whose keys have not arrived.
    pub async fn without_keys() -> Self {
        let silo = Self::new().await;
        fs::remove_dir_all(silo.keys.path().join("app")).unwrap();
        silo
    }

    /// Another process' view of the same silo.
    pub fn beside(&self) -> Self {
        let other = Self {
            database: self.database.clone(),
            mounted: tempfile::tempdir().unwrap(),
            keys: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        other.mount_app("app", 8);
        for version in [1, 2] {
            if self.keys.path().join(format!("app/{version}")).exists() {
                other.put_key(version);
            }
        }
        other.activate(1);
        other
    }

    /// The key of a version, which is the same in every silo: what it seals differs by the tenant.
    pub fn key(version: u8) -> [u8; 32] {
        std::array::from_fn(|at| version.wrapping_mul(31) ^ u8::try_from(at * 7).unwrap())
    }

    /// Puts a key where the pod's sidecar puts it.
    pub fn put_key(&self, version: u8) {
        self.put_in_keys(&version.to_string(), &Self::key(version));
    }

    /// Makes a version the one that writes.
    pub fn activate(&self, version: u8) {
        self.put_in_keys("active", version.to_string().as_bytes());
    }

    pub fn remove_key(&self, version: u8) {
        fs::remove_file(self.keys.path().join(format!("app/{version}"))).unwrap();
    }

    fn put_in_keys(&self, name: &str, content: &[u8]) {
        let dir = self.keys.path().join("app");
        fs::create_dir_all(&dir).unwrap();
        let new = dir.join(format!(".{name}"));
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o400)).unwrap();
        fs::rename(new, dir.join(name)).unwrap();
    }

    /// Certificates of the app: its server certificate, and a client certificate for `role`.
    pub fn mount_app(&self, role: &str, serial: u64) {
        let server = self.authority.server(&["localhost", "app.silo-acme-1.svc"]);
        let cluster = &Cluster::shared().authority;
        let client = cluster.client(role, serial);
        let files = [
            ("tls.crt", &server.certificate),
            ("tls.key", &server.key),
            ("ca.crt", &cluster.pem),
            ("client.crt", &client.certificate),
            ("client.key", &client.key),
        ];
        mount(
            self.mounted.path(),
            &files.map(|(name, content)| (name, content.as_str())),
        );
    }

    fn database_args(&self, user: &str, dir: &Path) -> DatabaseArgs {
        DatabaseArgs {
            host: "localhost".to_owned(),
            port: Cluster::shared().port,
            name: self.database.clone(),
            user: user.to_owned(),
            tls_mode: "verify-full".to_owned(),
            ca: dir.join("ca.crt"),
            cert: dir.join("client.crt"),
            key: dir.join("client.key"),
            socket_dir: std::env::temp_dir(),
        }
    }

    pub fn serve_args(&self) -> ServeArgs {
        ServeArgs {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls_dir: self.mounted.path().to_owned(),
            keys_dir: self.keys.path().to_owned(),
            tenant_uid: TENANT,
            display_name: "Acme <Farms> & Söns".to_owned(),
            environment: "staging".to_owned(),
            url: URL.parse().unwrap(),
            database: self.database_args("app", self.mounted.path()),
            log: "warn".parse().unwrap(),
        }
    }

    /// Runs the migrations as `owner`, with a certificate for `role`.
    pub async fn migrate_as(&self, role: &str, timeout: u64) -> Result<(), migrate::Error> {
        let dir = tempfile::tempdir().unwrap();
        let cluster = &Cluster::shared().authority;
        let client = cluster.client(role, 7);
        mount(
            dir.path(),
            &[
                ("ca.crt", &cluster.pem),
                ("client.crt", &client.certificate),
                ("client.key", &client.key),
            ],
        );
        let database = self.database_args("owner", dir.path());
        migrate::run(&MigrateArgs {
            timeout,
            database,
            log: "warn".parse().unwrap(),
        })
        .await
    }

    pub async fn migrate(&self) {
        self.migrate_as("owner", 30).await.unwrap();
    }

    pub async fn serve(self) -> App {
        let args = self.serve_args();
        self.serve_as(&args).await
    }

    /// Serves with other settings.
    pub async fn serve_as(self, args: &ServeArgs) -> App {
        let server = Server::bind_looking(args, Duration::ZERO, Duration::ZERO)
            .await
            .unwrap();
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        App {
            silo: self,
            address,
            stop,
            running,
        }
    }
}

/// The running app.
pub struct App {
    pub silo: Silo,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub running: JoinHandle<()>,
}

impl App {
    /// An app whose database is migrated.
    pub async fn started() -> Self {
        let silo = Silo::new().await;
        silo.migrate().await;
        silo.serve().await
    }

    pub fn client(&self) -> Client {
        Client::new(self.address, &self.silo.authority.pem)
    }

    /// Fills the book past the pages.
    pub async fn sql(&self, statement: &'static str) {
        let mut superuser = Cluster::shared().superuser(&self.silo.database).await;
        sqlx::raw_sql(statement)
            .execute(&mut superuser)
            .await
            .unwrap();
    }

    /// Asks the database as superuser.
    pub async fn query<T>(&self, statement: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let mut superuser = Cluster::shared().superuser(&self.silo.database).await;
        sqlx::query_scalar(statement)
            .fetch_one(&mut superuser)
            .await
            .unwrap()
    }
}
