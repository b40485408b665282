//! One tenant's app, in this process, with its own database.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tenant_template::config::{DatabaseArgs, MigrateArgs, ServeArgs};
use tenant_template::migrate;
use tenant_template::serve::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::certificates::{Authority, mount};
use crate::client::Client;
use crate::cluster::Cluster;

pub const URL: &str = "https://acme.granary.localhost:8443";
pub const HOST: &str = "acme.granary.localhost:8443";

/// A database and the certificates for it, mounted as in a pod.
pub struct Silo {
    pub database: String,
    pub mounted: TempDir,
    pub authority: Authority,
}

impl Silo {
    pub async fn new() -> Self {
        let database = Cluster::shared().database().await;
        let silo = Self {
            database,
            mounted: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        silo.mount_app("app", 1);
        silo
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
        let server = Server::bind_checking_certificates(&self.serve_args(), Duration::ZERO)
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
