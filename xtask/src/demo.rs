//! `cargo xtask demo`: from an empty machine to two tenants served from their own silos.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::command::{run, wait_until};
use crate::page;
use crate::paths;
use crate::progress::{Progress, seconds};
use crate::target::{Choice, Target};

/// The tenant in the example file, which `kubectl apply` onboards.
const APPLIED: &str = "acme";
/// The tenant that the command line onboards.
const ONBOARDED: &str = "globex";

/// Runs the demo.
pub fn run_demo(choice: &Choice) -> Result<()> {
    let progress = Progress::start();
    let target = choice.install(&progress)?;
    thread::scope(|scope| {
        let applied = scope.spawn(|| {
            progress.step(&format!("tenant {APPLIED} Ready (kubectl apply)"), || {
                apply(&target)
            })
        });
        let onboarded = progress.step(
            &format!("tenant {ONBOARDED} Ready (granary onboard)"),
            || onboard(&target),
        );
        applied
            .join()
            .map_err(|_| anyhow!("onboarding {APPLIED} panicked"))?
            .and(onboarded)
    })?;
    let urls = [url(&target, APPLIED)?, url(&target, ONBOARDED)?];
    for url in &urls {
        progress.step(&format!("{url} answers"), || answers(&target, url))?;
    }
    progress.line("done");
    tell(&target, choice, &urls, &progress)
}

fn apply(target: &Target) -> Result<()> {
    let file = paths::repository().join("docs/examples/acme.yaml");
    run(target
        .kubectl()?
        .args(["apply", "--server-side", "-f"])
        .arg(file))?;
    run(target.kubectl()?.args([
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
        &format!("tenant/{APPLIED}"),
    ]))
    .map(drop)
    .map_err(|error| explained(target, APPLIED, error))
}

fn onboard(target: &Target) -> Result<()> {
    if run(target.kubectl()?.args(["get", "tenant", ONBOARDED])).is_ok() {
        // From an earlier demo.
        return run(target.kubectl()?.args([
            "wait",
            "--for=condition=Ready",
            "--timeout=120s",
            &format!("tenant/{ONBOARDED}"),
        ]))
        .map(drop)
        .map_err(|error| explained(target, ONBOARDED, error));
    }
    run(target.granary().args([
        "onboard",
        ONBOARDED,
        "--plan",
        "small",
        "--owner",
        "ops@globex.example",
        "--wait",
        "--timeout",
        "2m",
    ]))
    .map(drop)
    .map_err(|error| explained(target, ONBOARDED, error))
}

/// Adds what Granary itself says about the tenant.
fn explained(target: &Target, tenant: &str, error: anyhow::Error) -> anyhow::Error {
    let status = run(target.granary().args(["status", tenant])).unwrap_or_default();
    error.context(format!("{tenant} did not become Ready:\n{status}"))
}

fn url(target: &Target, tenant: &str) -> Result<String> {
    let url =
        run(target
            .kubectl()?
            .args(["get", "tenant", tenant, "-o", "jsonpath={.status.url}"]))?;
    if url.is_empty() {
        bail!("{tenant} has no URL in its status");
    }
    Ok(url)
}

fn answers(target: &Target, url: &str) -> Result<()> {
    let mut last = String::new();
    wait_until(
        &format!("{url} answers 200"),
        Duration::from_secs(10),
        || {
            last = match page::status(url, &target.gateway, &target.gateway_ca) {
                Ok(200) => return Ok(true),
                Ok(status) => format!("it answered {status}"),
                Err(error) => format!("{error:#}"),
            };
            Ok(false)
        },
    )
    .map_err(|error| error.context(last.clone()))
}

fn tell(target: &Target, choice: &Choice, urls: &[String], progress: &Progress) -> Result<()> {
    let bin = crate::cluster::build::links()?;
    println!();
    println!(
        "Two tenants run, each in a silo of its own, after {}:",
        seconds(progress.elapsed())
    );
    for url in urls {
        println!("  {url}");
    }
    println!();
    println!("Look at a page, or open it in a browser that trusts the CA below:");
    println!(
        "  curl --cacert {} {}",
        target.gateway_ca.display(),
        urls.first().map_or("", String::as_str)
    );
    println!();
    println!("Look at the tenants:");
    println!(
        "  export PATH={}:{}:$PATH",
        bin.display(),
        target.granary.parent().unwrap_or(&bin).display()
    );
    match (&target.kubeconfig, &target.context) {
        (Some(kubeconfig), _) => println!("  export KUBECONFIG={}", kubeconfig.display()),
        (None, Some(context)) => println!("  kubectl config use-context {context}"),
        (None, None) => {}
    }
    println!("  kubectl get tenants");
    println!("  granary status {APPLIED}");
    println!();
    println!("Go on:");
    println!("  granary onboard initech            another tenant");
    println!("  granary suspend {ONBOARDED}             its pods go, its data stays");
    println!(
        "  granary offboard {ONBOARDED}            its access is cut; in 7 days key and data go"
    );
    println!(
        "  granary offboard --now {ONBOARDED}      all of it goes at once, and a signed record stays"
    );
    if let Some(down) = choice.down_command() {
        println!("  {down:<34} everything goes");
    }
    Ok(())
}
