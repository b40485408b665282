//! What is true of the program as a whole.

use std::fs;

use rstest::rstest;

use crate::fake::FakeServer;
use crate::support::{code, granary, repository, run, stderr, stdout};

/// Set to `1`, this variable makes the tests write the files they would compare.
const UPDATE: &str = "UPDATE";

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
#[case(&["status", "a b"])]
#[case(&["status", ""])]
#[case(&["status", "www/../x"])]
#[case(&["suspend", "a/b"])]
#[case(&["resume", "A"])]
#[case(&["offboard", "", "--confirm", ""])]
#[case(&["reinstate"])]
#[case(&["reinstate", "A"])]
#[case(&["evidence"])]
#[case(&["evidence", "show"])]
#[case(&["evidence", "show", "a b"])]
#[case(&["evidence", "../acme"])]
#[case(&["list", "-l", "bad==x=y"])]
fn what_makes_no_sense_ends_with_2(#[case] args: &[&str]) {
    let output = run(args);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[rstest]
#[case(&["offboard", "acme"])]
#[case(&["offboard", "acme", "--now"])]
#[case(&["offboard", "acme", "--now", "--confirm", "globex"])]
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
fn only_tenants_are_written() {
    // What people change goes through the Tenant. The doctor asks for permissions and, told to, tries a network
    // policy in a namespace of its own.
    let may_write = [
        "onboard.rs",
        "state.rs",
        "offboard.rs",
        "doctor/permissions.rs",
        "doctor/trial.rs",
        "keys/rotate.rs",
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
