//! A throw-away PostgreSQL for tests: roles and rights as in the database image, TLS with client certificates. It ends,
//! and its files go, when the test process does.
//!
//! Needs Debian's `postgresql` package; as root it runs the server as user `postgres` or `nobody`.

#![allow(dead_code, reason = "not every test program needs all of it")]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use granary::registry::{Endpoint, Identity, Registry, RegistrySettings, Role};
use nix::unistd::{User, geteuid};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// What the database image makes of an empty cluster.
const CLUSTER: &str = include_str!("../../xtask/images/postgres/cluster.sql");
const APP: &str = include_str!("../../xtask/images/postgres/app.sql");

const HBA: &str = "local all postgres trust\n\
    hostssl all owner all cert\n\
    hostssl all app all cert\n\
    hostssl all auditor all cert\n";

/// Fast, because nothing of it has to survive a power cut.
pub const VOLATILE: [&str; 3] = [
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
];

/// A server.
pub struct Postgres {
    pub authority: Authority,
    pub port: u16,
    folder: PathBuf,
    settings: Vec<String>,
    /// A shell that holds the server for as long as our end of its standard input is open: however this process ends,
    /// the server ends after it.
    shell: Option<Child>,
}

impl Postgres {
    /// One for all tests of this process. Each test makes its own [`database`](Self::database).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&VOLATILE))
    }

    /// A server of its own, with more settings (`name=value`).
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("granary-postgres-")
            .tempdir()
            .unwrap()
            .keep();
        let authority = Authority::new();
        authority.server().write(&folder, "server");
        for role in ["owner", "app", "auditor"] {
            authority.client(role).write(&folder, role);
        }
        fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
        fs::write(folder.join("hba"), HBA).unwrap();
        give_to_server(&folder);
        let mut postgres = Self {
            authority,
            port: free_port(),
            folder,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            shell: None,
        };
        postgres.run("initdb");
        apart(postgres.set_up());
        postgres
    }

    /// Starts the server again after [`stop`](Self::stop).
    pub fn restart(&mut self) {
        self.run("true");
        apart(self.wait());
    }

    /// Stops the server; clients are thrown out.
    pub fn stop(&mut self) {
        let mut shell = self.shell.take().expect("the server runs");
        writeln!(shell.stdin.take().unwrap(), "stop").unwrap();
        shell.wait().unwrap();
    }

    /// Runs the server, after `first`.
    fn run(&mut self, first: &str) {
        let folder = self.folder.display();
        let port = self.port;
        let mut settings: Vec<String> = [
            format!("port={port}"),
            format!("unix_socket_directories={folder}"),
            format!("hba_file={folder}/hba"),
            format!("ssl_ca_file={folder}/ca.crt"),
            format!("ssl_cert_file={folder}/server.crt"),
            format!("ssl_key_file={folder}/server.key"),
        ]
        .into();
        settings.extend(
            [
                "listen_addresses=127.0.0.1",
                "ssl=on",
                "ssl_min_protocol_version=TLSv1.3",
                "shared_buffers=16MB",
                "max_connections=200",
                "max_wal_senders=0",
                "wal_level=minimal",
                "timezone=UTC",
            ]
            .map(str::to_owned),
        );
        settings.extend(self.settings.clone());
        let options: Vec<String> = settings
            .iter()
            .map(|setting| format!("-c '{setting}'"))
            .collect();
        let bin = bin_dir();
        let bin = bin.display();
        let script = format!(
            "initdb() {{ '{bin}/initdb' -D '{folder}/data' -U postgres -A trust -E UTF8 --locale=C --no-sync; }}\n\
             {first} >'{folder}/log' 2>&1 || exit 1\n\
             '{bin}/postgres' -D '{folder}/data' {} >>'{folder}/log' 2>&1 &\n\
             server=$!; read line; kill -INT $server; wait $server; [ \"$line\" = stop ] || rm -rf '{folder}'",
            options.join(" "),
        );
        let shell = as_server_user()
            .args(["sh", "-c", &script])
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .expect("the server's shell starts");
        self.shell = Some(shell);
    }

    async fn set_up(&self) {
        self.wait().await;
        let mut superuser = self.superuser("postgres").await;
        for statement in CLUSTER
            .split(";\n\n")
            .filter(|text| !text.trim().is_empty())
        {
            run(&mut superuser, statement).await;
        }
        let mut app = self.superuser("app").await;
        run(&mut app, APP).await;
        for connection in [app, superuser] {
            connection.close().await.unwrap();
        }
    }

    async fn wait(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while let Err(error) = self.connect("postgres").await {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let late = Instant::now() >= deadline;
            assert!(!late, "PostgreSQL did not start: {error}\n{}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A connection as superuser, which nobody has over the network.
    pub async fn superuser(&self, database: &str) -> PgConnection {
        self.connect(database).await.unwrap()
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(self.port)
            .username("postgres")
            .database(database);
        PgConnection::connect_with(&options).await
    }

    /// A new database as the database image has it, owned by `owner` and empty.
    pub async fn empty_database(&self) -> String {
        self.copy_of("app").await
    }

    /// A new database with the registry's schema.
    pub async fn database(&self) -> String {
        static MIGRATED: tokio::sync::Mutex<Option<String>> = tokio::sync::Mutex::const_new(None);
        let mut migrated = MIGRATED.lock().await;
        // The template belongs to one server: another one's tests migrate their own.
        let shared = std::ptr::eq(self, Self::shared());
        let template = match &*migrated {
            Some(template) if shared => template.clone(),
            _ => {
                let template = self.empty_database().await;
                Registry::migrate(&self.settings(&template, Role::Owner))
                    .await
                    .unwrap();
                template
            }
        };
        if !shared {
            return template;
        }
        *migrated = Some(template.clone());
        self.copy_of(&template).await
    }

    async fn copy_of(&self, template: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("registry_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut superuser = self.superuser("postgres").await;
        // Two copies of one template at once are refused.
        run(&mut superuser, "SELECT pg_advisory_lock(1)").await;
        let create = format!("CREATE DATABASE {name} TEMPLATE {template} OWNER owner");
        run(&mut superuser, &create).await;
        superuser.close().await.unwrap();
        name
    }

    /// How a program in the plane reaches a database, with certificates in files.
    pub fn settings(&self, database: &str, role: Role) -> RegistrySettings {
        let file = |name: String| self.folder.join(name);
        let identity = Identity::Files {
            ca: file("ca.crt".to_owned()),
            certificate: file(format!("{}.crt", role.as_str())),
            key: file(format!("{}.key", role.as_str())),
        };
        let endpoint = Endpoint::Tcp {
            host: "localhost".to_owned(),
            port: self.port,
        };
        RegistrySettings {
            database: database.to_owned(),
            ..RegistrySettings::new(endpoint, role, identity)
        }
    }

    /// A registry that a program in the plane would have.
    pub fn registry(&self, database: &str, role: Role) -> Registry {
        Registry::connect(&self.settings(database, role)).unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}

/// Statements of a test.
pub async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Waits on a thread of its own: the caller may be inside a runtime, which cannot wait for another one.
fn apart(work: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        scope.spawn(move || runtime.block_on(work)).join().unwrap();
    });
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "plane");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server called `localhost`, and as the plane calls its registry.
    pub fn server(&self) -> Leaf {
        let names = ["localhost", "granary-registry.granary-system.svc"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// For a client with this common name.
    pub fn client(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Leaf {
    fn write(&self, folder: &Path, name: &str) {
        let key = folder.join(format!("{name}.key"));
        fs::write(folder.join(format!("{name}.crt")), &self.certificate).unwrap();
        fs::write(&key, &self.key).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A port that was free just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// `PATH` first, then where Debian keeps the server's programs.
fn bin_dir() -> PathBuf {
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut packaged: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .filter_map(|version| Some(version.ok()?.path().join("bin")))
                .collect()
        })
        .unwrap_or_default();
    packaged.sort();
    on_path
        .into_iter()
        .chain(packaged.into_iter().rev())
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .expect("PostgreSQL's initdb and postgres are needed: apt-get install postgresql")
}

/// PostgreSQL refuses to run as root.
fn server_user() -> Option<User> {
    let find = |name| User::from_name(name).ok().flatten();
    geteuid().is_root().then(|| {
        find("postgres")
            .or_else(|| find("nobody"))
            .expect("a user to run PostgreSQL as")
    })
}

fn as_server_user() -> Command {
    match server_user() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args([
                format!("--reuid={}", user.uid),
                format!("--regid={}", user.gid),
                "--clear-groups".to_owned(),
            ]);
            command
        }
        None => Command::new("env"),
    }
}

fn give_to_server(folder: &Path) {
    if let Some(user) = server_user() {
        let ids = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
        for entry in fs::read_dir(folder).unwrap() {
            chown(entry.unwrap().path(), ids.0, ids.1).unwrap();
        }
        chown(folder, ids.0, ids.1).unwrap();
    }
}
