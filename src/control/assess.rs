//! Step 5, pure: what a silo is, in conditions that say why and what to do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    execute::Executed,
    kind::Kind,
    observe::{Gateway, Observed},
    offboarding::Progress,
    plan,
    probe::Page,
    rotation::{look::Looked, report},
    seen::{Facts, Outcome, PodFacts},
};
use crate::api::{
    Condition, ConditionStatus, ConditionType, Phase, Rejection, Release, TenantState,
    TenantStatus, ValidTenant,
    keys::{DataKeyPurpose, RotationStatus},
    tenant::{DatabaseStatus, KeyStatus},
};

/// Reason while the claim of a database's volume is on its way out.
const VOLUME_DELETED: &str = "VolumeDeleted";
const VOLUME_DELETED_MESSAGE: &str = "somebody deleted the claim of the database's volume; all data goes when the database's pod stops. \
     Copy the data now; while the pod runs, it is kept running";

/// Whether a condition holds, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: ConditionStatus,
    reason: String,
    message: String,
}

impl Verdict {
    fn holds(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::True,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn fails(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::Unknown,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The status of a tenant that was carried out as far as it could be.
#[must_use]
pub fn assess(valid: &ValidTenant, observed: &Observed, executed: &Executed) -> TenantStatus {
    let known_key = executed.key.as_ref().or(observed.key.as_ref());
    let mut verdicts = vec![
        (ConditionType::NamespaceReady, namespace(observed)),
        (
            ConditionType::NetworkIsolated,
            Verdict::holds(
                "PoliciesInPlace",
                "every network policy of the silo is in place",
            ),
        ),
        (
            ConditionType::CertificatesReady,
            certificates(observed, executed),
        ),
        (ConditionType::KeyReady, key(observed, executed, known_key)),
    ];
    if valid.state == TenantState::Active {
        verdicts.extend([
            (ConditionType::DatabaseReady, database(valid, observed)),
            (ConditionType::MigrationReady, migration(valid, observed)),
            (ConditionType::AppReady, app(valid, observed)),
            (ConditionType::RouteReady, route(valid, observed)),
        ]);
    } else {
        let (reason, message) = stopped(valid, observed);
        for condition in [
            ConditionType::DatabaseReady,
            ConditionType::MigrationReady,
            ConditionType::AppReady,
            ConditionType::RouteReady,
        ] {
            verdicts.push((condition, Verdict::fails(reason, message.clone())));
        }
    }
    if !executed.unannounced {
        apply_failures(&mut verdicts, observed, executed);
    }
    let ready = waiting(executed).unwrap_or_else(|| overall(&verdicts));
    let phase = phase(valid.state, &ready, observed);
    verdicts.push((ConditionType::Ready, ready));
    let previous = observed.tenant.status.as_ref();
    TenantStatus {
        phase,
        // A generation that could not be announced has not been looked at.
        observed_generation: if executed.unannounced {
            previous.and_then(|status| status.observed_generation)
        } else {
            Some(valid.generation)
        },
        namespace: Some(valid.namespace.to_string()),
        url: Some(valid.url.clone()),
        release: serving_release(observed),
        key: known_key.map(|key| KeyStatus {
            rotation: rotation(observed, executed),
            ..key.clone()
        }),
        database: observed
            .database
            .as_ref()
            .filter(|report| report.version.is_some())
            .map(|report| DatabaseStatus {
                version: report.version.clone(),
                size_bytes: report.size_bytes,
            })
            .or_else(|| previous.and_then(|status| status.database.clone())),
        // It is on its way back until the registry knows.
        offboarding: previous
            .and_then(|status| status.offboarding.clone())
            .filter(|_| matches!(observed.progress, Progress::Running(_)) && !executed.reinstated),
        certificates_renew_at: executed
            .renew_at
            .or_else(|| plan::renew_at(observed))
            .map(Time),
        conditions: dated(verdicts, valid.generation, previous, observed.now),
    }
}

/// The status of a tenant whose spec cannot be carried out. What runs keeps running.
#[must_use]
pub fn assess_rejected(observed: &Observed, rejection: &Rejection) -> TenantStatus {
    let mut status = observed.tenant.status.clone().unwrap_or_default();
    let generation = observed.tenant.metadata.generation.unwrap_or_default();
    let verdict = (
        ConditionType::Ready,
        Verdict::fails(rejection.reason(), rejection.to_string()),
    );
    let previous = status.clone();
    status
        .conditions
        .retain(|condition| condition.type_ != ConditionType::Ready);
    status.conditions.extend(dated(
        vec![verdict],
        generation,
        Some(&previous),
        observed.now,
    ));
    status.phase = Phase::Rejected;
    status.observed_generation = Some(generation);
    status
}

fn namespace(observed: &Observed) -> Verdict {
    match observed
        .objects
        .iter()
        .find(|(key, _)| key.kind == Kind::Namespace)
    {
        Some((key, seen)) if seen.terminating => Verdict::fails(
            "NamespaceTerminating",
            format!(
                "somebody deleted namespace {}; the silo is rebuilt empty when it is gone",
                key.name
            ),
        ),
        _ => Verdict::holds(
            "NamespaceCreated",
            "namespace, quota, limits and service accounts are in place",
        ),
    }
}

fn certificates(observed: &Observed, executed: &Executed) -> Verdict {
    let renewal = executed.renew_at.or_else(|| plan::renew_at(observed));
    let when = renewal.map_or_else(String::new, |at| {
        format!(
            "; renewal is due {}",
            at.round(jiff::Unit::Second).unwrap_or(at)
        )
    });
    Verdict::holds(
        "CertificatesIssued",
        format!("certificates of the silo's own authority are in place{when}"),
    )
}

fn key(observed: &Observed, executed: &Executed, known: Option<&KeyStatus>) -> Verdict {
    if let Some((reason, message)) = &observed.key_trouble {
        return Verdict::fails(
            reason,
            format!("pods wait for their keys: {message}; those that have them go on"),
        );
    }
    match known {
        Some(key) => keys_in_place(observed, executed, key),
        None => Verdict::fails("Waiting", "the tenant has no keys yet"),
    }
}

fn keys_in_place(observed: &Observed, executed: &Executed, key: &KeyStatus) -> Verdict {
    let looked = observed.rotation.as_ref();
    let progress = match (&executed.rotation, looked.map(report::progress)) {
        (Some(Err(trouble)), _) => Err(trouble.clone()),
        (_, Some(found)) => found,
        (_, None) => Ok(None),
    };
    match progress {
        _ if matches!(&executed.rotation, Some(Ok(done)) if done.replaced.is_some()) => {}
        Ok(None) => {}
        Ok(Some(what)) => {
            let rotation = rotation(observed, executed).map_or_else(String::new, |rotation| {
                let of = match rotation.purpose {
                    Some(DataKeyPurpose::App) => "the app's data key",
                    Some(DataKeyPurpose::Backup) => "the backups' data key",
                    None => "the tenant's key",
                };
                format!(
                    "{of} goes from version {} to {}: ",
                    rotation.from, rotation.to
                )
            });
            return Verdict::holds(report::ROTATING, format!("{rotation}{what}"));
        }
        Err(trouble) if trouble.passes => {
            return Verdict::holds(
                report::ROTATING,
                format!(
                    "new versions of the keys wait, those in place serve: {}",
                    trouble.message
                ),
            );
        }
        Err(trouble) => {
            return Verdict::fails(
                &trouble.reason,
                format!(
                    "the keys cannot be replaced: {}; pods that have theirs go on",
                    trouble.message
                ),
            );
        }
    }
    let kept = report::kept(key).map_or_else(String::new, |kept| format!("; {kept}"));
    Verdict::holds(
        "KeysInPlace",
        format!(
            "the tenant has its own key, {}, in version {}{kept}",
            key.id, key.version
        ),
    )
}

/// The rotation that is under way after this pass.
fn rotation(observed: &Observed, executed: &Executed) -> Option<RotationStatus> {
    let before = observed
        .tenant
        .status
        .as_ref()
        .and_then(|status| status.key.as_ref()?.rotation.clone());
    let far = match &observed.rotation {
        None => return None,
        // It could not be found out, which is not "none".
        Some(Looked::Trouble(_)) => return before,
        Some(Looked::Far(far)) => far,
    };
    let begun = match &executed.rotation {
        Some(Ok(done)) if done.replaced.is_some() => return None,
        Some(Ok(done)) => done.job.as_ref(),
        Some(Err(_)) | None => None,
    };
    let job = begun.or(far.job.as_ref())?;
    Some(report::rotation_status(job, far))
}

fn database(valid: &ValidTenant, observed: &Observed) -> Verdict {
    if observed.loses_volume() {
        return Verdict::fails(VOLUME_DELETED, VOLUME_DELETED_MESSAGE);
    }
    let report = observed.database.as_ref().filter(|report| !report.ready);
    let mut pods = observed.pods("database");
    let Some(pod) = pods.next() else {
        let bound = observed
            .objects
            .values()
            .any(|seen| matches!(seen.facts, Facts::Claim { bound: true, .. }));
        return if bound {
            Verdict::fails("Starting", "the database's pod is not there yet")
        } else {
            Verdict::fails(
                "VolumePending",
                "the database's volume is not bound yet; check the storage class and its provisioner",
            )
        };
    };
    if pod.ready {
        let kept = plan::kept_volume(valid, observed).map_or_else(String::new, |kept| {
            let why = if kept > valid.database.storage {
                "since volumes never shrink"
            } else {
                "since its storage class cannot make volumes larger"
            };
            format!(
                "; its volume keeps {kept} where plan {} has {}, {why}",
                valid.plan, valid.database.storage
            )
        });
        return Verdict::holds(
            "AcceptingConnections",
            format!("PostgreSQL accepts connections{kept}"),
        );
    }
    if let Some((reason, message)) = &pod.trouble {
        return Verdict::fails(
            reason,
            format!("the database's pod does not run: {message}"),
        );
    }
    match report {
        Some(report) => Verdict::fails(
            report.reason.as_deref().unwrap_or("Starting"),
            report
                .message
                .clone()
                .unwrap_or_else(|| "PostgreSQL is starting".to_owned()),
        ),
        None => Verdict::fails("Starting", "PostgreSQL is starting"),
    }
}

fn migration(valid: &ValidTenant, observed: &Observed) -> Verdict {
    match plan::migration(valid, observed) {
        Outcome::Succeeded => Verdict::holds(
            "Migrated",
            format!("the schema is that of release {}", valid.release),
        ),
        Outcome::Failed(message) => Verdict::fails(
            "MigrationFailed",
            format!(
                "release {} does not take over: {message}; see the logs of job migrate-{}",
                valid.release, valid.release
            ),
        ),
        Outcome::Running => match trouble(observed.pods("migrate"), valid.release.as_str()) {
            Some((reason, message)) => Verdict::fails(
                &reason,
                format!("the migration does not get through: {message}"),
            ),
            None => Verdict::fails(
                "Migrating",
                format!(
                    "the schema migration of release {} is running",
                    valid.release
                ),
            ),
        },
    }
}

fn app(valid: &ValidTenant, observed: &Observed) -> Verdict {
    let wanted = usize::try_from(valid.app.replicas).unwrap_or_default();
    let ready = observed.pods("app").filter(|pod| pod.ready).count();
    let current = observed
        .pods("app")
        .filter(|pod| pod.ready && pod.release.as_deref() == Some(valid.release.as_str()))
        .count();
    let meanwhile = if ready > 0 {
        "; the pods that are ready keep serving"
    } else {
        ""
    };
    if let Some((reason, message)) = trouble(observed.pods("app"), valid.release.as_str()) {
        return Verdict::fails(
            &reason,
            format!(
                "release {} does not run: {message}{meanwhile}",
                valid.release
            ),
        );
    }
    if current >= wanted {
        return Verdict::holds(
            "PodsReady",
            format!(
                "{current} of {wanted} pods of release {} are ready",
                valid.release
            ),
        );
    }
    if ready >= wanted {
        return Verdict::holds(
            "RollingOut",
            format!(
                "release {} is taking over: {current} of {wanted} pods are ready",
                valid.release
            ),
        );
    }
    Verdict::fails(
        "Starting",
        format!("{ready} of {wanted} pods are ready{meanwhile}"),
    )
}

/// What keeps a pod of this release from running.
fn trouble<'a>(
    pods: impl Iterator<Item = &'a PodFacts>,
    release: &str,
) -> Option<(String, String)> {
    pods.filter(|pod| !pod.ready && pod.release.as_deref().is_none_or(|of| of == release))
        .find_map(|pod| pod.trouble.clone())
}

fn route(valid: &ValidTenant, observed: &Observed) -> Verdict {
    if observed.unavailable.contains(&Kind::HttpRoute)
        || observed.unavailable.contains(&Kind::BackendTlsPolicy)
    {
        return Verdict::unknown(
            "GatewayApiMissing",
            "the cluster does not serve Gateway API v1; install its CRDs",
        );
    }
    // First: a controller goes on serving what it had for a moment.
    if observed.gateway == Gateway::Missing {
        return Verdict::fails(
            "GatewayMissing",
            "the gateway that routes hang on does not exist; see `granary doctor`",
        );
    }
    if observed.page == Page::Answers {
        return Verdict::holds(
            "PageAnswers",
            format!("{} answers through the gateway", valid.url),
        );
    }
    let facts = observed
        .objects
        .values()
        .find_map(|seen| match &seen.facts {
            Facts::Route(facts) => Some(facts),
            _ => None,
        });
    if let Some((reason, message)) = facts.and_then(|facts| facts.refused.as_ref()) {
        return Verdict::fails(
            reason,
            format!("the gateway does not take the route: {message}"),
        );
    }
    match &observed.page {
        Page::Fails(message) => Verdict::fails("PageNotAnswering", message.clone()),
        _ if observed.gateway == Gateway::NotProgrammed => Verdict::fails(
            "GatewayNotProgrammed",
            "the gateway's controller has not programmed it; is the controller running?",
        ),
        _ => Verdict::fails(
            "WaitingForApp",
            "the page is looked at once a pod of the app is ready",
        ),
    }
}

fn stopped(valid: &ValidTenant, observed: &Observed) -> (&'static str, String) {
    if observed.loses_volume() {
        return (VOLUME_DELETED, VOLUME_DELETED_MESSAGE.to_owned());
    }
    let left = observed.pods_left();
    let rest = if left == 0 {
        "no pod runs"
    } else {
        "pods are stopping"
    };
    let reason = if left == 0 { "Suspended" } else { "Suspending" };
    let message = format!(
        "{rest}, the volume is kept; `granary resume {}` brings it back",
        valid.name
    );
    (reason, message)
}

/// Writes that failed outrank what was seen.
fn apply_failures(
    verdicts: &mut [(ConditionType, Verdict)],
    observed: &Observed,
    executed: &Executed,
) {
    for failure in &executed.failures {
        let verdict = Verdict::fails(&failure.error.reason(), failure.to_string());
        let place = verdicts
            .iter()
            .position(|(condition, _)| *condition == failure.condition);
        if let Some(index) = place.or_else(|| verdicts.len().checked_sub(1)) {
            verdicts[index].1 = verdict;
        }
    }
    // What comes after a stage that failed was not even tried.
    if let Some(first) = executed
        .failures
        .iter()
        .map(|failure| failure.condition)
        .min()
    {
        let what = match first {
            ConditionType::NamespaceReady => "the namespace".to_owned(),
            other => format!("{other:?}"),
        };
        for (condition, verdict) in verdicts.iter_mut() {
            let untried = *condition <= ConditionType::CertificatesReady
                && verdict.status == ConditionStatus::True;
            // Without a namespace there is nothing that they could speak of, but for failures of their own.
            let nowhere = *condition < ConditionType::Ready
                && !observed.has_namespace()
                && !executed
                    .failures
                    .iter()
                    .any(|failure| failure.condition == *condition);
            if *condition > first && (untried || nowhere) {
                *verdict = Verdict::fails("Waiting", format!("waits for {what}"));
            }
        }
    }
}

/// A change that waits to be audited: whatever the parts are, they are not what the spec asks for.
fn waiting(executed: &Executed) -> Option<Verdict> {
    let failure = executed.failures.iter().find(|_| executed.unannounced)?;
    Some(Verdict::fails(
        &failure.error.reason(),
        format!("{failure}; the silo stays as it is"),
    ))
}

/// `Ready` is all the others; its reason is that of the first that does not hold.
fn overall(verdicts: &[(ConditionType, Verdict)]) -> Verdict {
    let failing = verdicts
        .iter()
        .find(|(_, verdict)| verdict.status != ConditionStatus::True);
    failing.map_or_else(
        || Verdict::holds("Serving", "the tenant's page answers from its own silo"),
        |(condition, verdict)| Verdict {
            status: ConditionStatus::False,
            reason: verdict.reason.clone(),
            message: format!("{condition:?}: {}", verdict.message),
        },
    )
}

fn phase(state: TenantState, ready: &Verdict, observed: &Observed) -> Phase {
    let was_ready = observed
        .tenant
        .status
        .as_ref()
        .is_some_and(|status| matches!(status.phase, Phase::Ready | Phase::Degraded));
    match state {
        // Pods on their way out still run.
        TenantState::Suspended if was_ready && observed.pods_left() > 0 => Phase::Degraded,
        TenantState::Suspended => Phase::Suspended,
        // One of these is on its way out and never assessed here.
        TenantState::Offboarded => Phase::Offboarding,
        TenantState::Active if ready.status == ConditionStatus::True => Phase::Ready,
        TenantState::Active if was_ready => Phase::Degraded,
        TenantState::Active => Phase::Provisioning,
    }
}

fn serving_release(observed: &Observed) -> Option<String> {
    observed
        .objects
        .values()
        .find_map(|seen| match &seen.facts {
            Facts::Deployment { image, .. } => Some(Release::of_image(image).to_string()),
            _ => None,
        })
}

/// Conditions keep the time of their last transition as long as their status stays.
pub(super) fn dated(
    verdicts: Vec<(ConditionType, Verdict)>,
    generation: i64,
    previous: Option<&TenantStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    let before = |type_: ConditionType| {
        previous?
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    };
    let now = Time(now.round(jiff::Unit::Second).unwrap_or(now));
    verdicts
        .into_iter()
        .map(
            |(
                type_,
                Verdict {
                    status,
                    reason,
                    message,
                },
            )| Condition {
                last_transition_time: before(type_)
                    .filter(|condition| condition.status == status)
                    .map_or_else(
                        || now.clone(),
                        |condition| condition.last_transition_time.clone(),
                    ),
                type_,
                status,
                reason,
                message,
                observed_generation: generation,
            },
        )
        .collect()
}
