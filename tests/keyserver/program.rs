//! The programs themselves: what a container starts, and how it ends.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granary::keys::Purpose;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::callers::active;
use crate::plane::Plane;
use crate::postgres::{Postgres, free_port};

/// Longest wait for a program.
const PATIENCE: Duration = Duration::from_mins(1);

fn granary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_granary"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Tells a program to stop as the kubelet does, and waits until it has.
fn stop(mut child: Child) {
    let id = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return assert!(status.success(), "{status}");
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_brings_keys_and_logs_none() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let reach = plane.reach(&pod);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (dir, log) = (memory.path().to_str().unwrap(), plane.file("log"));
    let child = granary(&["agent", "keys", "--purpose", "app", "--dir", dir])
        .args(["--server", &reach.server])
        .arg("--token-file")
        .arg(&reach.files.token_file)
        .arg("--ca-file")
        .arg(&reach.files.ca_file)
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let hook = granary(&["agent", "keys-ready", "--purpose", "app", "--dir", dir])
        .args(["--timeout-seconds", "60"])
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || hook.wait_with_output().unwrap());
    assert!(ended.await.unwrap().status.success());
    let key = fs::read(memory.path().join("app/1")).unwrap();
    assert_eq!(key, active(&plane.client(&pod), Purpose::App).await);
    tokio::task::spawn_blocking(move || stop(child))
        .await
        .unwrap();
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("keys in memory changed"), "{said}");
    for secret in [STANDARD.encode(&key), hex(&key), pod.token] {
        assert!(!said.contains(&secret), "{said}");
    }
    assert!(
        memory.path().join("app/1").exists(),
        "the app may still need it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_gives_up_and_says_where_to_look() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = memory.path().to_str().unwrap();
    let output = granary(&["agent", "keys-ready", "--purpose", "backup", "--dir", dir])
        .args(["--timeout-seconds", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no keys of purpose backup"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_server_starts_serves_and_ends() {
    // Everything but the server itself is another plane's.
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let kubeconfig = plane.file("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": plane.api.url}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    });
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let port = free_port();
    let registry_port = Postgres::shared().port.to_string();
    let child = granary(&["keyserver", "--port", &port.to_string()])
        .env("KUBECONFIG", &kubeconfig)
        .env("GRANARY_KMS_PROVIDER", "local")
        .env("GRANARY_KMS_ROOT_KEY_FILE", plane.file("root.key"))
        .env("GRANARY_TLS_DIR", plane.file(""))
        .env("GRANARY_REGISTRY_HOST", "localhost")
        .env("GRANARY_REGISTRY_PORT", &registry_port)
        .env("GRANARY_REGISTRY_DATABASE", &plane.database)
        .spawn()
        .unwrap();
    let mut reach = plane.reach(&pod);
    reach.server = format!("https://localhost:{port}");
    let client = granary::keyserver::client::Client::new(&reach).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let key = loop {
        match client.unwrap(Purpose::App, &[]).await {
            Ok(own) => break *own.keys[0].key.as_ref().unwrap().expose(),
            Err(error) if error.is_transient() => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "it does not serve");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Both replicas give the same key.
    assert_eq!(key, active(&plane.client(&pod), Purpose::App).await);
    tokio::task::spawn_blocking(move || stop(child))
        .await
        .unwrap();
}

#[test]
fn settings_that_can_never_work_end_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (vec!["keyserver"], "--kms-provider"),
        (vec!["keyserver", "--kms-provider", "vault"], "vault"),
    ] {
        let output = granary(&arguments)
            .env("KUBECONFIG", folder.path().join("none"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
