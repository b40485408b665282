//! What the operator is put together from: the settings, turned into what passes share and what the leader keeps.

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::sync::watch;

use super::{
    context::Context,
    memory::Memory,
    observations::Observations,
    offboarding::Offboarding,
    plane::{self, Credentials},
    probe::{GatewayAccess, Probes},
    registry,
    run::LEASE,
    tenant_keys::TenantKeys,
    watches::{Triggers, Watches},
    writer::Writer,
};
use crate::{
    api::{
        SiloSettings,
        plane::{KEYSERVER, KEYSERVER_PORT, OPERATOR, REGISTRY},
    },
    config::OperatorSettings,
    https,
    keys::ProviderName,
    keyserver::client as keyserver,
    pki::Lifetimes,
    telemetry::Metrics,
};

/// What is there before anything is put together.
pub struct Shared<'a> {
    /// The operator's settings.
    pub settings: &'a OperatorSettings,
    /// The API server.
    pub client: Client,
    /// The only door for writes.
    pub writer: Writer,
    /// What the watches show.
    pub observations: Arc<Observations>,
    /// What is remembered of tenants.
    pub memory: Arc<Memory>,
    /// Figures.
    pub metrics: Metrics,
    /// Asks for passes.
    pub triggers: Arc<Triggers>,
    /// The watches.
    pub watches: &'a Watches,
}

/// What was put together.
pub struct Parts {
    /// What every pass shares.
    pub context: Arc<Context>,
    /// Keeps the plane's own Secrets.
    pub plane: plane::Keeper,
    /// Keeps the way to the registry.
    pub registry: registry::Keeper,
    /// The operator's own certificates, once there are some.
    pub credentials: watch::Receiver<Option<Arc<Credentials>>>,
}

impl Shared<'_> {
    /// Puts the operator together. Nothing runs yet.
    pub fn assemble(self, gateway_namespace: String) -> anyhow::Result<Parts> {
        let settings = self.settings;
        let lifetimes = Lifetimes {
            leaf: settings.leaf_lifetime,
            ca: settings.ca_lifetime,
        };
        let silos = Arc::new(ArcSwap::from_pointee(silo_settings(
            settings,
            gateway_namespace,
        )));
        let (sender, credentials) = watch::channel(None);
        let (signing_sender, signing) = watch::channel(None);
        let plane = plane::Keeper {
            client: self.client.clone(),
            writer: self.writer.clone(),
            namespace: settings.namespace.clone(),
            lifetimes,
            needs_root_key: settings.kms_provider == ProviderName::Local,
            settings: silos.clone(),
            tenants: self.watches.tenants.clone(),
            triggers: self.triggers.clone(),
            memory: self.memory.clone(),
            authorities_file: keyserver_access(settings).files.ca_file,
            credentials: sender,
            signing: signing_sender,
        };
        let actor = format!("system:serviceaccount:{}:{OPERATOR}", settings.namespace);
        let (sender, known_registry) = watch::channel(None);
        let registry = registry::Keeper {
            place: registry_place(settings)?,
            actor: actor.clone(),
            credentials: credentials.clone(),
            registry: sender,
            memory: self.memory.clone(),
            triggers: self.triggers,
        };
        let keyserver = keyserver::Client::new(&keyserver_access(settings))
            .context("the key server cannot be asked")?;
        let keys = TenantKeys {
            registry: known_registry,
            keyserver,
            actor,
        };
        let context = Arc::new(Context {
            writer: self.writer,
            settings: silos,
            lifetimes,
            offboarding: Offboarding {
                keys: keys.clone(),
                signing,
            },
            keys,
            observations: self.observations,
            plans: self.watches.plans.clone(),
            requesters_known: settings.requesters_known,
            probes: Probes::new(gateway_access(settings)?),
            recorder: Recorder::new(self.client.clone(), reporter(settings)),
            memory: self.memory,
            metrics: self.metrics,
            gateway: self.watches.gateway.clone(),
            storage_classes: self.watches.storage_classes.clone(),
            client: self.client,
        });
        Ok(Parts {
            context,
            plane,
            registry,
            credentials,
        })
    }
}

fn reporter(settings: &OperatorSettings) -> Reporter {
    Reporter {
        controller: LEASE.to_owned(),
        instance: Some(settings.pod_name.clone()),
    }
}

fn silo_settings(settings: &OperatorSettings, gateway_namespace: String) -> SiloSettings {
    SiloSettings {
        base_domain: settings.base_domain.clone(),
        external_port: settings.external_port,
        gateway_name: settings.gateway_name.clone(),
        gateway_namespace,
        gateway_dataplane_namespace: settings.gateway_dataplane_namespace.clone(),
        plane_namespace: settings.namespace.clone(),
        postgres_image: settings.postgres_image.clone(),
        granary_image: settings.granary_image.clone(),
        // The plane's own authorities, known once they are read or made.
        keyserver_ca: String::new(),
        dns_namespace: settings.dns_namespace.clone(),
    }
}

fn registry_place(settings: &OperatorSettings) -> anyhow::Result<registry::Place> {
    let own = || format!("{REGISTRY}.{}.svc", settings.namespace);
    let authorities_pem = settings
        .registry_ca_file
        .as_ref()
        .map(|file| {
            std::fs::read_to_string(file).with_context(|| {
                format!(
                    "cannot read {}, which the registry's certificate is checked against",
                    file.display()
                )
            })
        })
        .transpose()?;
    Ok(registry::Place {
        host: settings.registry_host.clone().unwrap_or_else(own),
        port: settings.registry_port,
        database: settings.registry_database.clone(),
        authorities_pem,
    })
}

fn keyserver_access(settings: &OperatorSettings) -> keyserver::ClientArgs {
    let own = || {
        format!(
            "https://{KEYSERVER}.{}.svc:{KEYSERVER_PORT}",
            settings.namespace
        )
    };
    keyserver::ClientArgs {
        server: settings.keyserver.clone().unwrap_or_else(own),
        files: keyserver::ClientFiles {
            token_file: settings.keyserver_token_file.clone(),
            ca_file: settings.plane_dir.join("ca.crt"),
        },
    }
}

fn gateway_access(settings: &OperatorSettings) -> anyhow::Result<GatewayAccess> {
    let file = settings.gateway_ca_file.display();
    let roots = match std::fs::read(&settings.gateway_ca_file) {
        Ok(roots) => roots,
        // An image without public authorities still runs; what then fails is said where it is looked at.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(
                "{file} does not exist, so no page can be checked; set the chart's gateway.caBundle"
            );
            Vec::new()
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot read {file}, which the gateway's certificate is checked against")
            });
        }
    };
    let tls = https::client::client_config(&roots, None)
        .map_err(|error| anyhow::anyhow!("{file} holds no usable certificates: {error}"))?;
    Ok(GatewayAccess {
        address: settings.gateway_probe_address.clone(),
        base_domain: settings.base_domain.clone(),
        external_port: settings.external_port,
        tls,
    })
}
