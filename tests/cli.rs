//! The commands as people and scripts run them: the built program, its output and its exit codes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a panic is the report"
)]

#[path = "cli/fake.rs"]
mod fake;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fake::{FakeServer, tenant};
use rstest::rstest;
use serde_json::{Value, json};

/// Set to `1`, this variable makes the tests write the files they would compare.
const UPDATE: &str = "UPDATE";

/// The program, with nothing of the caller's environment that could lead it to a cluster or to colour.
fn granary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_granary"));
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    granary().args(args).output().expect("the program runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_reference_is_what_the_commands_say() {
    let reference = stdout(&run(&["reference"]));
    let path = repository("docs/cli.md");
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        fs::write(&path, &reference).expect("docs/cli.md is writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/cli.md is not what the commands say: run `UPDATE=1 cargo test --test cli` and commit the result"
    );
}

#[rstest]
#[case(&[])]
#[case(&["onboard"])]
#[case(&["onboard", "acme", "--timeout", "10"])]
#[case(&["list", "-o", "xml"])]
#[case(&["frobnicate"])]
#[case(&["validate"])]
fn what_makes_no_sense_ends_with_2(#[case] args: &[&str]) {
    let output = run(args);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[rstest]
#[case(&["offboard", "acme"])]
#[case(&["offboard", "acme", "--confirm", "globex"])]
fn nothing_is_removed_without_a_confirmation(#[case] args: &[&str]) {
    let server = FakeServer::start(|request| panic!("asked for {request:?}"));
    let output = granary()
        .args(args)
        .args(["--kubeconfig", &server.kubeconfig()])
        .output()
        .expect("the program runs");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("nothing was changed"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_valid_file_passes() {
    let output = run(&["validate", "-f", "tests/cli/valid.yaml"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("Tenant/acme"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn every_mistake_of_a_file_is_named_with_its_place() {
    let output = run(&["validate", "-f", "tests/cli/invalid.yaml"]);
    assert_eq!(code(&output), 5);
    let out = stdout(&output);
    assert!(out.contains("tests/cli/invalid.yaml:12:9"), "{out}");
    assert!(out.contains("\"www\" is reserved"), "{out}");
    assert!(out.contains("spec.app.replicas"), "{out}");
    assert!(out.contains("skipped"), "{out}");
    assert!(
        stderr(&output).contains("1 of 3 objects"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn validation_is_read_by_programs_too() {
    let output = run(&["validate", "-o", "json", "-f", "tests/cli/invalid.yaml"]);
    assert_eq!(code(&output), 5);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(report["kind"], "ValidationReport");
    let verdicts: Vec<&str> = report["objects"]
        .as_array()
        .expect("objects")
        .iter()
        .filter_map(|object| object["verdict"].as_str())
        .collect();
    assert_eq!(verdicts, ["valid", "invalid", "skipped"]);
}

#[test]
fn standard_input_is_validated_too() {
    let validate = |text: &str| {
        let mut child = granary()
            .args(["validate", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(text.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let valid = fs::read_to_string(repository("tests/cli/valid.yaml")).expect("the fixture");
    assert_eq!(code(&validate(&valid)), 0);
    let broken = validate("spec: {plan: small");
    assert_eq!(code(&broken), 5);
    assert!(
        stderr(&broken).contains("not valid YAML"),
        "{}",
        stderr(&broken)
    );
}

#[test]
fn a_file_that_is_not_there_is_no_panic() {
    let output = run(&["validate", "-f", "/nonexistent.yaml"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("/nonexistent.yaml"),
        "{}",
        stderr(&output)
    );
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
#[case("elvish")]
#[case("powershell")]
fn completions_know_the_commands(#[case] shell: &str) {
    let output = run(&["completion", shell]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("onboard"), "{shell}");
}

#[test]
fn kubectl_runs_it_as_a_plugin() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("kubectl-granary");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_granary"), &plugin).expect("a link");
    let output = Command::new(plugin)
        .arg("--help")
        .output()
        .expect("the program runs");
    assert!(
        stdout(&output).contains("Usage: kubectl granary"),
        "{}",
        stdout(&output)
    );
    assert!(stdout(&run(&["--help"])).contains("Usage: granary"));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = granary()
        .arg("crd")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn without_a_terminal_there_is_no_colour() {
    for args in [
        &["validate", "-f", "tests/cli/invalid.yaml"][..],
        &["--help"],
        &["list"],
    ] {
        let output = run(args);
        let text = stdout(&output) + &stderr(&output);
        assert!(!text.contains('\u{1b}'), "{args:?}: {text:?}");
    }
}

#[test]
fn without_a_configuration_it_says_so() {
    let output = run(&["list"]);
    assert_eq!(code(&output), 7);
    assert!(
        stderr(&output).contains("which cluster"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_wrong_context_is_named() {
    let server = FakeServer::start(|request| panic!("asked for {request:?}"));
    let output = granary()
        .args([
            "list",
            "--context",
            "prod",
            "--kubeconfig",
            &server.kubeconfig(),
        ])
        .output()
        .expect("the program runs");
    assert_eq!(code(&output), 7);
    assert!(
        stderr(&output).contains("no context \"prod\""),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_closed_port_is_unreachable_at_once() {
    // Bound and dropped: nobody listens there now.
    let port = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its address")
        .port();
    let kubeconfig = fake::kubeconfig(port);
    let output = granary()
        .args([
            "list",
            "--kubeconfig",
            &kubeconfig.path().display().to_string(),
        ])
        .output()
        .expect("the program runs");
    assert_eq!(code(&output), 7);
    assert!(
        stderr(&output).contains(&format!("http://127.0.0.1:{port}/")),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).to_lowercase().contains("refused"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    // The kernel completes the connection; nobody ever answers on it.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let kubeconfig = fake::kubeconfig(silent.local_addr().expect("its address").port());
    let started = Instant::now();
    let output = granary()
        .args(["list", "--request-timeout", "300ms"])
        .args(["--kubeconfig", &kubeconfig.path().display().to_string()])
        .output()
        .expect("the program runs");
    assert_eq!(code(&output), 7);
    assert!(
        stderr(&output).contains("no answer within 0.3s"),
        "{}",
        stderr(&output)
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[rstest]
#[case(404, json!({"reason": "NotFound", "details": {"name": "acme", "kind": "tenants"}}), 3)]
#[case(403, json!({"reason": "Forbidden", "message": "tenants.granary.dev \"acme\" is forbidden"}), 5)]
#[case(401, json!({"reason": "Unauthorized"}), 5)]
#[case(500, json!({"reason": "InternalError", "message": "etcd is away"}), 1)]
fn what_the_server_says_decides_the_exit_code(
    #[case] status: u16,
    #[case] answer: Value,
    #[case] wanted: i32,
) {
    let server = FakeServer::start(move |_| {
        let mut answer = answer.clone();
        answer["kind"] = "Status".into();
        answer["apiVersion"] = "v1".into();
        answer["code"] = status.into();
        Some((status, answer))
    });
    let output = server.granary(granary(), &["status", "acme"]);
    assert_eq!(code(&output), wanted, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("tenant \"acme\""),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_tenant_that_exists_is_a_conflict() {
    let server = FakeServer::start(|request| match request.method.as_str() {
        "POST" => Some((
            409,
            json!({"kind": "Status", "apiVersion": "v1", "code": 409, "reason": "AlreadyExists", "message": "exists"}),
        )),
        _ => Some((200, tenant("Ready", 1))),
    });
    let output = server.granary(granary(), &["onboard", "acme", "--plan", "small"]);
    assert_eq!(code(&output), 4);
    assert!(
        stderr(&output).contains("with another spec"),
        "{}",
        stderr(&output)
    );
    let output = server.granary(granary(), &["onboard", "acme", "--plan", "standard"]);
    assert_eq!(code(&output), 4);
    assert!(
        stderr(&output).contains("the very same spec"),
        "{}",
        stderr(&output)
    );
}

/// A server on which a tenant that was just made is in this phase, and stays so.
fn onboarding(phase: &'static str) -> FakeServer {
    FakeServer::start(
        move |request| match (request.method.as_str(), request.is_watch()) {
            ("POST", _) => Some((201, tenant("Pending", 0))),
            ("GET", true) => None,
            ("GET", false) if request.path.contains("/events") => Some((
                200,
                json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [
                    {"metadata": {"name": "e", "namespace": "default"}, "involvedObject": {"kind": "Tenant", "name": "acme"},
                     "type": "Warning", "reason": "DatabaseSlow", "message": "no volume yet", "lastTimestamp": "2026-11-21T12:00:00Z"},
                ]}),
            )),
            _ => Some((
                200,
                json!({"kind": "TenantList", "apiVersion": "granary.dev/v1alpha1",
            "metadata": {"resourceVersion": "2"}, "items": [tenant(phase, 1)]}),
            )),
        },
    )
}

#[test]
fn onboarding_waits_until_the_tenant_is_served() {
    let output = onboarding("Ready").granary(granary(), &["onboard", "acme", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let tenant: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(tenant["kind"], "Tenant");
    assert_eq!(tenant["status"]["phase"], "Ready");
    assert!(
        stderr(&output).contains("DatabaseReady"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn onboarding_that_takes_too_long_says_what_is_missing() {
    let server = onboarding("Provisioning");
    let output = server.granary(granary(), &["onboard", "acme", "--timeout", "500ms"]);
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("DatabaseReady is False: Starting"), "{text}");
    assert!(
        text.contains("last event: Tenant/acme DatabaseSlow: no volume yet"),
        "{text}"
    );
    assert!(text.contains("granary status acme"), "{text}");
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_rejected_tenant_is_not_waited_for() {
    let output = onboarding("Rejected").granary(granary(), &["onboard", "acme"]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
}

#[test]
fn quiet_means_data_and_errors_alone() {
    let output = onboarding("Ready").granary(granary(), &["onboard", "acme", "-q", "-o", "name"]);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output), "tenant.granary.dev/acme\n");
    assert_eq!(stderr(&output), "");
}

#[test]
fn removal_is_bound_to_the_uid_that_was_seen() {
    let server = FakeServer::start(|request| match request.method.as_str() {
        "GET" if request.path.ends_with("/acme") => Some((200, tenant("Ready", 1))),
        "GET" => Some((
            200,
            json!({"kind": "TenantList", "apiVersion": "granary.dev/v1alpha1",
            "metadata": {"resourceVersion": "2"}, "items": []}),
        )),
        "PATCH" => {
            assert_eq!(request.body["metadata"]["uid"], fake::UID);
            assert_eq!(request.body["spec"], json!({"state": "Offboarded"}));
            Some((200, tenant("Offboarded", 1)))
        }
        "DELETE" => {
            assert_eq!(request.body["preconditions"]["uid"], fake::UID);
            Some((
                200,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
            ))
        }
        other => panic!("{other} was asked for"),
    });
    let output = server.granary(
        granary(),
        &["offboard", "acme", "--confirm", "acme", "-o", "json"],
    );
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let removal: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(removal["state"], "Removed");
    assert_eq!(removal["uid"], fake::UID);
    let asked: Vec<String> = server
        .asked()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(asked, ["GET", "PATCH", "DELETE", "GET"]);
}

#[test]
fn only_tenants_are_written() {
    // What people change goes through the Tenant. The doctor asks for permissions and, told to, tries a network
    // policy in a namespace of its own.
    let may_write = [
        "onboard.rs",
        "state.rs",
        "offboard.rs",
        "doctor/permissions.rs",
        "doctor/trial.rs",
    ];
    let root = repository("src/cli");
    let mut folders = vec![root.clone()];
    let mut writing = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap_or_default();
            if ["PatchParams", "PostParams", "DeleteParams"]
                .iter()
                .any(|word| source.contains(word))
            {
                let name = path
                    .strip_prefix(&root)
                    .expect("below it")
                    .display()
                    .to_string();
                writing.push(name);
            }
        }
    }
    writing.sort_unstable();
    let mut may_write = may_write.map(str::to_owned);
    may_write.sort_unstable();
    assert_eq!(writing, may_write);
}
