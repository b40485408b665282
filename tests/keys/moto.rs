//! The moto server that all tests share: installed once per machine, started once per test program.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};

/// What is installed, with all it needs.
const REQUIREMENTS: &str = include_str!("requirements.txt");
const SERVER: &str = include_str!("server.py");

struct Moto {
    address: SocketAddr,
    /// Its standard input is open as long as this program lives, and moto ends when it closes: also after a crash.
    _process: Child,
}

/// Where moto listens.
pub fn address() -> SocketAddr {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(start).address
}

fn start() -> Moto {
    let mut process = Command::new(install().join("bin/python"))
        .args(["-c", SERVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("moto's Python can be started");
    let output = process.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .expect("moto's first line");
    let port: u16 = line
        .trim()
        .parse()
        .expect("moto says its port; what went wrong is above");
    Moto {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        _process: process,
    }
}

/// A virtual environment with moto. Several test programs may want it at once.
fn install() -> PathBuf {
    let folder = cache().join("granary/moto");
    fs::create_dir_all(&folder).expect("the cache can be written");
    let lock = File::create(folder.join("lock")).expect("the cache can be written");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
    let (environment, installed) = (folder.join("venv"), folder.join("installed"));
    if fs::read_to_string(&installed).is_ok_and(|what| what == REQUIREMENTS) {
        return environment;
    }
    eprintln!("installing moto into {} …", environment.display());
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).expect("the cache can be written");
    let mut python = Command::new("python3");
    run(
        python.args(["-m", "venv", "--clear"]).arg(&environment),
        "Python with venv: apt-get install python3 python3-venv",
    );
    run(
        Command::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements),
        "moto from the Python package registry: look at the network and at pip's settings",
    );
    fs::write(&installed, REQUIREMENTS).expect("the cache can be written");
    environment
}

fn run(command: &mut Command, missing: &str) {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "tests of the aws provider are missing {missing}\n{command:?}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            panic!("tests of the aws provider are missing {missing}\n{command:?}: {error}")
        }
    }
}

fn cache() -> PathBuf {
    match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(&std::env::var_os("HOME").expect("HOME or XDG_CACHE_HOME is set"))
            .join(".cache"),
    }
}
