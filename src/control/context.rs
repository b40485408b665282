//! What every pass shares.

use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Secret, storage::v1::StorageClass};
use kube::{Api, Client, ResourceExt, runtime::events::Recorder, runtime::reflector::Store};

use super::{
    execute::ExecuteError, memory::Memory, observations::Observations, observe::Gateway,
    offboarding::Offboarding, probe::Probes, tenant_keys::TenantKeys, writer::Writer,
};
use crate::{
    api::{ANNOTATION_REQUESTED_BY, Plan, SiloName, SiloSettings, Tenant},
    pki::{Authority, Lifetimes, rollover},
    resources::{certificates, labels::CA},
    telemetry::Metrics,
};

/// What every pass shares.
pub struct Context {
    /// Reads; writes go through `writer`.
    pub client: Client,
    /// The only door for writes.
    pub writer: Writer,
    /// What silos are built from beside their tenants; a pass loads it once.
    pub settings: Arc<ArcSwap<SiloSettings>>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// What has tenants' keys made.
    pub keys: TenantKeys,
    /// What ends tenants.
    pub offboarding: Offboarding,
    /// What the watches have shown.
    pub observations: Arc<Observations>,
    /// Plans as the watch has them.
    pub plans: Store<Plan>,
    /// Whether the API server writes down who changes a tenant.
    pub requesters_known: bool,
    /// Looks at pages and databases.
    pub probes: Probes,
    /// Events of this operator.
    pub recorder: Recorder,
    /// What was published and how often passes failed.
    pub memory: Arc<Memory>,
    /// Figures of this operator.
    pub metrics: Metrics,
    /// The gateway as the watch has it.
    pub gateway: Arc<RwLock<Gateway>>,
    /// Storage classes as the watch has them.
    pub storage_classes: Store<StorageClass>,
}

impl Context {
    /// The gateway as the watch has it.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        *self.gateway.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asked for the tenant's spec to be as it is, where the API server writes that down.
    #[must_use]
    pub fn requester<'a>(&self, tenant: &'a Tenant) -> Option<&'a str> {
        let annotations = tenant.metadata.annotations.as_ref()?;
        let requester = annotations.get(ANNOTATION_REQUESTED_BY)?;
        (self.requesters_known && !requester.is_empty()).then_some(requester)
    }

    /// The authorities of a silo, from its Secret `ca`.
    ///
    /// # Errors
    /// Where the Secret cannot be read or does not hold authorities.
    pub async fn authorities(&self, namespace: &str) -> Result<Vec<Authority>, ExecuteError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get_opt(CA).await.map_err(|source| ExecuteError::Read {
            what: "the Secret of the authority",
            source: Box::new(source),
        })?;
        // An authority that is missing or damaged is replaced by a new one, which is what a renewal without one does.
        Ok(secret
            .and_then(|secret| secret.data)
            .map(|data| certificates::authorities(&data))
            .unwrap_or_default())
    }

    /// Why a tenant's pods do not get their keys, as reason and message. Asked for seldom, however often it is wanted.
    pub async fn key_trouble(&self, uid: &str) -> Option<(String, String)> {
        if let Some(known) = self.memory.key_trouble(uid) {
            return known;
        }
        let found = self.keys.trouble(uid).await;
        self.memory.found_key_trouble(uid, found.clone());
        found
    }

    /// Makes sure that the silo's agent can be asked, also by a process that did not issue its certificates.
    pub async fn meet_agent(&self, tenant: &Tenant) {
        let uid = tenant.uid().unwrap_or_default();
        if self.probes.trusts(&uid) {
            return;
        }
        let namespace = SiloName::new(&tenant.name_any(), &uid);
        let authorities = match self.authorities(namespace.as_str()).await {
            Ok(authorities) => authorities,
            Err(error) => return tracing::warn!(%error, "the silo's agent cannot be asked"),
        };
        if let Some(index) = rollover::signer(&authorities, Timestamp::now(), &self.lifetimes) {
            let bundle: String = authorities
                .iter()
                .map(|authority| authority.certificate_pem.as_str())
                .collect();
            self.probes.trust(&uid, &authorities[index], &bundle);
        }
    }
}
