//! The commands against a cluster in which Granary runs, as people use them.

#![allow(clippy::expect_used, reason = "in a test a panic is the report")]

use std::fs;
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig, NamedAuthInfo};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::plane::{self, InUse};
use crate::support::{client, unique};

/// How long anything may take here, in the form of the command line.
const PATIENCE: &str = "90s";

fn granary(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_granary"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

fn succeeds(args: &[&str]) -> String {
    let output = granary(args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "granary {args:?}: {}",
        said(&output)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fails(args: &[&str], code: i32) -> String {
    let output = granary(args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "granary {args:?}: {}",
        said(&output)
    );
    assert_eq!(
        output.stdout, b"",
        "granary {args:?} says on stdout that it failed"
    );
    said(&output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(args: &[&str]) -> Value {
    let text = succeeds(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// A tenant's name, and its end when the test ends, however that is.
struct Tenant(
    String,
    #[expect(dead_code, reason = "held, not read")] InUse,
);

impl Tenant {
    fn new() -> Self {
        Self(unique("cli"), plane::shared_blocking())
    }

    fn onboard(&self) -> Value {
        json(&["onboard", &self.0, "--plan", "small", "--timeout", PATIENCE])
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let _gone = granary(&[
            "offboard",
            &self.0,
            "--now",
            "--confirm",
            &self.0,
            "--timeout",
            PATIENCE,
        ]);
    }
}

#[test]
fn a_tenants_life_from_the_command_line() {
    let name = Tenant::new();
    let tenant = name.onboard();
    let name = name.0.as_str();
    assert_eq!(tenant["status"]["phase"], "Ready");
    assert_eq!(tenant["metadata"]["managedFields"], Value::Null);
    assert!(
        tenant["status"]["url"]
            .as_str()
            .is_some_and(|url| url.contains(name)),
        "{tenant}"
    );

    let listed = json(&["list"]);
    let listed = listed["items"].as_array().expect("items");
    assert!(
        listed
            .iter()
            .any(|tenant| tenant["metadata"]["name"] == name)
    );
    let ready = succeeds(&["list", "--phase", "Ready", "-o", "name"]);
    assert!(
        ready
            .lines()
            .any(|line| line == format!("tenant.granary.dev/{name}")),
        "{ready}"
    );

    let report = json(&["status", name]);
    let objects = report["objects"].as_array().expect("objects");
    assert!(objects.len() >= 10, "{report}");
    // Kubernetes calls a job complete a moment after its pod has succeeded.
    let mut others = objects.iter().filter(|object| object["kind"] != "Job");
    assert!(others.all(|object| object["ready"] == "True"), "{report}");
    assert_eq!(
        report["certificates"]["authorities"]
            .as_array()
            .map(Vec::len),
        Some(1),
        "{report}"
    );
    assert!(
        report["events"]
            .as_array()
            .is_some_and(|events| !events.is_empty()),
        "{report}"
    );

    assert_eq!(
        json(&["suspend", name, "--timeout", PATIENCE])["status"]["phase"],
        "Suspended"
    );
    let again = granary(&["suspend", name, "--timeout", PATIENCE]);
    assert!(said(&again).contains("already"), "{}", said(&again));
    assert_eq!(
        json(&["resume", name, "--timeout", PATIENCE])["status"]["phase"],
        "Ready"
    );

    let removal = json(&[
        "offboard",
        name,
        "--now",
        "--confirm",
        name,
        "--timeout",
        PATIENCE,
    ]);
    assert_eq!(removal["state"], "Removed");
    assert_eq!(removal["uid"], tenant["metadata"]["uid"]);
    fails(&["status", name], 3);
}

#[test]
fn a_tenant_is_onboarded_once() {
    let tenant = Tenant::new();
    tenant.onboard();
    let name = tenant.0.as_str();
    let same = fails(&["onboard", name, "--plan", "small"], 4);
    assert!(same.contains("the very same spec"), "{same}");
    let other = fails(&["onboard", name, "--plan", "large"], 4);
    assert!(other.contains("with another spec"), "{other}");
}

#[test]
fn what_admission_refuses_is_explained() {
    for (args, why) in [
        (&["onboard", "www"][..], "\"www\" is reserved"),
        (&["onboard", "xn--acme"], "DNS label"),
        (
            &["onboard", "cli-refused", "--plan", "gold"],
            "no Plan \"gold\"",
        ),
        (
            &["onboard", "cli-refused", "--replicas=-1"],
            "spec.app.replicas",
        ),
        (
            &["onboard", "cli-refused", "--image", "cashbook:latest"],
            "by digest",
        ),
        (
            &["onboard", "cli-refused", "--owner", "nobody"],
            "email address",
        ),
    ] {
        let said = fails(args, 5);
        assert!(said.contains(why), "{args:?}: {said}");
    }
    fails(&["status", "cli-refused"], 3);
}

#[test]
fn a_dry_run_writes_nothing() {
    let name = unique("cli");
    let tenant = json(&["onboard", &name, "--plan", "small", "--dry-run"]);
    assert_eq!(tenant["spec"]["state"], "Active");
    fails(&["status", &name], 3);
}

#[test]
fn a_wait_that_ends_too_early_says_what_is_missing() {
    let tenant = Tenant::new();
    let said = fails(
        &["onboard", &tenant.0, "--plan", "small", "--timeout", "1ms"],
        6,
    );
    assert!(
        said.contains(&format!("granary status {}", tenant.0)),
        "{said}"
    );
    // The positive control: the same tenant gets ready.
    json(&["resume", &tenant.0, "--timeout", PATIENCE]);
}

#[test]
fn the_doctor_finds_a_working_installation_well() {
    let _plane = plane::shared_blocking();
    let report = json(&["doctor", "--probe"]);
    let checks = report["checks"].as_array().expect("checks");
    assert_eq!(checks.len(), 11);
    for check in checks {
        let found = check["found"].as_str().unwrap_or_default();
        // The local provider is for evaluation, and the doctor says so.
        let is_evaluation = check["name"] == "key-server" && found.ends_with("provider local");
        let wanted = if is_evaluation { "WARN" } else { "OK" };
        assert_eq!(check["verdict"], wanted, "{report}");
    }
}

#[test]
fn the_doctor_finds_what_is_missing() {
    let output = granary(&["doctor", "--namespace", "default", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let operator = &report["checks"][3];
    assert_eq!(
        (&operator["name"], &operator["verdict"]),
        (&json!("operator"), &json!("FAIL")),
        "{report}"
    );
}

/// A kubeconfig for the same cluster and another user, and the token's own file.
fn kubeconfig_for(user: &str, token: &str) -> (NamedTempFile, NamedTempFile) {
    let token_file = NamedTempFile::new().expect("a file");
    fs::write(token_file.path(), token).expect("it is written");
    let mut config = Kubeconfig::read().expect("a kubeconfig");
    let current = config.current_context.clone().expect("a context");
    let context = config
        .contexts
        .iter_mut()
        .find(|named| named.name == current);
    let context = context.and_then(|named| named.context.as_mut());
    context.expect("it is there").user = Some(user.to_owned());
    config.auth_infos = vec![NamedAuthInfo {
        name: user.to_owned(),
        auth_info: Some(AuthInfo {
            token_file: Some(token_file.path().display().to_string()),
            ..AuthInfo::default()
        }),
        ..NamedAuthInfo::default()
    }];
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), serde_json::to_vec(&config).expect("JSON")).expect("it is written");
    (file, token_file)
}

#[tokio::test]
async fn somebody_without_rights_is_told_so() {
    let accounts: Api<ServiceAccount> = Api::namespaced(client().await, "default");
    let name = unique("cli");
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).expect("an account");
    accounts
        .create(&PostParams::default(), &account)
        .await
        .expect("it is made");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(600),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let token = accounts
        .create_token_request(&name, &PostParams::default(), &request)
        .await
        .expect("a token");
    let token = token.status.expect("a token").token;

    let (kubeconfig, _token_file) = kubeconfig_for(&name, &token);
    let path = kubeconfig.path().display().to_string();

    let refused = fails(&["list", "--kubeconfig", &path], 5);
    let doctor = granary(&["doctor", "--kubeconfig", &path, "-o", "json"]);
    accounts
        .delete(&name, &DeleteParams::default())
        .await
        .expect("it is removed");
    assert!(refused.contains("forbidden"), "{refused}");
    let report: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let permissions = checks
        .iter()
        .find(|check| check["name"] == "permissions")
        .expect("the check of permissions");
    assert_eq!(permissions["verdict"], "WARN", "{report}");
    assert!(
        permissions["means"]
            .as_str()
            .is_some_and(|means| means.contains("onboard")),
        "{report}"
    );
}
