//! Step 3, pure and infallible: what has to be written so that the silo becomes what it should be.
//!
//! A plan lists only what differs. An empty plan makes no call.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;

use super::{
    changes::{self, Change},
    kind::Kind,
    observations::ObjectKey,
    observe::Observed,
    offboarding::{Progress, Todo, progress::Running},
    ownership,
    rotation::{
        look::Looked,
        next::{Next, Step, next},
    },
    seen::{Facts, Outcome, Seen},
};
use crate::{
    api::{FINALIZER, SiloSettings, TenantState, ValidTenant, quantity::Bytes},
    resources::{self, Manifest, Stage},
};

/// Objects with certificates, in the silo's namespace.
pub const CERTIFICATE_OBJECTS: [(Kind, &str); 5] = [
    (Kind::Secret, "ca"),
    (Kind::Secret, "database-tls"),
    (Kind::Secret, "app-tls"),
    (Kind::Secret, "migrate-tls"),
    (Kind::ConfigMap, "ca"),
];

/// What has to be written.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Make the silo what its tenant wants.
    Build(Box<Build>),
    /// Take the tenant a step further on its way out.
    Offboard(Todo),
}

/// What a silo lacks.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// A change of the spec that the audit has to know of first.
    pub announce: Option<Change>,
    /// Put the finalizer on the tenant, before anything exists that it protects.
    pub add_finalizer: bool,
    /// Create the namespace.
    pub namespace: Option<Manifest>,
    /// Take back what the registry knows of the tenant's end, before anything else.
    pub reinstate: Option<Box<Running>>,
    /// Have the tenant's keys made; pods that use them wait for it.
    pub ensure_keys: bool,
    /// Take the next step of a rotation of its keys.
    pub rotation: Option<Step>,
    /// Issue certificates; renewal keeps the authorities that the Secret `ca` holds.
    pub certificates: Option<Certificates>,
    /// What to write, by stage.
    pub writes: BTreeMap<Stage, Vec<Write>>,
    /// What is not wanted any more.
    pub prune: Vec<Deletion>,
}

/// Why certificates are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// There is no authority yet.
    First,
    /// The authority stays, the certificates are due, missing or damaged.
    Renewal,
}

/// One object to write.
#[derive(Clone, Debug)]
pub struct Write {
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub manifest: Manifest,
    /// Resource version of the live object to replace, where others added content that an apply would leave in place.
    pub replaces: Option<u64>,
    /// Whether what comes after it waits until it is done. A volume that is there serves as it is.
    pub holds_back: bool,
}

/// One object to delete, if it still has this UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Which object.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
}

impl Plan {
    /// Whether carrying it out destroys anything, so that the tenant must be read again first.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        match self {
            Self::Build(build) => !build.prune.is_empty(),
            // Its own steps read the tenant again: what has to be true of it differs.
            Self::Offboard(_) => false,
        }
    }
}

/// Plans what a silo lacks.
#[must_use]
pub fn build(tenant: &ValidTenant, settings: &SiloSettings, observed: &Observed) -> Plan {
    let finalizers = observed
        .tenant
        .metadata
        .finalizers
        .as_deref()
        .unwrap_or_default();
    let mut build = Build {
        announce: changes::unannounced(tenant, observed),
        add_finalizer: !finalizers.iter().any(|name| name == FINALIZER),
        certificates: certificates_due(tenant, observed),
        reinstate: match &observed.progress {
            Progress::Running(running) => Some(running.clone()),
            _ => None,
        },
        ensure_keys: observed.key.is_none(),
        rotation: rotation_step(observed),
        ..Build::default()
    };
    let tenant = &with_volume_kept(tenant, observed);
    let serving = serving_image(tenant, observed);
    let mut wanted: Vec<ObjectKey> = certificate_keys(tenant).collect();
    for (stage, manifest) in resources::silo(tenant, settings, &serving) {
        let Some(kind) = Kind::of(&manifest.api) else {
            continue;
        };
        let key = ObjectKey::of(kind, &manifest);
        let live = observed.objects.get(&key);
        wanted.push(key.clone());
        if observed.unavailable.contains(&kind) {
            continue;
        }
        match live {
            None if stage == Stage::Namespace => build.namespace = Some(manifest),
            // Made when the volume is bound: see `storage_classes`.
            None if stage.has_pods() && observed.waits_for_volume() => {}
            Some(seen) if seen.terminating || is_in_place(seen, &manifest) => {}
            // A Job's template never changes. One that is done has nothing to become; another is made anew.
            Some(seen) if kind == Kind::Job => {
                if !is_done(seen) {
                    build.prune.push(deletion((&key, seen)));
                }
            }
            live => {
                let replaces = live
                    .filter(|seen| seen.foreign)
                    .map(|seen| seen.resource_version);
                build.writes.entry(stage).or_default().push(Write {
                    kind,
                    manifest,
                    replaces,
                    holds_back: kind != Kind::PersistentVolumeClaim || live.is_none(),
                });
            }
        }
    }
    let unwanted = observed
        .objects
        .iter()
        .filter(|(key, seen)| key.kind.is_pruned() && !seen.terminating && !wanted.contains(key))
        .filter(|(key, _)| key.namespace == tenant.namespace.as_str())
        .filter(|(key, _)| !keeps_running(tenant, observed, key))
        .map(deletion);
    build.prune.extend(unwanted);
    Plan::Build(Box::new(build))
}

fn rotation_step(observed: &Observed) -> Option<Step> {
    match &observed.rotation {
        Some(Looked::Far(rotation)) => match next(rotation) {
            Next::Do(step) => Some(step),
            Next::Wait(_) | Next::Nothing => None,
        },
        Some(Looked::Trouble(_)) | None => None,
    }
}

fn is_in_place(seen: &Seen, manifest: &Manifest) -> bool {
    !seen.foreign && seen.digest == ownership::of_desired(&manifest.body)
}

fn is_done(seen: &Seen) -> bool {
    matches!(
        seen.facts,
        Facts::Migration {
            outcome: Outcome::Succeeded,
            ..
        }
    )
}

/// A database whose claim was deleted runs on, also where the tenant is suspended: its data goes when its pod stops.
fn keeps_running(tenant: &ValidTenant, observed: &Observed, key: &ObjectKey) -> bool {
    key.kind == Kind::StatefulSet
        && tenant.state == TenantState::Suspended
        && observed.loses_volume()
}

/// The size that the volume has and keeps where the plan wants another: a volume never shrinks, and grows only where
/// its class can make it.
#[must_use]
pub fn kept_volume(tenant: &ValidTenant, observed: &Observed) -> Option<Bytes> {
    observed
        .objects
        .values()
        .find_map(|seen| match seen.facts {
            Facts::Claim { storage, .. } => storage,
            _ => None,
        })
        .filter(|storage| {
            let cannot_grow = observed.storage.expands == Some(false);
            *storage > tenant.database.storage
                || (cannot_grow && *storage != tenant.database.storage)
        })
}

fn with_volume_kept<'a>(tenant: &'a ValidTenant, observed: &Observed) -> Cow<'a, ValidTenant> {
    match kept_volume(tenant, observed) {
        Some(storage) => {
            let mut tenant = tenant.clone();
            tenant.database.storage = storage;
            Cow::Owned(tenant)
        }
        None => Cow::Borrowed(tenant),
    }
}

fn deletion((key, seen): (&ObjectKey, &Seen)) -> Deletion {
    Deletion {
        key: key.clone(),
        uid: seen.uid.clone(),
    }
}

fn certificate_keys(tenant: &ValidTenant) -> impl Iterator<Item = ObjectKey> {
    CERTIFICATE_OBJECTS
        .into_iter()
        .map(|(kind, name)| ObjectKey {
            kind,
            namespace: tenant.namespace.to_string(),
            name: name.to_owned(),
        })
}

/// Certificates are due when one is missing, damaged or past its time of renewal.
fn certificates_due(tenant: &ValidTenant, observed: &Observed) -> Option<Certificates> {
    let is_fine = |key: &ObjectKey| {
        observed
            .objects
            .get(key)
            .is_some_and(|seen| match seen.facts {
                Facts::Certificates { renew_at, whole } => {
                    whole && !seen.foreign && renew_at.is_none_or(|at| observed.now < at)
                }
                _ => false,
            })
    };
    if certificate_keys(tenant).all(|key| is_fine(&key)) {
        return None;
    }
    let has_authority = certificate_keys(tenant)
        .next()
        .is_some_and(|key| observed.objects.contains_key(&key));
    Some(if has_authority {
        Certificates::Renewal
    } else {
        Certificates::First
    })
}

/// When the next certificate is to be renewed.
#[must_use]
pub fn renew_at(observed: &Observed) -> Option<Timestamp> {
    let times = observed
        .objects
        .values()
        .filter_map(|seen| match seen.facts {
            Facts::Certificates { renew_at, .. } => renew_at,
            _ => None,
        });
    times.min()
}

/// The image that the app's pods are to run.
///
/// A first release starts beside its migration and waits for the schema by its own readiness. A later one takes over
/// only when its migration succeeded; until then the pods keep the image they have.
#[must_use]
pub fn serving_image(tenant: &ValidTenant, observed: &Observed) -> String {
    let running = observed
        .objects
        .values()
        .find_map(|seen| match &seen.facts {
            Facts::Deployment { image, .. } => Some(image.clone()),
            _ => None,
        });
    match running {
        Some(image)
            if image != tenant.app.image && migration(tenant, observed) != Outcome::Succeeded =>
        {
            image
        }
        _ => tenant.app.image.clone(),
    }
}

/// How the schema migration of the wanted release went: by its Job, or sooner by its pod.
#[must_use]
pub fn migration(tenant: &ValidTenant, observed: &Observed) -> Outcome {
    let job = observed
        .objects
        .values()
        .find_map(|seen| match &seen.facts {
            Facts::Migration { release, outcome } if release == tenant.release.as_str() => {
                Some(outcome.clone())
            }
            _ => None,
        });
    let pod_succeeded = observed
        .pods("migrate")
        .any(|pod| pod.succeeded && pod.release.as_deref() == Some(tenant.release.as_str()));
    match job {
        Some(Outcome::Running) if pod_succeeded => Outcome::Succeeded,
        Some(outcome) => outcome,
        None => Outcome::Running,
    }
}
