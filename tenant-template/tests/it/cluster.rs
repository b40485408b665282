//! One PostgreSQL for all tests, set up as a silo's: TLS 1.3 only, roles by client certificate. Each test gets its
//! own database. It ends, and its files go, when the test process does.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::certificates::Authority;

pub struct Cluster {
    pub authority: Authority,
    pub port: u16,
    socket_dir: PathBuf,
    // Its standard input tells the server that this process still lives.
    _server: Child,
}

const HBA: &str = "local all postgres trust\n\
    hostssl all owner all cert\n\
    hostssl all app all cert\n";

const ROLES: &str = "CREATE ROLE owner LOGIN; CREATE ROLE app LOGIN";

/// The template of each test's database: what a silo's database has before the app comes.
const CREATE_SILO: &str = "CREATE DATABASE silo OWNER owner";
const SET_UP_SILO: &str = "
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    ALTER SCHEMA public OWNER TO owner;
    GRANT USAGE ON SCHEMA public TO app;
    ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app;
    ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT USAGE ON SEQUENCES TO app";

impl Cluster {
    pub fn shared() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let bin = bin_dir();
        let root = tempfile::Builder::new()
            .prefix("tenant-template-")
            .tempdir()
            .unwrap()
            .keep();
        let data = root.join("data");
        let authority = Authority::new();
        let server = authority.server(&["localhost"]);
        for (name, content) in [
            ("ca.crt", &authority.pem),
            ("tls.crt", &server.certificate),
            ("tls.key", &server.key),
        ] {
            fs::write(root.join(name), content).unwrap();
        }
        fs::set_permissions(root.join("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
        give_to_server(&root);
        let port = free_port();
        fs::write(root.join("hba"), HBA).unwrap();
        let settings = format!(
            "port={port} listen_addresses=127.0.0.1 unix_socket_directories={root} hba_file={root}/hba \
             ssl=on ssl_ca_file={root}/ca.crt ssl_cert_file={root}/tls.crt ssl_key_file={root}/tls.key \
             ssl_min_protocol_version=TLSv1.3 fsync=off full_page_writes=off synchronous_commit=off \
             shared_buffers=16MB max_connections=200 max_wal_senders=0 wal_level=minimal",
            root = root.display()
        );
        let options: Vec<String> = settings
            .split_whitespace()
            .map(|setting| format!("-c{setting}"))
            .collect();
        // The shell holds the server as long as our end of its standard input is open: however this process ends,
        // the server ends after it.
        let script = format!(
            "'{bin}/initdb' -D '{data}' -U postgres -A trust -E UTF8 --locale=C --no-sync >'{root}/log' 2>&1 || exit 1\n\
             '{bin}/postgres' -D '{data}' {options} >>'{root}/log' 2>&1 &\n\
             server=$!; read _; kill -INT $server; wait $server; rm -rf '{root}'",
            bin = bin.display(),
            data = data.display(),
            root = root.display(),
            options = options.join(" "),
        );
        let server = as_server_user()
            .args(["sh", "-c", &script])
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .expect("the server's shell starts");
        let cluster = Self {
            authority,
            port,
            socket_dir: root.clone(),
            _server: server,
        };
        cluster.set_up(&root);
        cluster
    }

    fn set_up(&self, root: &Path) {
        // The caller is inside its own runtime, which cannot wait for another one on the same thread.
        let statements = async {
            let deadline = Instant::now() + Duration::from_mins(1);
            while self.connect("postgres").await.is_err() {
                let log = || fs::read_to_string(root.join("log")).unwrap_or_default();
                let late = Instant::now() >= deadline;
                assert!(!late, "PostgreSQL did not start:\n{}", log());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            for (database, statement) in [
                ("postgres", ROLES),
                ("postgres", CREATE_SILO),
                ("silo", SET_UP_SILO),
            ] {
                let mut superuser = self.superuser(database).await;
                sqlx::raw_sql(statement)
                    .execute(&mut superuser)
                    .await
                    .unwrap();
                superuser.close().await.unwrap();
            }
        };
        std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            scope
                .spawn(move || runtime.block_on(statements))
                .join()
                .unwrap();
        });
    }

    /// A connection as superuser, which no silo's app has.
    pub async fn superuser(&self, database: &str) -> PgConnection {
        self.connect(database).await.unwrap()
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .port(self.port)
            .username("postgres")
            .database(database);
        PgConnection::connect_with(&options).await
    }

    /// A new, empty database, owned by `owner`.
    pub async fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("silo_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE silo OWNER owner");
        let mut superuser = self.superuser("postgres").await;
        // Two copies of one template at once are refused.
        sqlx::query("SELECT pg_advisory_lock(1)")
            .execute(&mut superuser)
            .await
            .unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(create))
            .execute(&mut superuser)
            .await
            .unwrap();
        superuser.close().await.unwrap();
        name
    }
}

fn free_port() -> u16 {
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

fn give_to_server(root: &Path) {
    if let Some(user) = server_user() {
        let ids = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
        for entry in fs::read_dir(root).unwrap() {
            chown(entry.unwrap().path(), ids.0, ids.1).unwrap();
        }
        chown(root, ids.0, ids.1).unwrap();
    }
}
