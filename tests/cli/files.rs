//! `granary validate` on files.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{code, granary, repository, run, stderr, stdout};

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
    for empty in ["", "# Nothing.\n---\n"] {
        let nothing = validate(empty);
        assert_eq!(code(&nothing), 5, "{}", stderr(&nothing));
        assert!(
            stderr(&nothing).contains("there is no object in it"),
            "{}",
            stderr(&nothing)
        );
    }
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
