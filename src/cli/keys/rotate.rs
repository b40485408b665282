//! `granary keys rotate`: keys from before a moment are to be replaced; the operator does it.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::super::FIELD_MANAGER;
use super::super::age;
use super::super::argument;
use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::list;
use super::super::printer::Printer;
use super::super::progress::Progress;
use super::super::wait::{self, Goal, WaitArgs};
use super::table::Keys;
use crate::api::keys::{DataKeyState, TenantKeys};
use crate::api::{Tenant, TenantState};

/// A wish that is further ahead than this is a date, and no other clock.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// Replace the keys of a tenant, or of all, by new versions
///
/// New texts are sealed with the new version at once. What older ones sealed is sealed anew while the tenant is served,
/// and an older version is retired when nothing needs it any more.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant, required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// All tenants
    #[arg(long)]
    all: bool,
    /// Only keys that are older than this
    #[arg(long, value_name = "DURATION", value_parser = age::parse)]
    older_than: Option<Duration>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Runs `granary keys rotate`.
pub async fn run(args: &RotateArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let started = Instant::now();
    let now = Timestamp::now();
    let not_before = not_before(now, args.older_than);
    let mut tenants = match &args.name {
        Some(name) => vec![of_one(cluster.tenant(name).await?)?],
        None => list::tenants(cluster, None).await?,
    };
    tenants.retain(|tenant| args.name.is_some() || can_rotate(tenant).is_ok());
    tenants.retain(|tenant| args.older_than.is_none() || has_older(tenant, not_before));
    if tenants.is_empty() {
        printer.note("No key is that old; nothing was changed.");
        return printer.show(&Keys::of(&tenants, now));
    }
    let mut progress = Progress::new(printer, started);
    for tenant in &mut tenants {
        *tenant = ask_for(tenant, not_before, cluster).await?;
        let name = tenant.name_any();
        progress.step(&if tenant.spec.state == TenantState::Active {
            format!("tenant {name}: keys from before {not_before} are to be replaced")
        } else {
            format!("tenant {name} does not run; its keys are replaced when it does again")
        });
    }
    if let Some(timeout) = args.wait.timeout() {
        wait_for(&mut tenants, not_before, timeout, cluster, &mut progress).await?;
        printer.note(&format!("Done after {}.", age::elapsed(progress.elapsed())));
    }
    printer.show(&Keys::of(&tenants, Timestamp::now()))
}

/// The next whole second, which no key that is there can be as young as.
fn not_before(now: Timestamp, older_than: Option<Duration>) -> Timestamp {
    let at = older_than
        .and_then(|age| now.checked_sub(age).ok())
        .unwrap_or(now);
    let up = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    at.round(up).unwrap_or(at)
}

fn of_one(tenant: Tenant) -> Result<Tenant, Failure> {
    match can_rotate(&tenant) {
        Ok(()) => Ok(tenant),
        Err(why) => {
            let name = tenant.name_any();
            let what = format!("cannot rotate the keys of tenant {name:?}");
            Err(Failure::new(Exit::Conflict, what)
                .why(format!("{why}; nothing was changed"))
                .next(format!("granary status {name}")))
        }
    }
}

/// Whether its keys can be replaced, or why not.
fn can_rotate(tenant: &Tenant) -> Result<(), &'static str> {
    let has_key = tenant
        .status
        .as_ref()
        .is_some_and(|status| status.key.is_some());
    if tenant.metadata.deletion_timestamp.is_some() {
        Err("it is being removed")
    } else if tenant.spec.state == TenantState::Offboarded {
        Err("it is being offboarded")
    } else if has_key {
        Ok(())
    } else {
        Err("it has no keys yet")
    }
}

/// Whether one of its keys in use was made before this moment.
fn has_older(tenant: &Tenant, at: Timestamp) -> bool {
    let key = tenant
        .status
        .as_ref()
        .and_then(|status| status.key.as_ref());
    key.is_some_and(|key| {
        key.rotated_at.0 < at
            || key
                .data_keys
                .iter()
                .any(|key| key.state == DataKeyState::Active && key.since.0 < at)
    })
}

/// Says so in the spec of exactly this tenant. What was asked for before and reaches further stays.
async fn ask_for(
    tenant: &Tenant,
    not_before: Timestamp,
    cluster: &Cluster,
) -> Result<Tenant, Failure> {
    let name = tenant.name_any();
    let what = format!("cannot rotate the keys of tenant {name:?}");
    let keys = tenant.spec.keys.as_ref();
    let asked = keys.and_then(|keys| keys.not_before.as_ref());
    if let Some(asked) = asked.filter(|asked| asked.0 >= not_before) {
        // Some seconds ahead is another clock; more is a date, which hides every other wish until it comes.
        if asked.0.duration_since(Timestamp::now()) > AHEAD {
            return Err(Failure::new(Exit::Conflict, what)
                .why(format!(
                    "spec.keys.notBefore asks for a rotation at {}, which is to come; nothing was changed",
                    asked.0
                ))
                .next(format!("kubectl edit tenant {name}   # take spec.keys.notBefore off")));
        }
        return Ok(tenant.clone());
    }
    let keys = TenantKeys {
        not_before: Some(Time(not_before)),
    };
    let patch = json!({"metadata": {"uid": tenant.uid()}, "spec": {"keys": keys}});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = cluster.tenants();
    let mut tenant = cluster
        .ask(&what, api.patch(&name, &params, &Patch::Merge(&patch)))
        .await?;
    tenant.metadata.managed_fields = None;
    Ok(tenant)
}

/// Waits for one after the other; the operator rotates them side by side.
async fn wait_for(
    tenants: &mut [Tenant],
    not_before: Timestamp,
    timeout: Duration,
    cluster: &Cluster,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let running = tenants
        .iter_mut()
        .filter(|tenant| tenant.spec.state == TenantState::Active);
    for tenant in running {
        let left = timeout.saturating_sub(progress.elapsed());
        let goal = Goal::Rotated(not_before);
        match wait::until(goal, tenant, cluster, progress, left).await {
            Ok(Some(mut reached)) => {
                reached.metadata.managed_fields = None;
                *tenant = reached;
            }
            Ok(None) => {}
            Err(failure) if failure.exit() == Exit::Cancelled => return Err(failure),
            Err(failure) => failures.push(failure),
        }
    }
    let others = failures.len().saturating_sub(1);
    match failures.into_iter().next() {
        None => Ok(()),
        Some(failure) if others == 0 => Err(failure),
        Some(failure) => Err(failure
            .why(format!("and {others} more tenants"))
            .next("granary keys list")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures::{ago, now, tenant};
    use super::*;

    #[test]
    fn a_key_of_this_second_is_old_enough() {
        let now: Timestamp = "2026-11-21T12:00:00.2Z".parse().expect("a time");
        assert_eq!(not_before(now, None).to_string(), "2026-11-21T12:00:01Z");
        let day = Some(Duration::from_hours(24));
        assert_eq!(not_before(now, day).to_string(), "2026-11-20T12:00:01Z");
    }

    #[test]
    fn only_keys_in_use_have_an_age() {
        let tenant = tenant("acme").ready().build();
        assert!(has_older(&tenant, now()));
        assert!(has_older(&tenant, ago(179_999)), "the tenant's key");
        assert!(!has_older(&tenant, ago(180_000)));
    }

    #[test]
    fn who_has_no_keys_or_goes_is_left_alone() {
        assert!(can_rotate(&tenant("acme").build()).is_err());
        assert!(can_rotate(&tenant("acme").ready().deleting().build()).is_err());
        let leaving = tenant("acme").ready().wanting(TenantState::Offboarded);
        assert!(can_rotate(&leaving.build()).is_err());
        assert!(can_rotate(&tenant("acme").ready().build()).is_ok());
    }
}
