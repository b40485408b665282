//! A database pod without a cluster: namespaces, mounts, and the agent as process 1.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pki::{self, Authority};

/// Longest wait for anything, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What kubelet and the container runtime set up, then the program given as arguments.
const CONTAINER: &str = r#"
mount --bind "$ROOTFS" "$DIR/root"
mount --bind "$AGENT" "$DIR/root/usr/bin/granary"
mount --rbind /dev "$DIR/root/dev"
mount -t proc proc "$DIR/root/proc"
mount -t tmpfs -o size=1m,mode=1777 tmpfs "$DIR/root/tmp"
mount -t tmpfs -o size=4m,mode=0777 tmpfs "$DIR/root/run/granary/postgresql"
mount --bind "$DIR/tls" "$DIR/root/run/granary/tls"
mount --bind "$DIR/volume" "$DIR/root/var/lib/granary/postgresql"
mount -o remount,bind,ro "$DIR/root"
exec chroot --userspec=10001:10001 "$DIR/root" "$@"
"#;

/// A silo's database: its volume and its certificates outlive its pods.
pub struct Silo {
    pub tenant: String,
    pub authority: Authority,
    dir: tempfile::TempDir,
    on_tmpfs: bool,
}

impl Silo {
    pub fn new(number: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for folder in ["root", "tls", "volume"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        give_to_group(&dir.path().join("volume"));
        let authority = Authority::new();
        pki::mount(
            &dir.path().join("tls"),
            &authority.server(),
            &authority.pem(),
        );
        Self {
            tenant: format!("4f1c09ab-7d00-4000-8000-{number:012}"),
            authority,
            dir,
            on_tmpfs: false,
        }
    }

    /// With a volume of its own size.
    pub fn with_volume(number: u32, size: &str) -> Self {
        let mut silo = Self::new(number);
        let options = format!("size={size},mode=0770,gid=10001");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(silo.volume())
            .status()
            .unwrap();
        assert!(mounted.success());
        silo.on_tmpfs = true;
        silo
    }

    pub fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    pub fn tls(&self) -> PathBuf {
        self.dir.path().join("tls")
    }

    /// Starts a pod and waits until it is ready.
    pub fn start(&self) -> Pod<'_> {
        let pod = self.launch(&[]);
        pod.wait_until_ready();
        pod
    }

    /// Starts a pod.
    pub fn launch(&self, extra: &[&str]) -> Pod<'_> {
        let (port, agent_port) = (free_port(), free_port());
        let log = self.dir.path().join(format!("log-{agent_port}"));
        let last_words = self.volume().join("last-words");
        fs::write(&last_words, "").unwrap();
        give_to_group(&last_words);
        let child = self
            .container()
            .args([
                "/usr/bin/granary",
                "agent",
                "database",
                "--tenant-uid",
                &self.tenant,
            ])
            .args([
                "--port",
                &port.to_string(),
                "--agent-port",
                &agent_port.to_string(),
            ])
            .args([
                "--termination-log",
                "/var/lib/granary/postgresql/last-words",
            ])
            .args(extra)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Pod {
            silo: self,
            child,
            port,
            agent_port,
            log,
        }
    }

    /// Runs one of PostgreSQL's programs on the volume.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let program = format!("/usr/lib/postgresql/17/bin/{program}");
        self.container()
            .arg(program)
            .args(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .output()
            .unwrap()
    }

    fn container(&self) -> Command {
        let rootfs = std::env::var("GRANARY_POSTGRES_ROOTFS")
            .expect("GRANARY_POSTGRES_ROOTFS: run `cargo xtask test`");
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-euc",
            CONTAINER,
            "sh",
        ]);
        command
            .env("ROOTFS", rootfs)
            .env("AGENT", env!("CARGO_BIN_EXE_granary"))
            .env("DIR", self.dir.path());
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Silo {
    fn drop(&mut self) {
        if self.on_tmpfs {
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(self.volume())
                .status();
        }
    }
}

/// A running pod; killed when dropped.
pub struct Pod<'a> {
    pub silo: &'a Silo,
    pub port: u16,
    pub agent_port: u16,
    child: Child,
    log: PathBuf,
}

impl Pod<'_> {
    /// Waits on the agent's own readiness.
    pub fn wait_until_ready(&self) {
        wait_for(|| match self.get("/readyz", None) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        });
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What Kubernetes would show of a failed container.
    pub fn last_words(&self) -> String {
        fs::read_to_string(self.silo.volume().join("last-words")).unwrap_or_default()
    }

    /// Process id of PostgreSQL, in the pod's own count.
    pub fn postmaster(&self) -> String {
        let file = fs::read_to_string(self.silo.volume().join("pgdata/postmaster.pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    }

    /// The process id outside of one inside the pod.
    pub fn outside(&self, inside: &str) -> Option<Pid> {
        let agent = self.agent();
        let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).ok()?;
        children.split_whitespace().find_map(|child| {
            let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
            let ids = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))?;
            (ids.split_whitespace().last() == Some(inside))
                .then(|| Pid::from_raw(child.parse().unwrap_or(0)))
        })
    }

    /// The agent's children of this name.
    pub fn processes(&self, name: &str) -> Vec<Pid> {
        let agent = self.agent();
        let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children"));
        let children = children.unwrap_or_default();
        let named = children.split_whitespace().filter(|child| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
        });
        named
            .filter_map(|child| child.parse().ok().map(Pid::from_raw))
            .collect()
    }

    /// Signals the agent.
    pub fn signal(&self, signal: Signal) {
        kill(self.agent(), signal).unwrap();
    }

    /// Waits for the end.
    pub fn wait(mut self) -> (ExitStatus, String, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "the agent did not end: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        (status, self.log(), self.last_words())
    }

    /// Ends the pod the way kubelet does.
    pub fn stop(self) -> String {
        self.signal(Signal::SIGTERM);
        let (status, log, _) = self.wait();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// Ends the pod the way a power cut does.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// The agent's process id outside: the only child of unshare.
    fn agent(&self) -> Pid {
        let unshare = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        Pid::from_raw(
            children
                .split_whitespace()
                .next()
                .expect("the agent has ended")
                .parse()
                .unwrap(),
        )
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.agent(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Repeats until it succeeds; fails with the last failure.
pub fn wait_for<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < deadline, "not in time: {why}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What kubelet does with a pod's `fsGroup`.
pub fn give_to_group(path: &Path) {
    nix::unistd::chown(path, None, Some(nix::unistd::Gid::from_raw(10001))).unwrap();
    let mode = if path.is_dir() { 0o2770 } else { 0o660 };
    let mode = if path.extension().is_some_and(|kind| kind == "key") {
        0o440
    } else {
        mode
    };
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn free_port() -> u16 {
    let bound: io::Result<TcpListener> = TcpListener::bind("[::]:0");
    bound.unwrap().local_addr().unwrap().port()
}
