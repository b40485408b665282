//! `cargo xtask test`: every test there is, in order, with the time each takes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::cluster::{self, build};
use crate::command::{cargo, exists, run, run_visibly};
use crate::images;
use crate::paths;
use crate::prepare;
use crate::prerequisites::{self, FOR_KMS, FOR_POSTGRES};
use crate::progress::{Progress, seconds};
use crate::target::{Choice, Target};

/// Test programs that need a cluster with Granary in it: `tests/<name>.rs`.
const CLUSTER_TESTS: [&str; 1] = ["e2e"];

/// What is compiled for tests of the cluster part: all of it at once, so that it is compiled once.
const CLUSTER_FEATURES: &str = "granary/cluster-tests,granary/faults";

/// The version of `cargo-deny`.
const CARGO_DENY: &str = "0.20.2";

/// Crates that may not be linked: aws-lc-rs and rustls do what they do.
const BANNED: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

/// Which tests.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    target: Choice,
    /// Only what needs no cluster
    #[arg(long)]
    fast: bool,
    /// Leave the local cluster running, also if this command started it
    #[arg(long)]
    keep: bool,
}

/// The outcome of one suite.
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Runs suites and keeps count.
struct Suites {
    progress: Progress,
    outcomes: Vec<(String, Outcome)>,
}

/// Runs all suites, and fails at the end if one of them did.
pub fn run_all(options: &Options) -> Result<()> {
    let mut suites = Suites {
        progress: Progress::start(),
        outcomes: Vec::new(),
    };
    suites.run("formatting", || {
        run_visibly(cargo().args(["fmt", "--all", "--check"]))
    });
    suites.run("lints", || {
        run_visibly(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]))
    });
    for (what, packages) in [("PostgreSQL", FOR_POSTGRES), ("a KMS", FOR_KMS)] {
        if let Err(error) = prerequisites::ensure_packages(packages, &suites.progress) {
            suites
                .progress
                .line(&format!("tests that need {what} will fail: {error:#}"));
        }
    }
    suites.run_with("descriptions of queries", prepare::check);
    suites.run("unit and integration tests", || {
        run_visibly(cargo().args(["test", "--quiet", "--workspace"]))
    });
    suites.run_with("database agent with a real PostgreSQL", images::test_agent);
    suites.run_with("dependencies", |progress| {
        check_dependencies(options.fast, progress)
    });
    suites.run_with("chart", lint_chart);
    if options.fast {
        suites.skip("cluster tests", "--fast");
    } else {
        run_on_cluster(options, &mut suites)?;
    }
    suites.close()
}

fn run_on_cluster(options: &Options, suites: &mut Suites) -> Result<()> {
    // Before the cluster is there: they need only its programs, and all of the machine.
    if options.target.local_cluster()?.is_some() {
        suites.run_with("faults at every write", fault_tests);
    } else {
        suites.skip(
            "faults at every write",
            "they need the programs of the local cluster",
        );
    }
    let mut target = None;
    suites.run_with("cluster, images and chart", |progress| {
        target = Some(options.target.install(progress)?);
        Ok(())
    });
    if let Some(target) = &target {
        for name in CLUSTER_TESTS {
            if paths::repository()
                .join(format!("tests/{name}.rs"))
                .exists()
                || paths::repository().join(format!("tests/{name}")).exists()
            {
                suites.run(&format!("cluster tests: {name}"), || {
                    cluster_tests(target, name)
                });
            } else {
                suites.skip(&format!("cluster tests: {name}"), "there are none yet");
            }
        }
    } else {
        suites.skip("cluster tests", "there is no cluster to run them in");
    }
    if let (Some(local), true) = (
        options.target.local_cluster()?,
        target.is_some_and(|target| target.started) && !options.keep,
    ) {
        suites.run_with("cluster down", |progress| cluster::down(&local, progress));
    }
    Ok(())
}

impl Suites {
    fn run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        self.run_with(name, |_| work());
    }

    fn run_with(&mut self, name: &str, work: impl FnOnce(&Progress) -> Result<()>) {
        self.progress.line(&format!("{name} …"));
        let began = Instant::now();
        let result = work(&self.progress);
        let took = seconds(began.elapsed());
        let outcome = match result {
            Ok(()) => {
                self.progress.line(&format!("{name}: passed  ({took})"));
                Outcome::Passed
            }
            Err(error) => {
                self.progress
                    .line(&format!("{name}: FAILED  ({took}): {error:#}"));
                Outcome::Failed
            }
        };
        self.outcomes.push((name.to_owned(), outcome));
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.progress.line(&format!("{name}: skipped, {why}"));
        self.outcomes.push((name.to_owned(), Outcome::Skipped));
    }

    /// Says what failed, and how many suites passed.
    fn close(self) -> Result<()> {
        let count = |wanted: fn(&Outcome) -> bool| {
            self.outcomes
                .iter()
                .filter(|(_, outcome)| wanted(outcome))
                .count()
        };
        let passed = count(|outcome| matches!(outcome, Outcome::Passed));
        let failed = count(|outcome| matches!(outcome, Outcome::Failed));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped));
        self.progress.line("all suites have run");
        println!("suites: {passed} passed, {failed} failed, {skipped} skipped");
        if failed > 0 {
            let names: Vec<_> = self
                .outcomes
                .iter()
                .filter(|(_, outcome)| matches!(outcome, Outcome::Failed))
                .map(|(name, _)| name.as_str())
                .collect();
            bail!("failed: {}", names.join(", "));
        }
        Ok(())
    }
}

/// One test program, told by its environment where the cluster is.
fn cluster_tests(target: &Target, name: &str) -> Result<()> {
    let mut command = cargo();
    command
        .args([
            "test",
            "--quiet",
            // The whole workspace, as everywhere: a package by itself has other features, and all would compile anew.
            "--workspace",
            "--features",
            CLUSTER_FEATURES,
            "--test",
            name,
        ])
        .env("GRANARY_BIN", &target.granary)
        .env("GRANARY_GATEWAY", &target.gateway)
        .env("GRANARY_CA", &target.gateway_ca)
        .env("GRANARY_KUBECTL", build::links()?.join("kubectl"));
    if let Some(kubeconfig) = &target.kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    if let Some(context) = &target.context {
        command.env("GRANARY_CONTEXT", context);
    }
    run_visibly(&mut command)
}

/// Every write goes wrong, on an API server and a controller manager without nodes.
fn fault_tests(progress: &Progress) -> Result<()> {
    let programs = build::build_only(&["kubernetes"], progress)?.kubernetes("")?;
    run_visibly(
        cargo()
            .args(["test", "--quiet", "--workspace", "--features"])
            .args([CLUSTER_FEATURES, "--test", "faults", "--", "--nocapture"])
            .env("GRANARY_KUBERNETES", programs),
    )
}

/// That no second cryptography or TLS library is linked, and what `deny.toml` says about
/// licences and sources.
fn check_dependencies(fast: bool, progress: &Progress) -> Result<()> {
    for banned in BANNED {
        // A crate that is nowhere in the lock file is an error to cargo, and right here.
        let tree = run(cargo().args([
            "tree",
            "--quiet",
            "--workspace",
            "--all-features",
            "--invert",
            banned,
        ]));
        if let Some(tree) = tree.ok().filter(|tree| !tree.trim().is_empty()) {
            bail!("{banned} must not be linked, but is:\n{tree}");
        }
    }
    let Some(program) = cargo_deny(fast, progress)? else {
        progress.line(
            "licences and sources of dependencies are not checked: --fast, and no cargo-deny",
        );
        return Ok(());
    };
    run_visibly(
        Command::new(program)
            .current_dir(paths::repository())
            .args(["--all-features", "check", "bans", "licenses", "sources"]),
    )
}

/// `cargo-deny`: the machine's, or one in the cache, which takes minutes to build once.
fn cargo_deny(fast: bool, progress: &Progress) -> Result<Option<PathBuf>> {
    if exists("cargo-deny") {
        return Ok(Some("cargo-deny".into()));
    }
    let root = paths::cache()?.join("cargo-deny");
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        if fast {
            return Ok(None);
        }
        // In a folder of its own: other builds need not wait for it.
        let target = tempfile::tempdir()?;
        progress.long_step("cargo-deny built", || {
            run(cargo()
                .env("CARGO_TARGET_DIR", target.path())
                .args([
                    "install",
                    "--locked",
                    "--version",
                    CARGO_DENY,
                    "cargo-deny",
                    "--root",
                ])
                .arg(&root))
        })?;
    }
    Ok(Some(program))
}

/// What Helm finds wrong with the chart, with the values it needs at least.
fn lint_chart(progress: &Progress) -> Result<()> {
    build::build_only(&["helm"], progress)?;
    let chart = paths::repository().join("charts/granary");
    let values = chart.join("ci/values.yaml");
    run(Command::new(build::links()?.join("helm"))
        .args(["lint", "--strict"])
        .arg(&chart)
        .arg("--values")
        .arg(values))
    .map(drop)
}
