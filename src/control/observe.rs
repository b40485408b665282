//! Step 1, reads only: everything that a pass may decide on.
//!
//! Watches have done nearly all the reading already. What is asked for anew costs the API server nothing: whether the
//! page answers through the gateway, and what the database says of itself. Only a silo on its way out makes one list,
//! of the volumes that must be gone.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{Api, ResourceExt, api::ListParams, core::DynamicObject, runtime::reflector::ObjectRef};

use super::{
    context::Context,
    kind::Kind,
    observations::{ObjectKey, SiloObjects},
    offboarding::progress::{self, Progress},
    ownership,
    probe::{AgentReport, Page},
    rotation::look::{Looked, look},
    seen::{Facts, PodFacts, Seen},
    storage_classes::{self, Binding, Storage},
};
use crate::api::{Phase, Plan, SiloName, Tenant, TenantState, TenantStatus, tenant::KeyStatus};

/// How long a pod may take to get its keys before somebody asks why.
const KEYS_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// What one pass decides on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The tenant as the watch has it.
    pub tenant: Arc<Tenant>,
    /// The plan it names, if it exists.
    pub plan: Option<Arc<Plan>>,
    /// The objects that carry the tenant's UID.
    pub objects: SiloObjects,
    /// Kinds that the API server does not serve.
    pub unavailable: BTreeSet<Kind>,
    /// The gateway that routes hang on.
    pub gateway: Gateway,
    /// Whether the tenant's page answers through the gateway.
    pub page: Page,
    /// What the database says of itself; none while it cannot be asked.
    pub database: Option<AgentReport>,
    /// What the class of the database's volume says.
    pub storage: Storage,
    /// The tenant's key, if it is known to have one: then nobody is asked about it any more.
    pub key: Option<KeyStatus>,
    /// The newest generation of the spec that the audit knows of.
    pub announced: Option<i64>,
    /// What keeps pods from their keys, as reason and message; looked for only where one waits for them.
    pub key_trouble: Option<(String, String)>,
    /// How far a rotation of the keys is, if one is due or under way.
    pub rotation: Option<Looked>,
    /// How far the tenant's end is; asked for only of one that is on its way out, or was until a moment ago.
    pub progress: Progress,
    /// Volumes of the silo; looked for only once its namespace is to be gone.
    pub volumes: Volumes,
    /// Now.
    pub now: Timestamp,
}

/// The gateway that routes hang on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// Not looked at yet, or the API server does not serve gateways.
    #[default]
    Unknown,
    /// There is none of that name.
    Missing,
    /// It exists and its controller has not programmed it.
    NotProgrammed,
    /// It works.
    Programmed,
}

/// Volumes of a silo that is being removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// Not looked for, which is not "none".
    #[default]
    Unknown,
    /// These are left.
    Left(Vec<String>),
}

impl Observed {
    /// The pods of one component.
    pub fn pods<'a>(&'a self, component: &'a str) -> impl Iterator<Item = &'a PodFacts> {
        self.objects
            .values()
            .filter(|seen| !seen.terminating)
            .filter_map(move |seen| match &seen.facts {
                Facts::Pod(pod) if pod.component == component => Some(pod),
                _ => None,
            })
    }

    /// How many pods of database and app there are, those on their way out included.
    #[must_use]
    pub fn pods_left(&self) -> usize {
        self.objects
            .values()
            .filter(|seen| {
                matches!(&seen.facts, Facts::Pod(pod) if matches!(pod.component.as_str(), "app" | "database"))
            })
            .count()
    }

    /// Whether somebody deleted the claim of the database's volume: it goes, with all data, when its pod stops.
    #[must_use]
    pub fn loses_volume(&self) -> bool {
        self.objects
            .iter()
            .any(|(key, seen)| key.kind == Kind::PersistentVolumeClaim && seen.terminating)
    }

    /// Whether pods wait for the database's volume: its class binds it at once, and it is not bound yet.
    #[must_use]
    pub fn waits_for_volume(&self) -> bool {
        let bound = self
            .objects
            .values()
            .any(|seen| matches!(seen.facts, Facts::Claim { bound: true, .. }));
        self.storage.binding == Binding::Immediate && !bound
    }

    /// Whether a pod has waited for its keys longer than fetching them takes.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        self.pods("app").any(|pod| {
            pod.without_keys_since
                .is_some_and(|since| self.now.duration_since(since) > KEYS_WITHIN)
        })
    }

    /// Whether the silo's namespace is there.
    #[must_use]
    pub fn has_namespace(&self) -> bool {
        self.objects.keys().any(|key| key.kind == Kind::Namespace)
    }
}

/// Collects what the pass decides on.
///
/// # Errors
/// Only where a silo is being removed and its volumes cannot be listed.
pub async fn observe(context: &Context, tenant: Arc<Tenant>) -> Result<Observed, kube::Error> {
    let uid = tenant.uid().unwrap_or_default();
    let objects = context.observations.silo(&uid);
    let plan = context.plans.get(&ObjectRef::new(&tenant.spec.plan));
    let class = plan
        .as_ref()
        .and_then(|plan| plan.spec.database.storage_class_name.as_deref());
    let mut observed = Observed {
        storage: storage_classes::storage(&context.storage_classes, class),
        plan,
        objects,
        unavailable: context.observations.unavailable(),
        gateway: context.gateway(),
        page: Page::NotTried,
        database: None,
        key_trouble: None,
        announced: context
            .memory
            .announced(&uid)
            .or_else(|| announced_in_status(&tenant)),
        key: context.memory.key(&uid).or_else(|| key_in_status(&tenant)),
        rotation: None,
        progress: Progress::NotAsked,
        volumes: Volumes::Unknown,
        now: Timestamp::now(),
        tenant,
    };
    if progress::concerns(&observed.tenant) {
        observed.progress = context.offboarding.progress(&uid).await;
    }
    if progress::is_unwanted(&observed.tenant) {
        look_for_rest(context, &mut observed).await?;
        return Ok(observed);
    }
    observed.rotation = look(
        context,
        &observed.tenant,
        observed.plan.as_deref(),
        &observed.objects,
        &mut observed.key,
        observed.now,
    )
    .await;
    if observed.tenant.spec.state == TenantState::Active {
        if observed.lacks_keys() {
            observed.key_trouble = context.key_trouble(&uid).await;
        }
        let serving = observed.pods("app").any(|pod| pod.ready);
        let same_gateway = observed.gateway == Gateway::Programmed;
        observed.page = context
            .probes
            .page(&observed.tenant, serving, same_gateway)
            .await;
        let address = observed.pods("database").find_map(|pod| pod.ip.clone());
        let ready = observed.pods("database").any(|pod| pod.ready);
        if let Some(address) = address {
            let is_known = observed
                .tenant
                .status
                .as_ref()
                .is_some_and(|status| status.database.is_some());
            if !(ready && is_known) {
                context.meet_agent(&observed.tenant).await;
            }
            observed.database = context.probes.database(&uid, &address, ready).await;
        }
    }
    Ok(observed)
}

/// What is left of a silo whose namespace does not show any more.
async fn look_for_rest(context: &Context, observed: &mut Observed) -> Result<(), kube::Error> {
    let is_at_its_end = observed.tenant.metadata.deletion_timestamp.is_some()
        || matches!(&observed.progress, Progress::Running(running) if running.journal.removed.is_some());
    let does_not_show = |observed: &Observed| {
        !observed.has_namespace() && !observed.unavailable.contains(&Kind::Namespace)
    };
    if is_at_its_end && does_not_show(observed) {
        recognise_namespace(context, observed).await?;
    }
    if is_at_its_end && does_not_show(observed) {
        observed.volumes = Volumes::Left(volumes(context, &observed.tenant).await?);
    }
    Ok(())
}

/// A namespace that lost its label is not gone: watches do not show it any more, so it is asked for by its name.
async fn recognise_namespace(
    context: &Context,
    observed: &mut Observed,
) -> Result<(), kube::Error> {
    let uid = observed.tenant.uid().unwrap_or_default();
    let name = SiloName::new(&observed.tenant.name_any(), &uid);
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &Kind::Namespace.api());
    if let Some(namespace) = api.get_opt(name.as_str()).await?
        && ownership::belongs_to(&namespace, &uid)
    {
        let key = ObjectKey {
            kind: Kind::Namespace,
            namespace: String::new(),
            name: name.to_string(),
        };
        let seen = Seen::of(Kind::Namespace, &namespace);
        observed.objects.insert(key, seen);
    }
    Ok(())
}

/// The key that the tenant's status tells of. A status that came with a resource of another UID, out of a backup, names
/// another namespace, and its key is not this tenant's.
pub(super) fn key_in_status(tenant: &Tenant) -> Option<KeyStatus> {
    // One without data keys was written by a build that did not tell of them.
    own_status(tenant)?
        .key
        .clone()
        .filter(|key| !key.data_keys.is_empty())
}

/// The generation that the status speaks of: what came of it was announced before. Nothing came of one that was rejected.
fn announced_in_status(tenant: &Tenant) -> Option<i64> {
    own_status(tenant)
        .filter(|status| status.phase != Phase::Rejected)?
        .observed_generation
}

fn own_status(tenant: &Tenant) -> Option<&TenantStatus> {
    let status = tenant.status.as_ref()?;
    let own = SiloName::new(&tenant.name_any(), &tenant.uid()?);
    (status.namespace.as_deref() == Some(own.as_str())).then_some(status)
}

async fn volumes(context: &Context, tenant: &Tenant) -> Result<Vec<String>, kube::Error> {
    let namespace = SiloName::new(&tenant.name_any(), &tenant.uid().unwrap_or_default());
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let volumes = api.list(&ListParams::default()).await?;
    Ok(volumes
        .iter()
        .filter(|volume| {
            let claim = volume
                .spec
                .as_ref()
                .and_then(|spec| spec.claim_ref.as_ref());
            claim.and_then(|claim| claim.namespace.as_deref()) == Some(namespace.as_str())
        })
        .map(ResourceExt::name_any)
        .collect())
}
