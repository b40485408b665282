//! `granary offboard`, `granary reinstate` and `granary evidence`, against an API server that says what a test wants.

use std::process::Output;

use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{self, FakeServer, Request, tenant};
use crate::support::{code, granary, stderr, stdout};

/// Tenant acme in this phase and state, on its way out.
fn leaving(phase: &str, state: &str) -> Value {
    let mut tenant = tenant(phase, 1);
    tenant["spec"]["state"] = state.into();
    tenant["status"]["namespace"] = "silo-acme-4f1c09ab7d".into();
    tenant["status"]["offboarding"] = json!({
        "step": "Grace", "startedAt": "2026-11-21T12:00:00Z", "accessCutAt": "2026-11-21T12:00:09Z",
        "graceEndsAt": "2999-11-28T12:00:09Z",
    });
    tenant
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "TenantList", "apiVersion": "granary.dev/v1alpha1", "metadata": {"resourceVersion": "2"}, "items": items})
}

fn gone() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})
}

/// A server on which acme is `before`, and `after` once it was changed.
fn server(before: Value, after: Value) -> FakeServer {
    let is_one = |request: &Request| request.path.ends_with("/acme");
    FakeServer::start(move |request| {
        let answer = match request.method.as_str() {
            "GET" if request.is_watch() => return None,
            "GET" if is_one(request) => before.clone(),
            "GET" if request.path.contains("/events") => {
                json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
            }
            "GET" if after.is_null() => list(&[]),
            "GET" => list(std::slice::from_ref(&after)),
            "PATCH" => {
                assert_eq!(request.body["metadata"]["uid"], fake::UID);
                if after.is_null() {
                    before.clone()
                } else {
                    after.clone()
                }
            }
            "DELETE" => {
                assert_eq!(request.body["preconditions"]["uid"], fake::UID);
                gone()
            }
            other => panic!("{other} was asked for"),
        };
        Some((200, answer))
    })
}

fn asked(server: &FakeServer) -> Vec<String> {
    let asked = server.asked().into_iter();
    asked
        .filter(|request| request.method != "GET")
        .map(|request| format!("{} {}", request.method, request.body["spec"]))
        .collect()
}

fn report(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_str(&stdout(output)).expect("JSON")
}

#[test]
fn offboarding_cuts_access_and_says_until_when_it_can_be_taken_back() {
    let server = server(tenant("Ready", 1), leaving("Offboarded", "Offboarded"));
    let output = server.granary(
        granary(),
        &["offboard", "acme", "--confirm", "acme", "-o", "json"],
    );
    let report = report(&output);
    assert_eq!(report["state"], "Offboarded");
    assert_eq!(report["graceEndsAt"], "2999-11-28T12:00:09Z");
    assert_eq!(asked(&server), [r#"PATCH {"state":"Offboarded"}"#]);
    let said = stderr(&output);
    assert!(said.contains("Access to tenant acme is cut"), "{said}");
    assert!(said.contains("granary reinstate acme"), "{said}");
}

#[test]
fn now_means_no_grace_and_ends_with_the_resource_removed() {
    // Once it is destroyed and deleted, the list is empty.
    let server = server(tenant("Ready", 1), Value::Null);
    let output = server.granary(
        granary(),
        &[
            "offboard",
            "--now",
            "acme",
            "--confirm",
            "acme",
            "-o",
            "json",
        ],
    );
    let report = report(&output);
    assert_eq!(report["state"], "Removed");
    assert_eq!(report["uid"], fake::UID);
    assert_eq!(
        asked(&server),
        [
            r#"PATCH {"offboarding":{"gracePeriod":"0s"},"state":"Offboarded"}"#,
            "DELETE null"
        ]
    );
    assert!(stderr(&output).contains("granary evidence show acme"));
}

#[test]
fn who_does_not_wait_is_told_that_it_goes_on() {
    let server = server(tenant("Ready", 1), tenant("Ready", 1));
    let run = |args: &[&str]| {
        let args = [
            &[
                "offboard",
                "acme",
                "--confirm",
                "acme",
                "--no-wait",
                "-o",
                "json",
            ],
            args,
        ]
        .concat();
        report(&server.granary(granary(), &args))["state"].clone()
    };
    assert_eq!(run(&[]), "Offboarding");
    assert_eq!(run(&["--now"]), "Removing");
}

#[test]
fn what_is_left_of_a_destroyed_tenant_is_removed() {
    let server = server(leaving("Shredded", "Offboarded"), Value::Null);
    let output = server.granary(
        granary(),
        &["offboard", "acme", "--confirm", "acme", "-o", "json"],
    );
    assert_eq!(report(&output)["state"], "Removed");
    assert_eq!(asked(&server), ["DELETE null"], "nothing else is changed");
}

#[rstest]
#[case::offboard(&["offboard", "acme", "--confirm", "acme"])]
#[case::now(&["offboard", "acme", "--now", "--confirm", "acme"])]
#[case::reinstate(&["reinstate", "acme"])]
fn a_tenant_that_does_not_exist_is_said_so(#[case] args: &[&str]) {
    let server = FakeServer::start(|request| {
        assert_eq!(request.method, "GET", "nothing is changed");
        let status = json!({"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound",
            "details": {"name": "acme", "kind": "tenants"}});
        Some((404, status))
    });
    let output = server.granary(granary(), args);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("acme"));
}

#[test]
fn a_tenant_in_grace_is_reinstated() {
    let mut back = tenant("Ready", 1);
    back["status"]["offboarding"] = Value::Null;
    let server = server(leaving("Offboarded", "Offboarded"), back);
    let output = server.granary(granary(), &["reinstate", "acme", "-o", "json"]);
    assert_eq!(report(&output)["status"]["phase"], "Ready");
    assert_eq!(asked(&server), [r#"PATCH {"state":"Active"}"#]);
}

#[rstest]
#[case::live("Ready", "Active", "it is not being offboarded")]
#[case::suspended("Suspended", "Suspended", "it is not being offboarded")]
#[case::shredding("Shredding", "Offboarded", "are being destroyed")]
#[case::shredded("Shredded", "Offboarded", "key and data are destroyed")]
fn a_tenant_in_another_state_is_not_reinstated(
    #[case] phase: &str,
    #[case] state: &str,
    #[case] why: &str,
) {
    let mut before = leaving(phase, state);
    if state != "Offboarded" {
        before["status"]["offboarding"] = Value::Null;
    }
    let server = server(before, Value::Null);
    let output = server.granary(granary(), &["reinstate", "acme"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains(why), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(asked(&server), Vec::<String>::new());
}

#[test]
fn what_the_api_server_says_to_a_late_reinstatement_is_told() {
    let server = FakeServer::start(|request| match request.method.as_str() {
        "GET" => Some((200, leaving("Offboarded", "Offboarded"))),
        _ => Some((
            422,
            json!({"kind": "Status", "apiVersion": "v1", "code": 422, "reason": "Invalid", "message": "invalid",
                "details": {"name": "acme", "kind": "Tenant", "causes": [
                    {"field": "spec.state", "message": "state cannot be changed any more"}]}}),
        )),
    });
    let output = server.granary(granary(), &["reinstate", "acme"]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("spec.state: state cannot be changed any more"));
}

#[test]
fn the_public_key_is_printed_as_it_is_checked_with() {
    const PEM: &str = include_str!("../evidence/public.pem");
    let server = FakeServer::start(|request| {
        assert!(
            request
                .path
                .ends_with("/namespaces/granary-system/configmaps/granary-evidence-key")
        );
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "granary-evidence-key"}, "data": {"public.pem": PEM}});
        Some((200, config))
    });
    let output = server.granary(granary(), &["evidence", "key"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), PEM);
    let output = server.granary(granary(), &["evidence", "key", "-o", "json"]);
    let keys = report(&output);
    assert_eq!(keys["keys"][0]["pem"], PEM);
    assert_eq!(keys["keys"][0]["id"].as_str().map(str::len), Some(64));
}

#[rstest]
#[case::missing(404, json!({"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound", "details": {"name": "granary-evidence-key"}}), 3)]
#[case::damaged(200, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "granary-evidence-key"}, "data": {"public.pem": "nothing"}}), 1)]
fn a_public_key_that_is_missing_or_damaged_is_said_so(
    #[case] status: u16,
    #[case] answer: Value,
    #[case] exit: i32,
) {
    let server = FakeServer::start(move |_| Some((status, answer.clone())));
    let output = server.granary(granary(), &["evidence", "key"]);
    assert_eq!(code(&output), exit, "{}", stderr(&output));
    assert!(stderr(&output).contains("granary doctor"));
    assert_eq!(stdout(&output), "");
}

#[rstest]
#[case(&["evidence", "show", "acme"])]
#[case(&["evidence", "acme"])]
fn evidence_needs_the_rights_to_audit(#[case] args: &[&str]) {
    let server = FakeServer::start(|request| {
        assert!(
            request.path.ends_with("/secrets/granary-auditor-tls"),
            "{request:?}"
        );
        let status = json!({"kind": "Status", "apiVersion": "v1", "code": 403, "reason": "Forbidden",
            "message": "secrets \"granary-auditor-tls\" is forbidden"});
        Some((403, status))
    });
    let output = server.granary(granary(), args);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("ask for the rights"));
}
