//! What every pod of a silo has: Pod Security `restricted`, no token for Kubernetes, literal environments, certificates as
//! files.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{DATABASE, LABEL_RELEASE, labels};
use crate::api::quantity::{Bytes, Cpu};
use crate::api::{Release, ValidTenant};

/// Port that apps, the agent and their probes use.
pub const HTTPS_PORT: i32 = 8443;
/// Port of PostgreSQL.
pub const POSTGRES_PORT: i32 = 5432;

/// User and group of every image of a silo.
const USER: i64 = 10_001;
/// Where the certificates are in every pod.
const TLS_DIR: &str = "/run/granary/tls";
/// Readable by the pod's group only. PostgreSQL and libpq refuse a key that more people can read.
const TLS_MODE: i32 = 0o440;

/// A pod template of a component, labelled with the release it runs if it has one.
pub fn template(
    tenant: &ValidTenant,
    component: &str,
    release: Option<&Release>,
    container: Container,
    volumes: Vec<Volume>,
) -> PodTemplateSpec {
    let mut labels = labels(tenant, component);
    labels.extend(release.map(|release| (LABEL_RELEASE.to_owned(), release.to_string())));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(component.to_owned()),
            // Both keep a pod from learning about, or talking to, more than its silo. A token would also be a volume to
            // wait for at the start.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                // Once: a database's files are many, and PostgreSQL refuses those that its group may write.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(runtime_default()),
                ..PodSecurityContext::default()
            }),
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

/// A container that Pod Security `restricted` admits, with nothing to run yet.
pub fn container(name: &str, image: &str, env: Vec<EnvVar>, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        env: Some(env),
        volume_mounts: Some(mounts),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        // The last lines of a failed container's log are the reason that the tenant's status gives.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    }
}

/// An environment variable whose value reaches the process as it is.
///
/// The kubelet expands `$(NAME)` in values and turns `$$` into `$`. Doubling every dollar sign, not only those before a
/// parenthesis, leaves nothing to expand: `$$(NAME)` would otherwise become `$` and an expansion.
pub fn env(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.replace('$', "$$")),
        ..EnvVar::default()
    }
}

/// Who the silo belongs to. These never change, so that a Job may hold them.
pub fn identity_env(tenant: &ValidTenant) -> Vec<EnvVar> {
    vec![
        env("GRANARY_TENANT", &tenant.name),
        env("GRANARY_TENANT_UID", &tenant.uid),
    ]
}

/// How an app reaches its database as this role, in libpq's variables and as a URL. There is no password.
pub fn database_env(tenant: &ValidTenant, role: &str) -> Vec<EnvVar> {
    let host = format!("{DATABASE}.{}.svc", tenant.namespace);
    let (ca, cert, key) = (
        format!("{TLS_DIR}/ca.crt"),
        format!("{TLS_DIR}/client.crt"),
        format!("{TLS_DIR}/client.key"),
    );
    let url = format!(
        "postgres://{role}@{host}:{POSTGRES_PORT}/app?sslmode=verify-full&sslrootcert={ca}&sslcert={cert}&sslkey={key}"
    );
    vec![
        env("PGHOST", &host),
        env("PGPORT", &POSTGRES_PORT.to_string()),
        env("PGDATABASE", "app"),
        env("PGUSER", role),
        env("PGSSLMODE", "verify-full"),
        env("PGSSLROOTCERT", &ca),
        env("PGSSLCERT", &cert),
        env("PGSSLKEY", &key),
        env("DATABASE_URL", &url),
    ]
}

/// The certificates of a Secret, and where they are mounted.
pub fn tls(secret: &str) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: "tls".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(TLS_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    (
        volume,
        VolumeMount {
            read_only: Some(true),
            ..mount("tls", TLS_DIR)
        },
    )
}

/// A directory in memory, which is emptied with the pod and counts as the container's memory.
pub fn memory_dir(name: &str, path: &str, size: Bytes) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(size.to_string())),
        }),
        ..Volume::default()
    };
    (volume, mount(name, path))
}

/// The only place beside volumes that a program may write to.
pub fn tmp() -> (Volume, VolumeMount) {
    memory_dir("tmp", "/tmp", Bytes(32 << 20))
}

/// Where a volume is in the container.
pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// A named TCP port.
pub fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Ready as soon as the server says so: it holds the request until it is, at most 25 s, so that nobody waits for the
/// next tick of a clock. For the same reason a database that is gone for less than that makes no pod unready.
pub fn readiness() -> Probe {
    Probe {
        http_get: Some(https_get("/readyz?wait=25")),
        period_seconds: Some(1),
        timeout_seconds: Some(30),
        failure_threshold: Some(2),
        ..Probe::default()
    }
}

/// Alive: seldom asked and patient, because a restart of a server that is merely slow makes a crowded node worse.
pub fn liveness() -> Probe {
    Probe {
        http_get: Some(https_get("/healthz")),
        period_seconds: Some(20),
        timeout_seconds: Some(10),
        failure_threshold: Some(6),
        ..Probe::default()
    }
}

fn https_get(path: &str) -> HTTPGetAction {
    HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(HTTPS_PORT),
        scheme: Some("HTTPS".to_owned()),
        ..HTTPGetAction::default()
    }
}

/// Limits as given; requests a small part of them, since most silos are idle most of the time.
pub fn resources(cpu: Cpu, memory: Bytes) -> ResourceRequirements {
    ResourceRequirements {
        limits: Some(quantities(cpu, memory)),
        requests: Some(requested(cpu, memory)),
        ..ResourceRequirements::default()
    }
}

/// What a container of this size asks the scheduler for: a fiftieth of its CPU, a quarter of its memory.
pub fn requested(cpu: Cpu, memory: Bytes) -> BTreeMap<String, Quantity> {
    // Whole mebibytes read better; the API server stores either.
    let memory_request = Bytes((memory.0 / 4) >> 20 << 20);
    quantities(
        Cpu((cpu.0 / 50).max(10)),
        memory_request.max(Bytes(1 << 20)),
    )
}

/// CPU and memory as a resource list.
pub fn quantities(cpu: Cpu, memory: Bytes) -> BTreeMap<String, Quantity> {
    [
        ("cpu".to_owned(), Quantity(cpu.to_string())),
        ("memory".to_owned(), Quantity(memory.to_string())),
    ]
    .into()
}
