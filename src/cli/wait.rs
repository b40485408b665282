//! Waiting for a tenant: by a watch, never by polling, with a deadline.

use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::time::{Instant, timeout_at};

use super::advice;
use super::age;
use super::cluster::Cluster;
use super::events;
use super::exit::Exit;
use super::failure::Failure;
use super::look;
use super::progress::Progress;
use crate::api::keys::{DataKeyState, DataKeyStatus};
use crate::api::{ConditionStatus, ConditionType, Phase, Tenant};

/// The operator's reason once no pod of a suspended tenant is left.
const SUSPENDED: &str = "Suspended";

/// Whether and how long to wait.
#[derive(Args, Clone, Copy, Debug)]
pub struct WaitArgs {
    /// Wait until it is done (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as the request is accepted
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = age::parse)]
    timeout: Duration,
}

impl WaitArgs {
    /// How long to wait, if at all.
    #[must_use]
    pub const fn timeout(&self) -> Option<Duration> {
        if self.no_wait && !self.wait {
            None
        } else {
            Some(self.timeout)
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The tenant is served, as its spec is now.
    Ready,
    /// Its pods are gone.
    Suspended,
    /// Nobody reaches its page any more.
    Cut,
    /// Its key and data are destroyed.
    Shredded,
    /// The resource is gone, and so is its silo.
    Gone,
    /// Keys from before this moment have been replaced, and nothing needs the older versions.
    Rotated(Timestamp),
}

impl Goal {
    const fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Cut => "cut off",
            Self::Shredded => "destroyed",
            Self::Gone => "gone",
            Self::Rotated(_) => "done with its keys",
        }
    }
}

/// What one look at the tenant says about the goal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    Never(Failure),
}

/// Waits until the tenant reaches the goal and returns it as it was last seen (`None` once it is gone).
pub async fn until(
    goal: Goal,
    tenant: &Tenant,
    cluster: &Cluster,
    progress: &mut Progress,
    timeout: Duration,
) -> Result<Option<Tenant>, Failure> {
    let deadline = Instant::now() + timeout;
    let name = tenant.name_any();
    let mut stream =
        std::pin::pin!(watcher::watch_object(cluster.tenants(), &name).default_backoff());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut seen = Some(tenant.clone());
    let mut trouble = None;
    loop {
        let next = tokio::select! {
            next = timeout_at(deadline, stream.next()) => next,
            _ = &mut interrupt => {
                progress.finish();
                return Err(interrupted(goal, &name));
            }
        };
        match next {
            Ok(Some(Ok(now))) => {
                trouble = None;
                if let Some(now) = &now {
                    match goal {
                        Goal::Rotated(_) => progress.observe_keys(now),
                        _ => progress.observe(now),
                    }
                }
                match verdict(goal, tenant, now.as_ref()) {
                    Verdict::Reached => {
                        progress.finish();
                        return Ok(now);
                    }
                    Verdict::NotYet => seen = now,
                    Verdict::Never(failure) => {
                        progress.finish();
                        return Err(explained(failure, now.as_ref(), cluster).await);
                    }
                }
            }
            // The watch starts again by itself; only a refusal will not get better.
            Ok(Some(Err(error))) => {
                let failure = watch_failure(&name, &error);
                if failure.exit() == Exit::Refused {
                    progress.finish();
                    return Err(failure);
                }
                trouble = Some(failure);
            }
            Ok(None) | Err(_) => {
                progress.finish();
                if let Some(trouble) = trouble {
                    return Err(cluster.placed(trouble));
                }
                return Err(
                    explained(timed_out(goal, &name, timeout), seen.as_ref(), cluster).await,
                );
            }
        }
    }
}

fn verdict(goal: Goal, wanted: &Tenant, now: Option<&Tenant>) -> Verdict {
    let name = wanted.name_any();
    let Some(now) = now.filter(|now| now.uid() == wanted.uid()) else {
        return match goal {
            // Nothing of a tenant outlives its resource.
            Goal::Gone | Goal::Shredded => Verdict::Reached,
            Goal::Ready | Goal::Suspended | Goal::Cut | Goal::Rotated(_) => {
                Verdict::Never(Failure::new(
                    Exit::NotFound,
                    format!("tenant {name:?} was removed by somebody else while waiting for it"),
                ))
            }
        };
    };
    if goal == Goal::Gone {
        return Verdict::NotYet;
    }
    if now.metadata.deletion_timestamp.is_some() && goal != Goal::Shredded {
        return Verdict::Never(Failure::new(
            Exit::Conflict,
            format!(
                "tenant {name:?} is being removed; it will not become {}",
                goal.words()
            ),
        ));
    }
    let generation = wanted.metadata.generation.unwrap_or(0);
    let observed = now
        .status
        .as_ref()
        .and_then(|status| status.observed_generation)
        .unwrap_or(-1);
    if observed < generation {
        return Verdict::NotYet;
    }
    let ready = look::condition(now, ConditionType::Ready).is_some_and(|ready| {
        ready.status == ConditionStatus::True && ready.observed_generation >= generation
    });
    match (goal, look::phase_of(now)) {
        (_, Phase::Rejected) => Verdict::Never(rejected(&name, now)),
        (Goal::Ready, _) if ready => Verdict::Reached,
        (Goal::Suspended, Phase::Suspended) if is_suspended(now) => Verdict::Reached,
        (Goal::Rotated(at), _) if is_rotated(wanted, now, at) => Verdict::Reached,
        (Goal::Cut, Phase::Offboarded | Phase::Shredding | Phase::Shredded)
        | (Goal::Shredded, Phase::Shredded) => Verdict::Reached,
        _ => Verdict::NotYet,
    }
}

/// Whether nothing but the suspension keeps it from being ready: no pod is left, and nothing failed.
fn is_suspended(tenant: &Tenant) -> bool {
    look::condition(tenant, ConditionType::Ready).is_some_and(|ready| ready.reason == SUSPENDED)
}

/// Whether every key that was older than this has another version now, and no rotation is under way. Told by the versions:
/// times are of several clocks.
fn is_rotated(before: &Tenant, now: &Tenant, at: Timestamp) -> bool {
    let key = |tenant: &Tenant| tenant.status.as_ref()?.key.clone();
    let (Some(before), Some(now)) = (key(before), key(now)) else {
        return false;
    };
    let mut old = before
        .data_keys
        .iter()
        .filter(|key| key.state == DataKeyState::Active && key.since.0 < at);
    let is_replaced = |old: &DataKeyStatus| {
        now.data_keys.iter().any(|key| {
            key.purpose == old.purpose
                && key.state == DataKeyState::Active
                && key.version > old.version
        })
    };
    now.rotation.is_none()
        && (before.rotated_at.0 >= at || now.version > before.version)
        && old.all(is_replaced)
}

fn rejected(name: &str, now: &Tenant) -> Failure {
    let failure = Failure::new(
        Exit::Refused,
        format!("tenant {name:?} cannot be built as its spec is"),
    );
    match look::blocking(now) {
        Some(condition) => failure.why(format!("{}: {}", condition.reason, condition.message)),
        None => failure,
    }
}

fn timed_out(goal: Goal, name: &str, timeout: Duration) -> Failure {
    Failure::new(
        Exit::TimedOut,
        format!(
            "tenant {name:?} is not {} after {}; the operator goes on",
            goal.words(),
            age::elapsed(timeout)
        ),
    )
}

fn interrupted(goal: Goal, name: &str) -> Failure {
    Failure::new(
        Exit::Interrupted,
        format!(
            "stopped waiting for tenant {name:?} to be {}; the operator goes on",
            goal.words()
        ),
    )
    .next(format!("granary status {name}"))
}

/// What an error of a watch on a tenant means.
#[must_use]
pub fn watch_failure(name: &str, error: &watcher::Error) -> Failure {
    let what = format!("cannot watch tenant {name:?}");
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Failure::from_kube(&what, error),
        watcher::Error::WatchError(status) => Failure::from_status(&what, status),
        watcher::Error::NoResourceVersion => Failure::new(Exit::Failure, what)
            .why("the API server does not say which version of the tenant it sends"),
    }
}

/// Adds what the tenant's conditions and its last warning say, and where to look.
async fn explained(mut failure: Failure, seen: Option<&Tenant>, cluster: &Cluster) -> Failure {
    let Some(tenant) = seen else {
        return failure;
    };
    if !look::is_current(tenant) {
        failure = failure
            .why("the operator has not looked at its newest spec yet")
            .next("granary doctor   # is the operator running?");
    } else if failure.reasons().is_empty()
        && let Some(condition) = look::blocking(tenant)
    {
        failure = failure.why(format!(
            "{} is {}: {}: {}",
            look::condition_name(condition.type_),
            look::condition_status(condition.status).0,
            condition.reason,
            condition.message
        ));
    }
    if let Some(event) = events::last_warning(cluster, tenant).await {
        failure = failure.why(format!("last event: {event}"));
    }
    let status = format!("granary status {}", tenant.name_any());
    advice::next(tenant, jiff::Timestamp::now())
        .into_iter()
        .filter(|advice| !advice.starts_with(&status) && !advice.starts_with("granary doctor"))
        .fold(failure.next(status.clone()), Failure::next)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::fixtures::{condition, data_key, now, tenant};
    use super::*;
    use crate::api::TenantState;
    use crate::api::keys::{DataKeyPurpose, RotationStatus};

    #[test]
    fn ready_is_reached_only_for_the_spec_as_it_is_now() {
        let wanted = tenant("acme").wanting(TenantState::Active).build();
        let stale = tenant("acme").ready().build();
        assert_eq!(verdict(Goal::Ready, &wanted, Some(&stale)), Verdict::NotYet);
        let wanted = tenant("acme").build();
        assert_eq!(
            verdict(Goal::Ready, &wanted, Some(&stale)),
            Verdict::Reached
        );
    }

    #[test]
    fn a_rejected_spec_ends_the_wait() {
        let wanted = tenant("acme").build();
        let now = tenant("acme")
            .phase(Phase::Rejected)
            .with(condition(
                ConditionType::Ready,
                ConditionStatus::False,
                "NamespaceTaken",
                "namespace silo-acme-4f1c09ab7d exists and is not Granary's",
            ))
            .build();
        let Verdict::Never(failure) = verdict(Goal::Ready, &wanted, Some(&now)) else {
            panic!("still waiting");
        };
        assert_eq!(failure.exit(), Exit::Refused);
        assert!(
            failure.reasons()[0].contains("NamespaceTaken"),
            "{failure:?}"
        );
    }

    #[test]
    fn gone_is_gone_even_when_the_name_lives_again() {
        let wanted = tenant("acme").build();
        assert_eq!(verdict(Goal::Gone, &wanted, None), Verdict::Reached);
        assert_eq!(verdict(Goal::Gone, &wanted, Some(&wanted)), Verdict::NotYet);
        let again = tenant("acme").uid("another").build();
        assert_eq!(verdict(Goal::Gone, &wanted, Some(&again)), Verdict::Reached);
    }

    #[test]
    fn access_is_cut_in_every_phase_after_and_destroyed_in_the_last() {
        use Verdict::{NotYet, Reached};

        let wanted = tenant("acme").wanting(TenantState::Offboarded).build();
        let verdicts = |phase| {
            let mut now = tenant("acme").phase(phase).build();
            if let Some(status) = &mut now.status {
                status.observed_generation = Some(2);
            }
            [Goal::Cut, Goal::Shredded].map(|goal| verdict(goal, &wanted, Some(&now)))
        };
        assert_eq!(verdicts(Phase::Ready), [NotYet, NotYet]);
        assert_eq!(verdicts(Phase::Offboarding), [NotYet, NotYet]);
        assert_eq!(verdicts(Phase::Offboarded), [Reached, NotYet]);
        assert_eq!(verdicts(Phase::Shredding), [Reached, NotYet]);
        assert_eq!(verdicts(Phase::Shredded), [Reached, Reached]);
    }

    #[test]
    fn a_removed_tenant_never_becomes_ready() {
        let wanted = tenant("acme").build();
        for now in [None, Some(tenant("acme").ready().deleting().build())] {
            assert!(
                matches!(
                    verdict(Goal::Ready, &wanted, now.as_ref()),
                    Verdict::Never(_)
                ),
                "{now:?}"
            );
        }
    }

    #[test]
    fn rotated_is_told_by_versions_and_by_nothing_being_under_way() {
        let before = tenant("acme").ready().build();
        let goal = Goal::Rotated(now());
        assert_eq!(verdict(goal, &before, Some(&before)), Verdict::NotYet);
        let mut after = before.clone();
        let status = after.status.as_mut().expect("a status");
        let key = status.key.as_mut().expect("a key");
        key.version += 1;
        key.data_keys = vec![
            data_key(DataKeyPurpose::App, 3, DataKeyState::Active, 10),
            data_key(DataKeyPurpose::Backup, 2, DataKeyState::Active, 10),
        ];
        let done = after.clone();
        assert_eq!(verdict(goal, &before, Some(&done)), Verdict::Reached);
        let key = after.status.as_mut().and_then(|status| status.key.as_mut());
        key.expect("a key").rotation = Some(RotationStatus {
            purpose: Some(DataKeyPurpose::App),
            from: 2,
            to: 3,
            rows_left: Some(40),
            started_at: Time(now()),
        });
        assert_eq!(verdict(goal, &before, Some(&after)), Verdict::NotYet);
    }

    #[test]
    fn suspended_needs_the_phase_and_that_no_pod_is_left() {
        let wanted = tenant("acme").build();
        let ready = tenant("acme").ready().build();
        assert_eq!(
            verdict(Goal::Suspended, &wanted, Some(&ready)),
            Verdict::NotYet
        );
        let stopping = tenant("acme")
            .phase(Phase::Suspended)
            .with(condition(
                ConditionType::Ready,
                ConditionStatus::False,
                "Suspending",
                "",
            ))
            .build();
        assert_eq!(
            verdict(Goal::Suspended, &wanted, Some(&stopping)),
            Verdict::NotYet
        );
        let suspended = tenant("acme")
            .phase(Phase::Suspended)
            .with(condition(
                ConditionType::Ready,
                ConditionStatus::False,
                SUSPENDED,
                "",
            ))
            .build();
        assert_eq!(
            verdict(Goal::Suspended, &wanted, Some(&suspended)),
            Verdict::Reached
        );
    }
}
