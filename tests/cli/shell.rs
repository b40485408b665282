//! How the program gets on with shells, pipes and kubectl.

use std::process::{Command, Stdio};

use rstest::rstest;

use crate::support::{code, granary, run, stderr, stdout};

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
