//! Everything that tenants live on, started once for all tests.

use std::sync::OnceLock;

use granary::keys::{KeyId, KeyState, Kms as _, TenantUid};
use granary::registry::{Registry, Role};
use kube::Client;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OnceCell, Semaphore};

use crate::cluster::Cluster;
use crate::keyserver::KeyServer;
use crate::operator::Operators;
use crate::postgres::Postgres;

/// How many tenants live side by side. Most of the time they wait for a namespace to go.
pub const SIDE_BY_SIDE: usize = 24;

/// API server, registry, key server, KMS and operators.
pub struct Plane {
    pub client: Client,
    pub keyserver: KeyServer,
    pub operators: Operators,
    /// The registry, as the test looks into it.
    pub registry: Registry,
    /// Who may live now.
    pub room: Semaphore,
    _cluster: Cluster,
}

/// Runs a test on the plane that all tests share. One runtime, because the plane's own tasks outlive each test.
pub fn on_plane(test: impl AsyncFnOnce(&'static Plane)) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static PLANE: OnceCell<Plane> = OnceCell::const_new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_multi_thread().enable_all().build().unwrap());
    runtime.block_on(async {
        let plane = PLANE.get_or_init(Plane::start).await;
        test(plane).await;
    });
}

impl Plane {
    async fn start() -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
        let database = postgres.database().await;
        let folder = tempfile::Builder::new()
            .prefix("granary-faults-")
            .tempdir()
            .unwrap()
            .keep();
        let cluster = Cluster::start(&postgres.authority, &folder).await;
        let client = cluster.client.clone();
        let keyserver = KeyServer::start(&client, postgres, &database, &folder).await;
        let operators = Operators::start(&client, postgres, &database, &keyserver).await;
        Self {
            client,
            keyserver,
            operators,
            registry: postgres.registry(&database, Role::App),
            room: Semaphore::new(SIDE_BY_SIDE),
            _cluster: cluster,
        }
    }

    /// Every key that the KMS has for these tenants, whatever its state.
    pub async fn keys_of(&self, tenants: &[TenantUid]) -> Vec<(TenantUid, KeyId, KeyState)> {
        let mut keys = self.keyserver.kms.list_keys().await.unwrap();
        keys.retain(|(tenant, ..)| tenants.contains(tenant));
        keys
    }
}
