//! `cargo xtask prepare`: describes every query of the registry anew, in `.sqlx`, so that builds check them without a
//! database.
//!
//! The migrations are applied by `psql` and not by Granary's own driver: that one is in the library which does not
//! compile before its queries are described.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

use crate::command::{cargo, run, wait_until};
use crate::paths;
use crate::prerequisites::{FOR_POSTGRES, ensure_packages};
use crate::progress::Progress;

/// What refinery makes before the first migration, which the migrations refer to.
const HISTORY: &str = "CREATE TABLE refinery_schema_history
    (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255))";

/// How.
#[derive(Debug, Args)]
pub struct Options {
    /// Change nothing, and fail where a description is missing, outdated or not needed any more
    #[arg(long)]
    check: bool,
}

/// Files of a folder, by name.
type Descriptions = BTreeMap<String, Vec<u8>>;

/// Describes, then compares or replaces.
pub fn run_prepare(options: &Options) -> Result<()> {
    let progress = Progress::start();
    if options.check {
        return check(&progress);
    }
    let found = describe(&progress)?;
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    for (name, content) in &found {
        fs::write(folder.join(name), content)?;
    }
    println!("{} queries described in {}", found.len(), folder.display());
    Ok(())
}

/// That the committed descriptions are those that the code and the migrations give.
pub fn check(progress: &Progress) -> Result<()> {
    let (found, committed) = (describe(progress)?, read(&folder())?);
    let differing: Vec<&String> = found
        .keys()
        .chain(committed.keys())
        .filter(|name| found.get(*name) != committed.get(*name))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    bail!(
        "these files of .sqlx are missing, outdated or not needed any more; run `cargo xtask prepare`: {differing:?}"
    )
}

fn folder() -> PathBuf {
    paths::repository().join(".sqlx")
}

/// Compiles the library against a database with all migrations; the queries' macros write what they learn.
fn describe(progress: &Progress) -> Result<Descriptions> {
    ensure_packages(FOR_POSTGRES, progress)?;
    let output = tempfile::tempdir()?;
    let database = progress.step("a database with all migrations", Database::start)?;
    // Cargo does not know that the library has to be compiled again.
    File::options()
        .append(true)
        .open(paths::repository().join("src/lib.rs"))?
        .set_modified(SystemTime::now())?;
    progress.long_step("queries described", || {
        run(cargo()
            .args(["check", "--quiet", "--lib"])
            .env("SQLX_OFFLINE", "false")
            .env("SQLX_OFFLINE_DIR", output.path())
            .env("DATABASE_URL", database.url()))
    })?;
    read(output.path())
}

fn read(folder: &Path) -> Result<Descriptions> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, fs::read(entry.path())?))
        })
        .collect()
}

/// A server of its own, behind a socket in its folder. Ends when dropped.
struct Database {
    folder: TempDir,
    bin: PathBuf,
    server: Child,
}

impl Database {
    fn start() -> Result<Self> {
        let bin = bin_dir()?;
        let folder = tempfile::Builder::new()
            .prefix("granary-prepare-")
            .tempdir()?;
        if let Some(user) = server_user()? {
            chown(
                folder.path(),
                Some(user.uid.as_raw()),
                Some(user.gid.as_raw()),
            )?;
        }
        let data = folder.path().join("data");
        run(as_server_user()?
            .arg(bin.join("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(&data))?;
        let server = as_server_user()?
            .arg(bin.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(folder.path())
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("log"))?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start PostgreSQL")?;
        let database = Self {
            folder,
            bin,
            server,
        };
        wait_until("PostgreSQL answers", Duration::from_mins(1), || {
            Ok(database
                .sql("postgres", "postgres", &["-c", "SELECT 1"])
                .is_ok())
        })?;
        database.migrate()?;
        Ok(database)
    }

    /// As the database image is made, then all migrations, each in a transaction.
    fn migrate(&self) -> Result<()> {
        let image = paths::repository().join("xtask/images/postgres");
        let file = |path: PathBuf| path.to_string_lossy().into_owned();
        self.sql(
            "postgres",
            "postgres",
            &["-f", &file(image.join("cluster.sql"))],
        )?;
        self.sql("postgres", "app", &["-f", &file(image.join("app.sql"))])?;
        self.sql("owner", "app", &["-c", HISTORY])?;
        for migration in migrations()? {
            self.sql("owner", "app", &["-1", "-f", &file(migration)])?;
        }
        Ok(())
    }

    fn sql(&self, role: &str, database: &str, arguments: &[&str]) -> Result<String> {
        run(Command::new(self.bin.join("psql"))
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                role,
                "-d",
                database,
                "-h",
            ])
            .arg(self.folder.path())
            .args(arguments))
    }

    fn url(&self) -> String {
        format!(
            "postgres://owner@localhost/app?host={}",
            self.folder.path().display()
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let ended = i32::try_from(self.server.id())
            .is_ok_and(|id| kill(Pid::from_raw(id), Signal::SIGINT).is_ok());
        if ended {
            let _ = self.server.wait();
        }
    }
}

/// The migrations, in the order of their numbers.
fn migrations() -> Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(paths::repository().join("migrations"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(number) = number(&name) {
            numbered.push((number, path));
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// The number of a migration's file, `V12__what.sql`.
fn number(name: &str) -> Option<u32> {
    let (number, _) = name
        .strip_suffix(".sql")?
        .strip_prefix('V')?
        .split_once("__")?;
    number.parse().ok()
}

/// Where Debian keeps the server's programs: the newest version.
fn bin_dir() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL's server programs are needed: apt-get install postgresql")?
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .context("there is no initdb in /usr/lib/postgresql: apt-get install postgresql")
}

/// PostgreSQL refuses to run as root.
fn server_user() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("there is no user `postgres` or `nobody` to run PostgreSQL as")
}

fn as_server_user() -> Result<Command> {
    let Some(user) = server_user()? else {
        return Ok(Command::new("env"));
    };
    let mut command = Command::new("setpriv");
    command.current_dir("/").args([
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
        "--clear-groups".to_owned(),
    ]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_found_by_number() {
        assert_eq!(number("V12__what.sql"), Some(12));
        for other in ["README.md", "V1.sql", "Vx__y.sql", "V1__x.txt"] {
            assert_eq!(number(other), None, "{other}");
        }
        assert!(migrations().unwrap().len() >= 2);
    }
}
