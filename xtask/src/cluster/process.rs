//! The cluster's processes. Each runs in a session of its own, so that it
//! outlives the command that started it, and is known by a file with its id,
//! the time it started and the machine's boot: an id alone may be someone else's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::build::hex;
use super::layout::Cluster;
use crate::command::{last_lines, wait_until};

/// A process that is to run, as long as the cluster does.
pub struct Daemon {
    /// Names the pid file and the log.
    pub name: &'static str,
    /// The program to run.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Added to a minimal environment.
    pub environment: Vec<(&'static str, String)>,
    /// Whether it runs in the node's network namespace or on the host.
    pub on_node: bool,
    /// Files whose change means a restart.
    pub configuration: Vec<PathBuf>,
}

/// What is remembered of a started process.
#[derive(Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// Clock ticks since boot, from `/proc/<pid>/stat`.
    started: u64,
    boot: String,
    /// Of the program, its arguments and configuration.
    fingerprint: String,
}

impl Record {
    fn alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot) && started(self.pid) == Some(self.started)
    }
}

impl Daemon {
    /// Starts it, unless it already runs as wanted. Says whether it was started.
    pub fn ensure(&self, cluster: &Cluster) -> Result<bool> {
        let fingerprint = self.fingerprint()?;
        if let Some(record) = record(cluster, self.name).filter(Record::alive) {
            if record.fingerprint == fingerprint {
                return Ok(false);
            }
            stop(cluster, &[self.name], Duration::from_secs(5))?;
        }
        self.start(cluster, fingerprint)?;
        Ok(true)
    }

    fn start(&self, cluster: &Cluster, fingerprint: String) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file(cluster, self.name))?;
        let mut command = Command::new("setsid");
        if self.on_node {
            command
                .arg("nsenter")
                .arg(format!("--net={}", cluster.namespace_file().display()))
                .arg("--");
        }
        command
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("HOME", "/root")
            .env(
                "PATH",
                format!(
                    "{}:/usr/sbin:/usr/bin:/sbin:/bin",
                    cluster.path("tools").display()
                ),
            )
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(cluster.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // setsid and nsenter become the program they start, so this is its id.
        let pid = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?
            .id();
        let pid = i32::try_from(pid)?;
        let Some(started) = started(pid) else {
            bail!(
                "{} ended at once:\n{}",
                self.name,
                log_tail(cluster, self.name)
            )
        };
        let record = Record {
            pid,
            started,
            boot: boot()?,
            fingerprint,
        };
        fs::write(
            pid_file(cluster, self.name),
            serde_json::to_string(&record)?,
        )?;
        Ok(())
    }

    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{} {:?} {:?}",
            self.program.display(),
            self.arguments,
            self.environment
        ));
        for file in &self.configuration {
            hash.update(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Waits for the first of some components; if any of them dies meanwhile or the
/// time is up, the error has its last log lines.
pub fn wait_ready(
    cluster: &Cluster,
    names: &[&str],
    limit: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<()> {
    let ended = || names.iter().find(|name| pid(cluster, name).is_none());
    let what = format!("{} is ready", names.join(" with "));
    wait_until(&what, limit, || {
        if let Some(name) = ended() {
            bail!("{name} has ended");
        }
        Ok(ready())
    })
    .with_context(|| {
        let name = ended().or(names.first()).copied().unwrap_or_default();
        format!(
            "the end of {}:\n{}",
            log_file(cluster, name).display(),
            log_tail(cluster, name)
        )
    })
}

/// The process's id while it is alive.
pub fn pid(cluster: &Cluster, name: &str) -> Option<i32> {
    record(cluster, name)
        .filter(Record::alive)
        .map(|record| record.pid)
}

/// Ends processes: politely, and after `patience` without asking.
pub fn stop(cluster: &Cluster, names: &[&str], patience: Duration) -> Result<()> {
    let running: Vec<Record> = names
        .iter()
        .filter_map(|name| record(cluster, name))
        .filter(Record::alive)
        .collect();
    for (signal, patience) in [
        (Signal::SIGTERM, patience),
        (Signal::SIGKILL, Duration::from_secs(10)),
    ] {
        for record in running.iter().filter(|record| record.alive()) {
            // It may have ended in between.
            let _ = kill(Pid::from_raw(record.pid), signal);
        }
        let deadline = Instant::now() + patience;
        while running.iter().any(Record::alive) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
    if let Some(record) = running.iter().find(|record| record.alive()) {
        bail!("process {} does not end, not even when killed", record.pid);
    }
    for name in names {
        let file = pid_file(cluster, name);
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// The names of all processes that were ever started and not stopped.
pub fn known(cluster: &Cluster) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cluster.path("pids")) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The log of a component.
pub fn log_file(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.logs().join(format!("{name}.log"))
}

fn log_tail(cluster: &Cluster, name: &str) -> String {
    let text = fs::read(log_file(cluster, name)).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&text), 20)
}

fn pid_file(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.path("pids").join(name)
}

fn record(cluster: &Cluster, name: &str) -> Option<Record> {
    serde_json::from_slice(&fs::read(pid_file(cluster, name)).ok()?).ok()
}

fn boot() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// When a process started; `None` if there is none or it has ended already and
/// only waits for its parent to notice.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field, the program's name, may itself hold spaces and brackets.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_no_other_with_its_id() {
        let own = i32::try_from(std::process::id()).unwrap();
        let record = |started| Record {
            pid: own,
            started,
            boot: boot().unwrap(),
            fingerprint: String::new(),
        };
        let began = started(own).unwrap();
        assert!(record(began).alive());
        assert!(!record(began + 1).alive());
        assert!(
            !Record {
                boot: "another".into(),
                ..record(began)
            }
            .alive()
        );
    }

    #[test]
    fn a_process_nobody_waited_for_counts_as_ended() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        wait_until("the child ended", Duration::from_secs(10), || {
            Ok(started(pid).is_none())
        })
        .unwrap();
        child.wait().unwrap();
    }
}
