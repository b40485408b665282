//! What the leader keeps for the plane itself: the certificates of registry, key server and operator, the key that
//! deletion records are signed with, and the root key of the `local` provider.
//!
//! ```text
//! list what is stored ─→ sound? ─→ hand it to this process, wait for a change or the next renewal
//!                          │ no
//!                          └─→ issue ─→ tell every silo of a new authority ─→ write the leafs ─→ write the authority
//! ```
//!
//! Nothing is remembered between two looks: each decides on a fresh list, so that what was just written is never
//! written again. The order is that of a silo's certificates (see [`crate::resources::certificates`]): whoever trusts
//! the plane's authorities hears of a new one before it is stored, and so before it can sign anything.

mod credentials;
mod evidence_key;
mod root_key;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures::{StreamExt, future::join_all, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, reflector::Store, watcher},
};
use tokio::sync::watch;

pub use credentials::{Credentials, Identity};

use super::{
    kind::Kind,
    memory::Memory,
    watches::Triggers,
    writer::{WriteError, Writer},
};
use crate::{
    api::{SiloSettings, Tenant, plane::LABEL_PLANE},
    evidence::{KeyError, SigningKey},
    pki::{self, Lifetimes, PkiError},
    resources::{
        certificates::{ANNOTATION_CONTENT, ANNOTATION_RENEW_AT, authorities, content},
        plane::{AUTHORITY, CERTIFICATE_SECRETS, CERTIFICATES, OPERATOR_TLS, certificates},
    },
};

/// Wait after a look that failed.
const RETRY: Duration = Duration::from_secs(2);
/// Looks are at most this far apart, so that a clock that was set is noticed.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// Changes come in groups: how long to wait for the rest of one.
const SETTLE: Duration = Duration::from_secs(1);
/// How long silos that cannot be written hold back a new authority.
const TELL_FOR: Duration = Duration::from_mins(5);

/// Why the plane's certificates could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// What is stored could not be read.
    #[error("the plane's Secrets could not be read")]
    Read(#[from] kube::Error),
    /// A Secret could not be written.
    #[error("a Secret of the plane could not be written: {0}")]
    Write(#[from] WriteError),
    /// Certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The key server's authorities could not be put where its client reads them.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A Secret does not hold what it should.
    #[error("Secret {secret} has no usable {file}; delete it, and it is made again")]
    Damaged {
        /// Which Secret.
        secret: &'static str,
        /// Which file of it.
        file: &'static str,
    },
    /// The key for deletion records could not be made or written down.
    #[error(transparent)]
    EvidenceKey(#[from] KeyError),
    /// No random bytes for a root key.
    #[error("the system gives no random bytes for a root key")]
    Random,
    /// The root key is gone, and tenants' keys hang on it.
    #[error(
        "Secret {secret} is gone while tenants have keys under it; no other is made: restore it from a backup"
    )]
    RootKeyLost {
        /// The Secret's name.
        secret: &'static str,
    },
}

/// Looks after the plane's own Secrets for as long as this replica leads.
pub struct Keeper {
    /// Reads; writes go through `writer`.
    pub client: Client,
    /// The only door for writes.
    pub writer: Writer,
    /// Namespace of the plane.
    pub namespace: String,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// Whether the plane needs a root key, which it does with the `local` provider.
    pub needs_root_key: bool,
    /// What silos are built from; the authorities in it follow the plane's.
    pub settings: Arc<ArcSwap<SiloSettings>>,
    /// Every tenant.
    pub tenants: Store<Tenant>,
    /// Asks for passes when silos are built from something else than before.
    pub triggers: Arc<Triggers>,
    /// Which silos were built from what.
    pub memory: Arc<Memory>,
    /// File in memory for the authorities, which this process's client of the key server reads.
    pub authorities_file: PathBuf,
    /// Where the operator's own certificates go; nothing is there before the first success.
    pub credentials: watch::Sender<Option<Arc<Credentials>>>,
    /// Where the key for deletion records goes; nothing is there before the first success.
    pub signing: watch::Sender<Option<Arc<SigningKey>>>,
}

impl Keeper {
    /// Keeps the Secrets as they should be until the process ends.
    pub async fn keep(self) {
        let mut changes = self.changes();
        loop {
            let wait = match self.look().await {
                Ok(due) => until(due),
                Err(error) => {
                    tracing::warn!(%error, cause = std::error::Error::source(&error).map(ToString::to_string),
                        "the plane's certificates are not in order; trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = changes.next() => {
                    let settled = tokio::time::sleep(SETTLE);
                    tokio::pin!(settled);
                    while tokio::select! { () = &mut settled => false, _ = changes.next() => true } {}
                }
            }
        }
    }

    /// Makes what is missing, damaged or due, and hands what there is to this process. Returns when to look again.
    async fn look(&self) -> Result<Timestamp, PlaneError> {
        let stored = self.stored().await?;
        if self.needs_root_key
            && let Err(error) = root_key::ensure(self).await
        {
            // Certificates do not depend on it, so they are looked after all the same.
            tracing::error!(%error, "there is no root key");
        }
        if let Err(error) = evidence_key::ensure(self).await {
            // Nor do they depend on this; tenants that end wait for it.
            tracing::error!(%error, "there is no key to sign deletion records with");
        }
        let now = Timestamp::now();
        if let Some(due) = sound_until(&stored, now) {
            self.hand_over(Credentials::read(stored.get(OPERATOR_TLS))?)?;
            return Ok(due);
        }
        if self.credentials.borrow().is_none()
            && let Ok(stored) = Credentials::read(stored.get(OPERATOR_TLS))
        {
            // A process that just began to lead: silos are told of a change only if they know of what was before.
            self.hand_over(stored)?;
        }
        let known = stored
            .get(AUTHORITY)
            .and_then(|secret| secret.data.as_ref())
            .map(authorities)
            .unwrap_or_default();
        let issued = pki::establish_plane(&self.namespace, known, now, &self.lifetimes)?;
        self.tell_silos(&issued.bundle_pem).await;
        let mut manifests = certificates(&self.namespace, &issued);
        let authority = manifests.pop();
        for group in [manifests, authority.into_iter().collect()] {
            let writes = group
                .iter()
                .map(|manifest| self.writer.apply(Kind::Secret, manifest));
            join_all(writes)
                .await
                .into_iter()
                .collect::<Result<Vec<()>, _>>()?;
        }
        tracing::info!(renewal = %issued.renew_at, "the plane's certificates are issued");
        self.hand_over(Credentials::of(&issued))?;
        Ok(issued.renew_at)
    }

    async fn stored(&self) -> Result<BTreeMap<String, Secret>, kube::Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secrets = api
            .list(&ListParams::default().labels(&selector()))
            .await?
            .into_iter()
            .map(|secret| (secret.name_any(), secret));
        Ok(secrets.collect())
    }

    /// One item for each change of the Secrets; what is in them is not even asked for.
    fn changes(&self) -> BoxStream<'static, ()> {
        let api: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(self.client.clone(), &self.namespace);
        watcher(api, watcher::Config::default().labels(&selector()))
            .default_backoff()
            .filter_map(async |event| match event {
                Ok(
                    watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone,
                ) => Some(()),
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(%error, "the watch of the plane's Secrets was interrupted");
                    None
                }
            })
            .boxed()
    }

    /// Gives a new set of authorities to every silo, and waits until each was written.
    ///
    /// A silo that cannot be written, say because its plan is gone, does not keep the others' certificates from being
    /// renewed: after a while the plane goes on without it.
    async fn tell_silos(&self, bundle: &str) {
        let is_first = self.settings.load().keyserver_ca.is_empty();
        if is_first || !self.trust(bundle) {
            return;
        }
        let began = Instant::now();
        while began.elapsed() < TELL_FOR {
            let settings = self.settings.load_full();
            let behind = self
                .tenants
                .state()
                .iter()
                .filter(|tenant| tenant.metadata.deletion_timestamp.is_none())
                .any(|tenant| {
                    !self
                        .memory
                        .is_built_from(&tenant.uid().unwrap_or_default(), &settings)
                });
            if !behind {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tracing::warn!("some silos could not be told of the plane's new authority");
    }

    /// Has silos built with these authorities from now on. Whether they were others before.
    fn trust(&self, bundle: &str) -> bool {
        let before = self.settings.load_full();
        if before.keyserver_ca == bundle {
            return false;
        }
        self.settings.store(Arc::new(SiloSettings {
            keyserver_ca: bundle.to_owned(),
            ..before.as_ref().clone()
        }));
        self.triggers.all();
        true
    }

    fn hand_over(&self, credentials: Credentials) -> Result<(), PlaneError> {
        self.put(&credentials.authorities_pem)
            .map_err(|source| PlaneError::File {
                path: self.authorities_file.clone(),
                source,
            })?;
        self.trust(&credentials.authorities_pem);
        self.credentials.send_if_modified(|known| {
            let is_new = known.as_deref() != Some(&credentials);
            if is_new {
                *known = Some(Arc::new(credentials));
            }
            is_new
        });
        Ok(())
    }

    /// Replaces the file at once: who reads it meanwhile reads the old one or the new one.
    fn put(&self, authorities: &str) -> std::io::Result<()> {
        let draft = self.authorities_file.with_extension("new");
        std::fs::write(&draft, authorities)?;
        std::fs::rename(&draft, &self.authorities_file)
    }
}

fn selector() -> String {
    format!("{LABEL_PLANE}={CERTIFICATES}")
}

fn until(due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(Timestamp::now()))
        .unwrap_or_default()
        .clamp(SETTLE, LOOK_EVERY)
}

/// When the first of the Secrets has to be renewed; none if one is missing, damaged or due.
fn sound_until(stored: &BTreeMap<String, Secret>, now: Timestamp) -> Option<Timestamp> {
    let mut first = None;
    for name in CERTIFICATE_SECRETS {
        let secret = stored.get(name)?;
        let annotations = secret.annotations();
        let due: Timestamp = annotations.get(ANNOTATION_RENEW_AT)?.parse().ok()?;
        let data = secret.data.as_ref()?;
        let digest = content(data.iter().map(|(key, value)| (key, value.0.as_slice())));
        if due <= now || annotations.get(ANNOTATION_CONTENT) != Some(&digest) {
            return None;
        }
        first = Some(first.map_or(due, |first: Timestamp| first.min(due)));
    }
    first
}
