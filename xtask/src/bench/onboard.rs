//! Cold onboarding: from the request to the tenant's own page over HTTPS, out of its own database.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::future::try_join_all;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use super::calls::Mark;
use super::page::Browser;
use super::watch::{Seen, Step};
use crate::cluster::Cluster;

/// Longest time that one tenant may take.
const LIMIT: Duration = Duration::from_mins(2);

/// How much to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Tenants onboarded one after the other
    #[arg(long, default_value_t = 20)]
    count: usize,
    /// Tenants onboarded at once, after that
    #[arg(long, default_value_t = 10)]
    at_once: usize,
    /// Plan of the tenants
    #[arg(long, default_value = "standard")]
    plan: String,
    /// Seconds of idling with all tenants, during which the operator's calls are counted
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Leave the tenants in place
    #[arg(long)]
    keep: bool,
    /// host:port of the gateway
    #[arg(long, default_value = "127.0.0.1:8443")]
    gateway: std::net::SocketAddr,
    /// Domain of the tenants
    #[arg(long, default_value = "granary.localhost")]
    base_domain: String,
}

/// Times of one tenant, in milliseconds since the request.
type Times = Vec<(Step, f64)>;

/// Measures and prints.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<()> {
    let bench = Bench::connect(cluster, options).await?;
    let audit = cluster.path("audit.log");
    println!(
        "{} cores; plan {}; times in ms since the request, as watches and a browser outside the cluster saw them",
        cores(),
        options.plan
    );

    let mark = Mark::now(&audit)?;
    let mut names = Vec::new();
    let mut alone = Vec::new();
    for index in 0..options.count {
        let name = format!("bench-{index}");
        alone.push(bench.onboard(&name).await?);
        names.push(name);
    }
    report(&format!("{} one after the other", options.count), &alone);
    if options.count > 0 {
        calls("calls of the operator per onboarding", &mark, options.count)?;
    }

    let idle = Mark::now(&audit)?;
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    calls(
        &format!(
            "calls of the operator in {} s of idling with {} tenants",
            options.idle,
            names.len()
        ),
        &idle,
        1,
    )?;
    for line in memory()? {
        println!("{line}");
    }

    let together: Vec<String> = (0..options.at_once)
        .map(|index| format!("bench-at-once-{index}"))
        .collect();
    let times = try_join_all(together.iter().map(|name| bench.onboard(name))).await?;
    report(&format!("{} at once", options.at_once), &times);
    names.extend(together);
    if !options.keep {
        bench.remove(&names).await?;
    }
    Ok(())
}

struct Bench<'a> {
    tenants: Api<DynamicObject>,
    seen: Seen,
    browser: Browser,
    options: &'a Options,
}

impl<'a> Bench<'a> {
    async fn connect(cluster: &Cluster, options: &'a Options) -> Result<Self> {
        let file: PathBuf = cluster.path("kubeconfig");
        let kubeconfig = Kubeconfig::read_from(&file)
            .with_context(|| format!("cannot read {}; is the cluster up?", file.display()))?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("granary.dev", "v1alpha1", "Tenant"));
        let seen = Seen::default();
        seen.watch(&client);
        let browser = Browser::new(options.gateway, &cluster.path("gateway/ca.crt"))?;
        Ok(Self {
            tenants: Api::all_with(client, &resource),
            seen,
            browser,
            options,
        })
    }

    async fn onboard(&self, name: &str) -> Result<Times> {
        let tenant: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
            "spec": {"plan": self.options.plan, "environment": "development", "deletionProtection": false},
        }))?;
        let started = Instant::now();
        self.tenants
            .create(&PostParams::default(), &tenant)
            .await
            .with_context(|| format!("cannot create tenant {name}"))?;
        let host = format!("{name}.{}", self.options.base_domain);
        let served = self.browser.until_served(&host, LIMIT).await?;
        self.seen.note(name, Step::Page, served);
        while self.seen.at(name, Step::Ready).is_none() {
            anyhow::ensure!(
                started.elapsed() < LIMIT,
                "tenant {name} did not become Ready; see kubectl describe tnt {name}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let steps = [
            Step::Namespace,
            Step::Certificates,
            Step::Database,
            Step::Migration,
            Step::App,
            Step::Page,
            Step::Ready,
        ];
        Ok(steps
            .into_iter()
            .filter_map(|step| {
                Some((
                    step,
                    self.seen
                        .at(name, step)?
                        .duration_since(started)
                        .as_secs_f64()
                        * 1000.0,
                ))
            })
            .collect())
    }

    async fn remove(&self, names: &[String]) -> Result<()> {
        let started = Instant::now();
        for name in names {
            self.tenants.delete(name, &DeleteParams::default()).await?;
        }
        for name in names {
            while self.tenants.get_opt(name).await?.is_some() {
                anyhow::ensure!(
                    started.elapsed() < LIMIT * 5,
                    "tenant {name} is not removed; see kubectl describe tnt {name}"
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        println!(
            "removed {} tenants in {:.1} s",
            names.len(),
            started.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

fn report(what: &str, tenants: &[Times]) {
    if tenants.is_empty() {
        return;
    }
    println!(
        "\n{what}\n  {:<14}{:>8}{:>8}{:>8}{:>8}",
        "step", "min", "p50", "p99", "max"
    );
    for step in [
        Step::Namespace,
        Step::Certificates,
        Step::Database,
        Step::Migration,
        Step::App,
        Step::Page,
        Step::Ready,
    ] {
        let mut times: Vec<f64> = tenants
            .iter()
            .flatten()
            .filter(|(of, _)| *of == step)
            .map(|(_, time)| *time)
            .collect();
        times.sort_by(f64::total_cmp);
        if let (Some(min), Some(max)) = (times.first(), times.last()) {
            println!(
                "  {:<14}{min:>8.0}{:>8.0}{:>8.0}{max:>8.0}",
                format!("{step:?}").to_lowercase(),
                percentile(&times, 50),
                percentile(&times, 99)
            );
        }
    }
}

/// Nearest-rank percentile of sorted values.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

fn calls(what: &str, since: &Mark, tenants: usize) -> Result<()> {
    let calls = since.calls()?;
    let total: usize = calls.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    let each = total as f64 / tenants as f64;
    println!("\n{what}: {each:.1} (leases and watches aside)");
    for (call, count) in &calls {
        println!("  {count:>6}  {call}");
    }
    Ok(())
}

/// Resident memory of every operator process on this machine.
fn memory() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        if !words
            .next()
            .is_some_and(|program| program.ends_with("granary"))
            || words.next() != Some("operator")
        {
            continue;
        }
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if let Some(rss) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")) {
            lines.push(format!(
                "operator process {}: {} resident",
                entry.file_name().display(),
                rss.trim()
            ));
        }
    }
    Ok(lines)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert!((percentile(&values, 50) - 10.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 99) - 20.0).abs() < f64::EPSILON);
        assert!((percentile(&[7.0], 50) - 7.0).abs() < f64::EPSILON);
    }
}
