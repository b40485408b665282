//! `granary evidence verify` on files.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{code, granary, repository, run, stderr, stdout};

const RECORD: &str = "tests/evidence/record.json";
const KEY: &str = "tests/evidence/public.pem";

fn known() -> String {
    fs::read_to_string(repository(RECORD)).expect("the fixture")
}

/// What the program says of an envelope.
fn verify(dir: &Path, envelope: &str) -> (i32, String) {
    let file = dir.join("record.json");
    fs::write(&file, envelope).expect("a file");
    let output = run(&[
        "evidence",
        "verify",
        &file.display().to_string(),
        "--key",
        KEY,
    ]);
    assert_eq!(stdout(&output), "", "what fails prints no data");
    (code(&output), stderr(&output))
}

#[test]
fn a_record_that_holds_is_told() {
    let output = run(&["evidence", "verify", RECORD, "--key", KEY]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let out = stdout(&output);
    for told in [
        "Verified: the signature holds",
        "acme",
        "4f1c09ab-7d2e-4c3b-9a10-0123456789ab",
        "silo-acme-4f1c09ab7d",
        "arn:aws:kms:eu-central-1:1:key/0a1b (aws)",
        "app version 1, app version 2, backup version 1",
        "31 objects, among them 1 volumes of 1.0 GiB",
        "access cut           2026-11-20T10:00:00Z",
        "destroyed            2026-11-27T10:08:00Z",
        "unwrap with a saved token",
        "the key is disabled",
        "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9",
    ] {
        assert!(out.contains(told), "{told} is missing in:\n{out}");
    }
}

#[test]
fn programs_read_the_record_too() {
    let output = run(&["evidence", "verify", RECORD, "--key", KEY, "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(report["kind"], "EvidenceReport");
    assert_eq!(report["verified"], true);
    assert_eq!(report["record"]["tenant"]["name"], "acme");
    assert_eq!(
        report["record"]["steps"]["destroyed"],
        "2026-11-27T10:08:00Z"
    );
}

#[test]
fn standard_input_is_verified_too() {
    let mut child = granary()
        .args(["evidence", "verify", "-", "--key"])
        .arg(repository(KEY))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(known().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 0);
}

#[test]
fn no_cluster_is_needed_and_none_is_asked() {
    let output = granary()
        .args(["evidence", "verify", RECORD, "--key", KEY])
        .args(["--kubeconfig", "/nonexistent", "--context", "none"])
        .output()
        .expect("the program runs");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn what_proves_nothing_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let known = known();
    let mut envelope: Value = serde_json::from_str(&known).expect("JSON");
    let payload = envelope["payload"].as_str().expect("text").to_owned();
    envelope["payload"] = payload.replacen("eyJf", "eyJg", 1).into();
    for (odd, reason) in [
        (envelope.to_string(), "changed after it was signed"),
        (
            known.replace("vnd.in-toto+json", "json"),
            "the envelope holds \"application/json\"",
        ),
        (format!("{known}x"), "trailing characters"),
        (
            known.replacen('{', "{\"payload\": \"\",", 1),
            "the name \"payload\" is used twice",
        ),
        (String::new(), "not one DSSE envelope"),
    ] {
        let (code, message) = verify(dir.path(), &odd);
        assert_eq!(code, 5, "{message}");
        assert!(message.contains("proves nothing"), "{message}");
        assert!(
            message.contains(reason),
            "{reason} is missing in: {message}"
        );
    }
}

#[test]
fn keys_that_cannot_check_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("other.pem");
    let key_path = key.display().to_string();
    let try_with = |content: &str| {
        fs::write(&key, content).expect("a file");
        let output = run(&["evidence", "verify", RECORD, "--key", &key_path]);
        assert_eq!(stdout(&output), "");
        (code(&output), stderr(&output))
    };
    // The public key of test 2 in RFC 8032, section 7.1.
    let other = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n\
        -----END PUBLIC KEY-----\n";
    let (code_of_other, message) = try_with(other);
    assert_eq!(code_of_other, 5, "{message}");
    assert!(message.contains("signed with key 06e3fd8f"), "{message}");
    let (code_of_none, message) = try_with("no key");
    assert_eq!(code_of_none, 5, "{message}");
    assert!(message.contains("no PUBLIC KEY"), "{message}");
    let missing = run(&["evidence", "verify", RECORD, "--key", "/nonexistent.pem"]);
    assert_eq!(code(&missing), 1, "{}", stderr(&missing));
    assert!(stderr(&missing).contains("/nonexistent.pem"));
    // With both keys the right one counts.
    fs::write(&key, other).expect("a file");
    let both = run(&[
        "evidence", "verify", RECORD, "--key", &key_path, "--key", KEY,
    ]);
    assert_eq!(code(&both), 0, "{}", stderr(&both));
}

#[test]
fn a_key_is_required() {
    let output = run(&["evidence", "verify", RECORD]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
}
