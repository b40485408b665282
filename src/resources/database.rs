//! The database's pod.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaimVolumeSource, Volume};

use super::labels::{DATABASE, metadata, selector};
use super::{keys, pod, volume_claim};
use crate::api::quantity::Bytes;
use crate::api::{SiloSettings, ValidTenant};

/// Seconds that PostgreSQL has to write its last checkpoint; the agent gives it 25 and then cuts it short.
const GRACE_SECONDS: i64 = 40;

/// The StatefulSet: one pod, stopped before it is replaced, on the silo's volume.
///
/// `Parallel`, because an ordered one waits for a broken pod to become ready before it replaces it with a sound one.
#[must_use]
pub fn stateful_set(tenant: &ValidTenant, settings: &SiloSettings) -> StatefulSet {
    let (tls, tls_mount) = pod::tls("database-tls");
    let (tmp, tmp_mount) = pod::tmp();
    let (socket, socket_mount) =
        pod::memory_dir("socket", "/run/granary/postgresql", Bytes(4 << 20));
    let data = Volume {
        name: "data".to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: volume_claim::NAME.to_owned(),
            ..PersistentVolumeClaimVolumeSource::default()
        }),
        ..Volume::default()
    };
    let fetching = keys::fetching();
    let mut mounts = vec![
        pod::mount("data", "/var/lib/granary/postgresql"),
        tls_mount,
        socket_mount,
        tmp_mount,
    ];
    mounts.extend(fetching.mounts);
    let size = &tenant.database;
    let mut env = pod::identity_env(tenant);
    env.extend([
        pod::env("GRANARY_PG_MAX_CONNECTIONS", &size.connections.to_string()),
        pod::env("GRANARY_PG_SHARED_BUFFERS", &shared_buffers(size.memory)),
        // The agent fetches its keys itself, while PostgreSQL starts.
        pod::env("GRANARY_KEYSERVER", &keys::server(settings)),
    ]);
    env.extend(max_wal_size(size.storage).map(|wal| pod::env("GRANARY_PG_MAX_WAL_SIZE", &wal)));
    let container = Container {
        args: Some(vec!["agent".to_owned(), "database".to_owned()]),
        ports: Some(vec![
            pod::port("postgresql", pod::POSTGRES_PORT),
            pod::port("agent", pod::HTTPS_PORT),
        ]),
        readiness_probe: Some(pod::readiness()),
        liveness_probe: Some(pod::liveness()),
        resources: Some(pod::resources(size.cpu, size.memory)),
        ..pod::container(DATABASE, &settings.postgres_image, env, mounts)
    };
    let volumes = [vec![data, tls, socket, tmp], fetching.volumes].concat();
    let mut template = pod::template(tenant, DATABASE, None, container, volumes);
    if let Some(spec) = &mut template.spec {
        spec.termination_grace_period_seconds = Some(GRACE_SECONDS);
    }
    StatefulSet {
        metadata: metadata(tenant, DATABASE, DATABASE),
        spec: Some(StatefulSetSpec {
            service_name: Some(DATABASE.to_owned()),
            replicas: Some(1),
            pod_management_policy: Some("Parallel".to_owned()),
            revision_history_limit: Some(2),
            selector: selector(DATABASE),
            template,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// A quarter of the memory, the share that PostgreSQL's documentation starts from; at least 16 MB.
fn shared_buffers(memory: Bytes) -> String {
    format!("{}MB", (memory.mebibytes() / 4).max(16))
}

/// A quarter of a volume that is too small for the agent's own choice. Larger volumes leave it alone, so that a database
/// is not restarted because its volume grew.
fn max_wal_size(storage: Bytes) -> Option<String> {
    (storage < Bytes(1 << 30)).then(|| format!("{}MB", (storage.mebibytes() / 4).max(32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_buffers_are_a_quarter_and_never_nothing() {
        assert_eq!(shared_buffers(Bytes(256 << 20)), "64MB");
        assert_eq!(shared_buffers(Bytes(2 << 30)), "512MB");
        assert_eq!(shared_buffers(Bytes(32 << 20)), "16MB");
    }

    #[test]
    fn the_write_ahead_log_fits_on_a_small_volume() {
        assert_eq!(max_wal_size(Bytes(64 << 20)).as_deref(), Some("32MB"));
        assert_eq!(max_wal_size(Bytes(512 << 20)).as_deref(), Some("128MB"));
        assert_eq!(max_wal_size(Bytes(1 << 30)), None);
    }
}
