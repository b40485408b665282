//! Operators, in this process: one for each tenant, so that one can die and come back with an empty memory.
//!
//! What all of them share is what a watch shows and no decision of theirs: the cache of the API server, the lease, and
//! the connections to the registry.

use std::sync::Arc;

use clap::Parser;
use granary::api::LABEL_TENANT_UID;
use granary::config::OperatorSettings;
use granary::control::context::Context;
use granary::control::kind::Kind;
use granary::control::lease::{Elector, Leadership};
use granary::control::memory::Memory;
use granary::control::observations::{ObjectKey, Observations};
use granary::control::parts::{Parts, Shared};
use granary::control::watches::{Triggers, Watches};
use granary::control::writer::Writer;
use granary::evidence::SigningKey;
use granary::registry::{Registry, Role};
use granary::telemetry::Metrics;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::cluster::{NAMESPACE, image};
use crate::keyserver::KeyServer;
use crate::postgres::Postgres;

/// Connections of all operators together.
const CONNECTIONS: u32 = 24;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: OperatorSettings,
}

/// What operators are made from.
pub struct Operators {
    client: Client,
    settings: OperatorSettings,
    leadership: Leadership,
    observations: Arc<Observations>,
    watches: Watches,
    registry: watch::Sender<Option<Registry>>,
    signing: watch::Sender<Option<Arc<SigningKey>>>,
}

impl Operators {
    /// Takes the lease and waits until the watches have shown what there is.
    pub async fn start(
        client: &Client,
        postgres: &Postgres,
        database: &str,
        keyserver: &KeyServer,
    ) -> Self {
        let leadership = Leadership::default();
        let mut elector = Elector::new(
            client.clone(),
            NAMESPACE,
            "operator",
            "test",
            leadership.clone(),
        );
        elector.win().await;
        tokio::spawn(async move { elector.hold().await });
        let observations = Arc::new(Observations::default());
        let (triggers, _) = Triggers::new(Arc::default(), Metrics::default());
        let mut watches = Watches::start(
            client,
            &observations,
            &Arc::new(triggers),
            (NAMESPACE, "granary"),
        );
        watches.synced().await;
        let registry = granary::registry::RegistrySettings {
            max_connections: CONNECTIONS,
            ..postgres.settings(database, Role::App)
        };
        let registry = Registry::connect(&registry).unwrap();
        Self {
            client: client.clone(),
            settings: settings(postgres, keyserver),
            leadership,
            observations,
            watches,
            registry: watch::Sender::new(Some(registry)),
            signing: watch::Sender::new(Some(Arc::new(SigningKey::generate().unwrap()))),
        }
    }

    /// An operator that remembers nothing.
    pub fn fresh(&self) -> Arc<Context> {
        let memory = Arc::new(Memory::default());
        let metrics = Metrics::default();
        let (triggers, _) = Triggers::new(memory.clone(), metrics.clone());
        let shared = Shared {
            settings: &self.settings,
            client: self.client.clone(),
            writer: Writer::new(
                self.client.clone(),
                self.leadership.clone(),
                self.observations.clone(),
                metrics.clone(),
            ),
            observations: self.observations.clone(),
            memory,
            metrics,
            triggers: Arc::new(triggers),
            watches: &self.watches,
        };
        let Parts { context, .. } = shared.assemble(NAMESPACE.to_owned()).unwrap();
        let mut context = Arc::into_inner(context).expect("nothing runs yet");
        // The plane's own certificates are not tested here: this registry was signed by the test's authority.
        context.keys.registry = self.registry.subscribe();
        context.offboarding.keys = context.keys.clone();
        context.offboarding.signing = self.signing.subscribe();
        let mut silos = (*context.settings.load_full()).clone();
        "-----BEGIN CERTIFICATE-----\n".clone_into(&mut silos.keyserver_ca);
        context.settings.store(Arc::new(silos));
        Arc::new(context)
    }

    /// Lists a silo's objects, as a process does that has just started.
    pub async fn list_again(&self, uid: &str, namespace: &str) {
        let mut listed = Vec::new();
        let params = ListParams::default().labels(&format!("{LABEL_TENANT_UID}={uid}"));
        for kind in Kind::ALL {
            let (client, resource) = (self.client.clone(), kind.api());
            let api: Api<DynamicObject> = match kind {
                Kind::Namespace => Api::all_with(client, &resource),
                _ => Api::namespaced_with(client, namespace, &resource),
            };
            for object in api.list(&params).await.unwrap() {
                listed.push((
                    kind,
                    object.namespace().unwrap_or_default(),
                    object.name_any(),
                ));
                self.observations.apply(kind, &object);
            }
        }
        for key in self.known(uid) {
            let found = (key.kind, key.namespace.clone(), key.name.clone());
            if !listed.contains(&found) {
                self.observations.forget(uid, &key);
            }
        }
    }

    /// Every object that carries the tenant's label, wherever it is, as the watches have it.
    pub fn known(&self, uid: &str) -> Vec<ObjectKey> {
        self.observations.silo(uid).into_keys().collect()
    }
}

fn settings(postgres: &Postgres, keyserver: &KeyServer) -> OperatorSettings {
    let file = |name: &str| keyserver.files.join(name).to_str().unwrap().to_owned();
    // Nobody listens there: no page answers.
    let gateway = "127.0.0.1:9";
    let line = [
        "granary".to_owned(),
        "--base-domain=granary.localhost".to_owned(),
        "--gateway-dataplane-namespace=traefik".to_owned(),
        format!("--gateway-probe-address={gateway}"),
        format!("--gateway-ca-file={}", file("ca.crt")),
        format!("--postgres-image={}", image("granary-postgres", 'b')),
        format!("--granary-image={}", image("granary", 'c')),
        "--kms-provider=aws".to_owned(),
        format!("--keyserver={}", keyserver.url),
        format!("--keyserver-token-file={}", file("token")),
        format!("--plane-dir={}", keyserver.files.display()),
        "--registry-host=localhost".to_owned(),
        format!("--registry-port={}", postgres.port),
    ];
    Arguments::parse_from(line).settings
}
