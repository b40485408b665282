//! How a pod gets its data keys: from the key server into memory, by its own token, and into nothing else.
//!
//! ```text
//! token of this pod ──► key server ──► /run/granary/keys/<purpose>/<version>   (memory, gone with the pod)
//! ```

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ExecAction, Probe, ProjectedVolumeSource,
    ResourceRequirements, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use kube::api::ObjectMeta;

use super::certificates::{ANNOTATION_CONTENT, BUNDLE, content};
use super::labels::{SILO, metadata};
use super::pod;
use crate::api::plane::{KEYS_AUDIENCE, KEYSERVER, KEYSERVER_PORT};
use crate::api::quantity::{Bytes, Cpu};
use crate::api::{SiloSettings, ValidTenant};

/// Name of the container that fetches keys beside another one.
pub const SIDECAR: &str = "keys";
/// Where a pod's data keys are.
pub const KEYS_DIR: &str = "/run/granary/keys";
/// Where a pod's token for the key server is.
const TOKEN_DIR: &str = "/run/granary/token";
/// Where the authorities are that the key server's certificate is checked by.
const CA_DIR: &str = "/run/granary/keyserver-ca";
/// Name of the `ConfigMap` with those authorities.
const CA_NAME: &str = "keyserver-ca";
/// Seconds that a token is valid; the kubelet replaces it before. The shortest that Kubernetes allows.
const TOKEN_SECONDS: i64 = 600;
/// Room for a handful of keys of 32 bytes.
const KEYS_SIZE: Bytes = Bytes(1 << 20);

/// How long one look for the keys waits for them.
const READY_SECONDS: i32 = 50;

/// What the container that fetches keys may use at most. CPU is for its start, which the app's start waits for.
pub const SIDECAR_CPU: Cpu = Cpu(200);
/// Memory that it may use at most.
pub const SIDECAR_MEMORY: Bytes = Bytes(32 << 20);

/// What a container mounts to fetch keys, and the volumes behind it.
pub struct Fetching {
    /// The volumes of the pod.
    pub volumes: Vec<Volume>,
    /// Where the container that fetches has them.
    pub mounts: Vec<VolumeMount>,
}

/// Volumes and mounts of a container that fetches keys: a folder in memory to write them to, the token to ask with and
/// the authorities to know the key server by.
#[must_use]
pub fn fetching() -> Fetching {
    let (keys, keys_mount) = pod::memory_dir("keys", KEYS_DIR, KEYS_SIZE);
    let token = Volume {
        name: "token".to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    audience: Some(KEYS_AUDIENCE.to_owned()),
                    expiration_seconds: Some(TOKEN_SECONDS),
                    path: "token".to_owned(),
                }),
                ..VolumeProjection::default()
            }]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    };
    let authorities = Volume {
        name: CA_NAME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: CA_NAME.to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    Fetching {
        volumes: vec![keys, token, authorities],
        mounts: vec![
            keys_mount,
            read_only("token", TOKEN_DIR),
            read_only(CA_NAME, CA_DIR),
        ],
    }
}

/// Where a container that only uses keys has them.
#[must_use]
pub fn using() -> VolumeMount {
    read_only("keys", KEYS_DIR)
}

/// The container that fetches the keys of `purpose` and looks for new versions as long as the pod runs. It starts before
/// the pod's other containers, which wait until its startup probe has seen the keys.
///
/// The probe itself waits, so that they start the moment the keys are there and not at the kubelet's next look. A hook
/// after the start could do the same, but while one runs the kubelet does not end a pod that is deleted.
#[must_use]
pub fn sidecar(settings: &SiloSettings, purpose: &str, mounts: Vec<VolumeMount>) -> Container {
    let command = ["agent", "keys", "--purpose", purpose, "--server"];
    let server = server(settings);
    let waits = READY_SECONDS.to_string();
    let probe = [
        "/usr/bin/granary",
        "agent",
        "keys-ready",
        "--purpose",
        purpose,
        "--timeout-seconds",
        &waits,
    ];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Container {
        args: Some(words(&[&command[..], &[&server]].concat())),
        env: None,
        restart_policy: Some("Always".to_owned()),
        startup_probe: Some(Probe {
            exec: Some(ExecAction {
                command: Some(words(&probe)),
            }),
            period_seconds: Some(1),
            timeout_seconds: Some(READY_SECONDS + 10),
            // A container that is started anew would not get its keys any sooner.
            failure_threshold: Some(i32::MAX),
            ..Probe::default()
        }),
        resources: Some(ResourceRequirements {
            limits: Some(pod::quantities(SIDECAR_CPU, SIDECAR_MEMORY)),
            requests: Some(pod::quantities(Cpu(5), Bytes(16 << 20))),
            ..ResourceRequirements::default()
        }),
        ..pod::container(SIDECAR, &settings.granary_image, Vec::new(), mounts)
    }
}

/// Where the key server is.
#[must_use]
pub fn server(settings: &SiloSettings) -> String {
    format!(
        "https://{KEYSERVER}.{}.svc:{KEYSERVER_PORT}",
        settings.plane_namespace
    )
}

/// The authorities that the key server's certificate is checked by.
#[must_use]
pub fn authorities(tenant: &ValidTenant, settings: &SiloSettings) -> ConfigMap {
    let (key, bundle) = (BUNDLE.to_owned(), settings.keyserver_ca.clone());
    let digest = content([(&key, bundle.as_bytes())]);
    ConfigMap {
        metadata: ObjectMeta {
            annotations: Some([(ANNOTATION_CONTENT.to_owned(), digest)].into()),
            ..metadata(tenant, CA_NAME, SILO)
        },
        data: Some([(key, bundle)].into()),
        ..ConfigMap::default()
    }
}

fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..pod::mount(name, path)
    }
}
