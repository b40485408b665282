//! The schema migration of a release.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Container;

use super::labels::{LABEL_RELEASE, MIGRATE, metadata};
use super::pod;
use crate::api::{Release, ValidTenant};

/// Tries before a migration counts as failed for good. At the kubelet's back-off of at most 5 minutes these are weeks,
/// so that a migration succeeds by itself once its cause is gone.
const TRIES: i32 = 10_000;

/// Name of the Job that migrates to a release.
#[must_use]
pub fn name(release: &Release) -> String {
    format!("{MIGRATE}-{release}")
}

/// The Job. Nothing in its pod template can change while the release stays the same, because a Job's template never
/// may: so it has no sizes (the limit range gives it the app's) and no display name.
///
/// `OnFailure` keeps one pod, restarted in place: the next try comes sooner than with a new pod, failed pods do not
/// pile up against the quota, and the last failure's words stay in the pod's status.
#[must_use]
pub fn job(tenant: &ValidTenant) -> Job {
    let (tls, tls_mount) = pod::tls("migrate-tls");
    let (tmp, tmp_mount) = pod::tmp();
    let mut env = pod::identity_env(tenant);
    env.extend(pod::database_env(tenant, "owner"));
    let container = Container {
        args: Some(vec![MIGRATE.to_owned()]),
        ..pod::container(MIGRATE, &tenant.app.image, env, vec![tls_mount, tmp_mount])
    };
    let mut template = pod::template(
        tenant,
        MIGRATE,
        Some(&tenant.release),
        container,
        vec![tls, tmp],
    );
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("OnFailure".to_owned());
    }
    let mut metadata = metadata(tenant, &name(&tenant.release), MIGRATE);
    metadata
        .labels
        .get_or_insert_default()
        .insert(LABEL_RELEASE.to_owned(), tenant.release.to_string());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(TRIES),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}
