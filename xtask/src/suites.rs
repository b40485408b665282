//! `cargo xtask test`: every test there is, in order, with the time each takes.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cluster::{self, build};
use crate::command::{exists, run, run_visibly};
use crate::paths;
use crate::prerequisites::{self, FOR_POSTGRES};
use crate::progress::{Progress, seconds};
use crate::target::{Choice, Target};

/// Test programs that need a cluster with Granary in it: `tests/<name>.rs`.
const CLUSTER_TESTS: [&str; 1] = ["e2e"];

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
    let mut suites = Suites { progress: Progress::start(), outcomes: Vec::new() };
    suites.run("formatting", || prerequisites::cargo(&["fmt", "--all", "--check"]));
    suites.run("lints", || {
        prerequisites::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
    });
    if let Err(error) = prerequisites::ensure_packages(FOR_POSTGRES, &suites.progress) {
        suites.progress.line(&format!("tests that need PostgreSQL will fail: {error:#}"));
    }
    suites.run("unit and integration tests", || prerequisites::cargo(&["test", "--quiet", "--workspace"]));
    suites.run("dependencies", || check_dependencies(&suites_folder()?));
    suites.run("chart", || lint_chart());
    if options.fast {
        suites.skip("cluster tests", "--fast");
    } else {
        run_on_cluster(options, &mut suites)?;
    }
    suites.close()
}

fn run_on_cluster(options: &Options, suites: &mut Suites) -> Result<()> {
    let mut target = None;
    suites.run_with("cluster, images and chart", |progress| {
        target = Some(options.target.install(progress)?);
        Ok(())
    });
    if let Some(target) = &target {
        for name in CLUSTER_TESTS {
            if paths::repository().join(format!("tests/{name}.rs")).exists() || paths::repository().join(format!("tests/{name}")).exists() {
                suites.run(&format!("cluster tests: {name}"), || cluster_tests(target, name));
            } else {
                suites.skip(&format!("cluster tests: {name}"), "there are none yet");
            }
        }
    } else {
        suites.skip("cluster tests", "there is no cluster to run them in");
    }
    if let (Some(local), true) = (options.target.local_cluster()?, target.is_some_and(|target| target.started) && !options.keep) {
        suites.run_with("cluster down", |progress| cluster::down(&local, progress));
    }
    Ok(())
}
