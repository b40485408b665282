//! The app's pods.

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, EnvVar, Lifecycle, LifecycleHandler, SleepAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{APP, LABEL_RELEASE, metadata, selector};
use super::{keys, pod};
use crate::api::{Environment, Release, SiloSettings, ValidTenant};

/// Seconds that a pod goes on serving after it was told to stop: until every gateway knows that it is going.
const DRAIN_SECONDS: i64 = 3;
/// Seconds from then until it is killed, the former included.
const GRACE_SECONDS: i64 = 20;

/// The Deployment of this image, labelled with the release that the image is. A pod of the new release has to be ready
/// before one of the old goes. Beside the app runs what fetches its data keys.
#[must_use]
pub fn deployment(tenant: &ValidTenant, settings: &SiloSettings, image: &str) -> Deployment {
    let release = Release::of_image(image);
    let (tls, tls_mount) = pod::tls("app-tls");
    let (tmp, tmp_mount) = pod::tmp();
    let container = Container {
        ports: Some(vec![pod::port("https", pod::HTTPS_PORT)]),
        readiness_probe: Some(pod::readiness()),
        liveness_probe: Some(pod::liveness()),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: DRAIN_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(pod::resources(tenant.app.cpu, tenant.app.memory)),
        ..pod::container(
            APP,
            image,
            env(tenant),
            vec![tls_mount, tmp_mount, keys::using()],
        )
    };
    let keys::Fetching { volumes, mounts } = keys::fetching();
    let volumes = [vec![tls, tmp], volumes].concat();
    let mut template = pod::template(tenant, APP, Some(&release), container, volumes);
    if let Some(spec) = &mut template.spec {
        spec.init_containers = Some(vec![keys::sidecar(settings, "app", mounts)]);
        spec.termination_grace_period_seconds = Some(GRACE_SECONDS);
    }
    let mut metadata = metadata(tenant, APP, APP);
    metadata
        .labels
        .get_or_insert_default()
        .insert(LABEL_RELEASE.to_owned(), release.to_string());
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(tenant.app.replicas),
            revision_history_limit: Some(2),
            selector: selector(APP),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn env(tenant: &ValidTenant) -> Vec<EnvVar> {
    let environment = match tenant.environment {
        Environment::Production => "production",
        Environment::Staging => "staging",
        Environment::Development => "development",
    };
    let mut env = pod::identity_env(tenant);
    env.extend([
        pod::env("GRANARY_DISPLAY_NAME", &tenant.display_name),
        pod::env("GRANARY_ENVIRONMENT", environment),
        pod::env("GRANARY_URL", &tenant.url),
        pod::env("GRANARY_KEYS_DIR", keys::KEYS_DIR),
    ]);
    // Left out, not empty: the API server drops an empty value.
    env.extend(
        tenant
            .owner_email
            .as_deref()
            .map(|email| pod::env("GRANARY_OWNER_EMAIL", email)),
    );
    env.extend(pod::database_env(tenant, "app"));
    env
}
