//! `granary keys` against a server that says what a test wants it to say.

use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{self, FakeServer, tenant};
use crate::support::{code, granary, run, stderr, stdout};

/// Tenant acme with its keys, the app's in this version, made at noon.
fn with_keys(version: u32) -> Value {
    let mut tenant = tenant("Ready", 1);
    let since = "2026-11-21T12:00:00Z";
    tenant["status"]["key"] = json!({
        "id": format!("local:{}", fake::UID), "version": version, "rotatedAt": since,
        "dataKeys": [
            {"purpose": "app", "version": version, "state": "Active", "since": since},
            {"purpose": "backup", "version": version, "state": "Active", "since": since},
        ],
    });
    tenant
}

fn list(tenants: &[Value]) -> Value {
    json!({"kind": "TenantList", "apiVersion": "granary.dev/v1alpha1",
           "metadata": {"resourceVersion": "2"}, "items": tenants})
}

/// A server that knows acme, rotates its keys once it is told to, and says which moment it was told.
fn rotating() -> FakeServer {
    FakeServer::start(|request| match request.method.as_str() {
        "PATCH" => {
            let mut tenant = with_keys(1);
            tenant["metadata"]["generation"] = json!(2);
            tenant["spec"]["keys"] = request.body["spec"]["keys"].clone();
            Some((200, tenant))
        }
        "GET" if request.is_watch() => None,
        "GET" if request.path.ends_with("/acme") => Some((200, with_keys(1))),
        // The command's first list, of all tenants, asks for pages; the one that a watch begins with names the tenant.
        "GET" if request.query.contains("fieldSelector") => {
            let mut tenant = with_keys(2);
            tenant["metadata"]["generation"] = json!(2);
            tenant["status"]["observedGeneration"] = json!(2);
            Some((200, list(&[tenant])))
        }
        "GET" => Some((200, list(&[with_keys(1)]))),
        other => panic!("{other} was asked for"),
    })
}

/// What the tenant was told.
fn told(server: &FakeServer) -> Vec<Value> {
    let asked = server.asked().into_iter();
    asked
        .filter(|request| request.method == "PATCH")
        .map(|request| request.body)
        .collect()
}

#[test]
fn keys_are_listed_from_the_status_alone() {
    let server = FakeServer::start(|_| Some((200, with_keys(3))));
    let output = server.granary(granary(), &["keys", "list", "acme"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.starts_with("TENANT") && text.contains("backup"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3, "{text}");
    let output = server.granary(granary(), &["keys", "list", "acme", "-o", "json"]);
    let list: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(list["items"][0]["key"]["dataKeys"][0]["version"], 3);
    assert_eq!(server.asked().len(), 2, "one request each");
}

#[rstest]
#[case(&["acme"])]
#[case(&["--all"])]
#[case(&["--all", "--older-than", "1s"])]
fn a_rotation_is_asked_for_and_waited_for(#[case] whose: &[&str]) {
    let server = rotating();
    let output = server.granary(
        granary(),
        &[&["keys", "rotate"], whose, &["-o", "json"]].concat(),
    );
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let list: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(list["items"][0]["key"]["version"], 2);
    let told = told(&server);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["metadata"]["uid"], fake::UID);
    let spec = told[0]["spec"].as_object().expect("an object");
    assert_eq!(spec.keys().collect::<Vec<_>>(), ["keys"]);
    let not_before = spec["keys"]["notBefore"].as_str().expect("a time");
    assert!(
        not_before.parse::<jiff::Timestamp>().is_ok(),
        "{not_before}"
    );
}

#[test]
fn who_does_not_wait_gets_the_keys_as_they_are() {
    let server = rotating();
    let output = server.granary(granary(), &["keys", "rotate", "acme", "--no-wait"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(told(&server).len(), 1);
    assert_eq!(server.asked().len(), 2, "nothing is watched");
}

#[test]
fn keys_that_are_young_enough_are_left_alone() {
    let server = rotating();
    let line = ["keys", "rotate", "--all", "--older-than", "36500d"];
    let output = server.granary(granary(), &line);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("nothing was changed"),
        "{}",
        stderr(&output)
    );
    assert!(told(&server).is_empty());
}

#[test]
fn a_tenant_on_its_way_out_is_refused() {
    let server = FakeServer::start(|request| {
        assert_eq!(request.method, "GET");
        let mut tenant = with_keys(1);
        tenant["spec"]["state"] = "Offboarded".into();
        Some((200, tenant))
    });
    let output = server.granary(granary(), &["keys", "rotate", "acme"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("offboarded") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(stdout(&output), "");
}

#[rstest]
#[case(&["keys", "rotate"])]
#[case(&["keys", "rotate", "acme", "--all"])]
#[case(&["keys", "rotate", "Acme"])]
#[case(&["keys", "rotate", "acme", "--older-than", "90"])]
#[case(&["keys", "rotate", "acme", "--older-than", "soon"])]
fn nonsense_is_a_usage_error(#[case] line: &[&str]) {
    let output = run(line);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
}
