//! What comes out of what an API server says, or does not say.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{self, FakeServer, tenant};
use crate::support::{code, granary, run, stderr, stdout};

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
