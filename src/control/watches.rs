//! Watches: everything the operator knows comes in here, and whatever may change a decision triggers a pass.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, channel::mpsc};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        controller::ReconcileRequest,
        reflector::{ObjectRef, Store, store},
        watcher,
    },
};
use serde_json::Value;
use tokio::sync::watch;

use super::{kind::Kind, memory::Memory, observations::Observations, observe::Gateway};
use crate::{
    api::{LABEL_TENANT_UID, Plan, Tenant},
    telemetry::Metrics,
};

/// What a pass over a tenant is asked for with.
pub type Request = Result<ReconcileRequest<Tenant>, Infallible>;

/// Asks for passes; asks nobody while this replica does not lead.
pub struct Triggers {
    queue: mpsc::UnboundedSender<Request>,
    active: AtomicBool,
    names: RwLock<HashMap<String, String>>,
    memory: Arc<Memory>,
    metrics: Metrics,
}

impl Triggers {
    /// Triggers and the queue they feed.
    #[must_use]
    pub fn new(memory: Arc<Memory>, metrics: Metrics) -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (queue, requests) = mpsc::unbounded();
        (
            Self {
                queue,
                active: AtomicBool::new(false),
                names: RwLock::default(),
                memory,
                metrics,
            },
            requests,
        )
    }

    /// From now on this replica works: every tenant gets a pass.
    pub fn activate(&self, tenants: &Store<Tenant>) {
        self.active.store(true, Ordering::Release);
        for tenant in tenants.state() {
            self.name(&tenant.name_any());
        }
    }

    /// No more passes; the queue ends when those that run are done.
    pub fn close(&self) {
        self.active.store(false, Ordering::Release);
        self.queue.close_channel();
    }

    fn name(&self, name: &str) {
        if self.active.load(Ordering::Acquire) {
            self.metrics.queue_depth(self.memory.queue(name));
            // The queue is closed only at the end, when nobody wants passes any more.
            let _closed = self.queue.unbounded_send(Ok(ObjectRef::new(name).into()));
        }
    }

    fn uid(&self, uid: &str) {
        let name = self
            .names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned();
        if let Some(name) = name {
            self.name(&name);
        }
    }

    /// A pass over every tenant.
    pub fn all(&self) {
        let names: Vec<String> = self
            .names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for name in &names {
            self.name(name);
        }
    }

    fn learn(&self, tenant: &Tenant) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(tenant.uid().unwrap_or_default(), tenant.name_any());
    }

    fn unlearn(&self, tenant: &Tenant) {
        self.names
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tenant.uid().unwrap_or_default());
    }
}

/// Counts the watches that have not shown anything yet.
#[derive(Clone)]
struct Unsynced(Arc<watch::Sender<usize>>);

impl Unsynced {
    fn one_less(&self, pending: &mut bool) {
        if std::mem::take(pending) {
            self.0.send_modify(|count| *count -= 1);
        }
    }
}

/// Running watches.
pub struct Watches {
    /// Tenants as the watch has them.
    pub tenants: Store<Tenant>,
    /// Plans as the watch has them.
    pub plans: Store<Plan>,
    /// Counts changes of plans.
    pub plan_changes: watch::Receiver<u64>,
    /// The gateway as the watch has it.
    pub gateway: Arc<RwLock<Gateway>>,
    /// Storage classes as the watch has them.
    pub storage_classes: Store<StorageClass>,
    unsynced: watch::Receiver<usize>,
}

impl Watches {
    /// Starts every watch.
    #[must_use]
    pub fn start(
        client: &Client,
        observations: &Arc<Observations>,
        triggers: &Arc<Triggers>,
        gateway: (&str, &str),
    ) -> Self {
        let (sender, unsynced) = watch::channel(Kind::ALL.len() + 4);
        let pending = Unsynced(Arc::new(sender));
        for kind in Kind::ALL {
            tokio::spawn(watch_kind(
                client.clone(),
                kind,
                observations.clone(),
                triggers.clone(),
                pending.clone(),
            ));
        }
        let (tenants, tenant_writer) = store();
        tokio::spawn(watch_tenants(
            client.clone(),
            tenant_writer,
            triggers.clone(),
            pending.clone(),
        ));
        let (plans, plan_writer) = store();
        let (changes, plan_changes) = watch::channel(0);
        let wake = Wake {
            tenants: tenants.clone(),
            triggers: triggers.clone(),
            changes,
        };
        tokio::spawn(watch_plans(
            client.clone(),
            plan_writer,
            wake,
            pending.clone(),
        ));
        let state = Arc::new(RwLock::new(Gateway::Unknown));
        let (namespace, name) = (gateway.0.to_owned(), gateway.1.to_owned());
        tokio::spawn(watch_gateway(
            client.clone(),
            namespace,
            name,
            state.clone(),
            triggers.clone(),
            pending.clone(),
        ));
        let (storage_classes, class_writer) = store();
        tokio::spawn(watch_storage_classes(client.clone(), class_writer, pending));
        Self {
            tenants,
            plans,
            plan_changes,
            gateway: state,
            storage_classes,
            unsynced,
        }
    }

    /// Waits until every watch has shown what there is, or that its kind is not served.
    pub async fn synced(&mut self) {
        // The watches hold the sender for as long as the process lives.
        let _ended = self.unsynced.wait_for(|count| *count == 0).await;
    }
}

async fn watch_kind(
    client: Client,
    kind: Kind,
    observations: Arc<Observations>,
    triggers: Arc<Triggers>,
    unsynced: Unsynced,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.api());
    let mut events = watcher(api, watcher::Config::default().labels(LABEL_TENANT_UID))
        .default_backoff()
        .boxed();
    let mut pending = true;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => observations.begin_list(kind),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                if let Some(tenant) = observations.apply(kind, &object) {
                    triggers.uid(&tenant);
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                if let Some(tenant) = observations.remove(kind, &object) {
                    triggers.uid(&tenant);
                }
            }
            Ok(watcher::Event::InitDone) => {
                let was_unavailable = observations.unavailable().contains(&kind);
                let touched = observations.finish_list(kind);
                if was_unavailable {
                    triggers.all();
                }
                for tenant in &touched {
                    triggers.uid(tenant);
                }
                unsynced.one_less(&mut pending);
            }
            Err(error) => {
                if is_not_served(&error) {
                    observations.mark_unavailable(kind);
                    unsynced.one_less(&mut pending);
                }
                tracing::warn!(kind = kind.name(), error = %error, "a watch was interrupted and starts again");
            }
        }
    }
}

/// The API server does not know the kind: its CRD is not installed.
fn is_not_served(error: &watcher::Error) -> bool {
    matches!(error,
        watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        if status.code == 404)
}

async fn watch_tenants(
    client: Client,
    mut writer: kube::runtime::reflector::store::Writer<Tenant>,
    triggers: Arc<Triggers>,
    unsynced: Unsynced,
) {
    let mut pending = true;
    let mut events = watcher(Api::<Tenant>::all(client), watcher::Config::default())
        .modify(|tenant| tenant.metadata.managed_fields = None)
        .default_backoff()
        .boxed();
    let mut decided = HashMap::new();
    while let Some(event) = events.next().await {
        let Ok(event) = event
            .inspect_err(|error| tracing::warn!(%error, "the watch of tenants was interrupted"))
        else {
            continue;
        };
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::InitApply(tenant) | watcher::Event::Apply(tenant) => {
                triggers.learn(tenant);
                let now = (
                    tenant.metadata.generation,
                    tenant.metadata.deletion_timestamp.clone(),
                    tenant.finalizers().len(),
                );
                // Status changes are the operator's own and decide nothing.
                if decided.insert(tenant.uid(), now.clone()) != Some(now) {
                    triggers.name(&tenant.name_any());
                }
            }
            watcher::Event::Delete(tenant) => {
                decided.remove(&tenant.uid());
                triggers.unlearn(tenant);
            }
            watcher::Event::InitDone => unsynced.one_less(&mut pending),
            watcher::Event::Init => {}
        }
    }
}

/// Whom a change of a plan concerns.
struct Wake {
    tenants: Store<Tenant>,
    triggers: Arc<Triggers>,
    changes: watch::Sender<u64>,
}

async fn watch_plans(
    client: Client,
    mut writer: kube::runtime::reflector::store::Writer<Plan>,
    wake: Wake,
    unsynced: Unsynced,
) {
    let mut pending = true;
    let mut events = watcher(Api::<Plan>::all(client), watcher::Config::default())
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        let Ok(event) =
            event.inspect_err(|error| tracing::warn!(%error, "the watch of plans was interrupted"))
        else {
            continue;
        };
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Apply(plan)
            | watcher::Event::InitApply(plan)
            | watcher::Event::Delete(plan) => {
                let name = plan.name_any();
                for tenant in wake
                    .tenants
                    .state()
                    .iter()
                    .filter(|tenant| tenant.spec.plan == name)
                {
                    wake.triggers.name(&tenant.name_any());
                }
            }
            watcher::Event::InitDone => unsynced.one_less(&mut pending),
            watcher::Event::Init => {}
        }
        if !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
            wake.changes.send_modify(|count| *count += 1);
        }
    }
}

/// They say when volumes are bound; a change of one concerns only what is onboarded afterwards.
async fn watch_storage_classes(
    client: Client,
    mut writer: kube::runtime::reflector::store::Writer<StorageClass>,
    unsynced: Unsynced,
) {
    let mut pending = true;
    let api = Api::<StorageClass>::all(client);
    let mut events = watcher(api, watcher::Config::default())
        .modify(|class| class.metadata.managed_fields = None)
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                writer.apply_watcher_event(&event);
                if matches!(event, watcher::Event::InitDone) {
                    unsynced.one_less(&mut pending);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the watch of storage classes was interrupted");
            }
        }
    }
}

async fn watch_gateway(
    client: Client,
    namespace: String,
    name: String,
    state: Arc<RwLock<Gateway>>,
    triggers: Arc<Triggers>,
    unsynced: Unsynced,
) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "gateway.networking.k8s.io",
        "v1",
        "Gateway",
    ));
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut pending = true;
    let mut listed = Gateway::Missing;
    let set = |now: Gateway| {
        let before = std::mem::replace(
            &mut *state.write().unwrap_or_else(PoisonError::into_inner),
            now,
        );
        if before != now {
            triggers.all();
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed = Gateway::Missing,
            Ok(watcher::Event::InitApply(gateway)) => listed = gateway_state(&gateway),
            Ok(watcher::Event::InitDone) => {
                set(listed);
                unsynced.one_less(&mut pending);
            }
            Ok(watcher::Event::Apply(gateway)) => set(gateway_state(&gateway)),
            Ok(watcher::Event::Delete(_)) => set(Gateway::Missing),
            Err(error) => {
                if is_not_served(&error) {
                    set(Gateway::Unknown);
                    unsynced.one_less(&mut pending);
                }
                tracing::warn!(%error, "the watch of the gateway was interrupted and starts again");
            }
        }
    }
}

fn gateway_state(gateway: &DynamicObject) -> Gateway {
    let conditions = gateway
        .data
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let programmed = conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("Programmed")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    });
    if programmed {
        Gateway::Programmed
    } else {
        Gateway::NotProgrammed
    }
}
