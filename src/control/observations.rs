//! Everything the watches and the operator's own writes have shown of the silos.
//!
//! Own writes are folded in as they are answered, so that a reconcile right after a write sees it and does not
//! write again; a watch event that is older than what is known is passed over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::{ResourceExt, core::DynamicObject};

use super::{kind::Kind, seen::Seen};
use crate::{api::LABEL_TENANT_UID, resources::Manifest};

/// Names an object: kind, namespace (empty for cluster-scoped ones) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The object's kind.
    pub kind: Kind,
    /// Its namespace, empty for a cluster-scoped object.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object that is to be written.
    #[must_use]
    pub fn of(kind: Kind, manifest: &Manifest) -> Self {
        Self {
            kind,
            namespace: manifest.namespace.clone().unwrap_or_default(),
            name: manifest.name.clone(),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.name(), self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
        }
    }
}

/// UID of a tenant.
pub type TenantUid = String;

/// The objects of one silo.
pub type SiloObjects = BTreeMap<ObjectKey, Seen>;

/// Everything that is known of the silos' objects.
#[derive(Debug, Default)]
pub struct Observations {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    silos: HashMap<TenantUid, SiloObjects>,
    /// Keys that a running list has named so far, by kind.
    listing: HashMap<Kind, BTreeSet<ObjectKey>>,
    unavailable: BTreeSet<Kind>,
}

impl State {
    /// Forgets an object under every tenant but this one. Returns the tenant that loses it.
    fn take_from_others(&mut self, key: &ObjectKey, tenant: &str) -> Option<TenantUid> {
        let (loser, silo) = self
            .silos
            .iter_mut()
            .find(|(uid, silo)| *uid != tenant && silo.contains_key(key))?;
        silo.remove(key);
        Some(loser.clone())
    }
}

impl Observations {
    /// Takes in an object from a watch or from the answer to a write. Returns its tenant if that may change a decision.
    pub fn apply(&self, kind: Kind, object: &DynamicObject) -> Option<TenantUid> {
        let tenant = object.labels().get(LABEL_TENANT_UID)?.clone();
        let key = key_of(kind, object);
        let seen = Seen::of(kind, object);
        let mut state = self.write();
        if let Some(listing) = state.listing.get_mut(&kind) {
            listing.insert(key.clone());
        }
        let loser = state.take_from_others(&key, &tenant);
        let known = state.silos.entry(tenant.clone()).or_default();
        if known
            .get(&key)
            .is_some_and(|before| before.resource_version > seen.resource_version)
        {
            return None;
        }
        let before = known.insert(key, seen.clone());
        let changed = before.is_none_or(|before| seen.differs(&before));
        // Somebody relabelled it: the tenant that it was labelled for misses it.
        loser.or_else(|| changed.then_some(tenant))
    }

    /// Forgets a deleted object. Returns its tenant.
    pub fn remove(&self, kind: Kind, object: &DynamicObject) -> Option<TenantUid> {
        let tenant = object.labels().get(LABEL_TENANT_UID)?.clone();
        let key = key_of(kind, object);
        let uid = object.uid().unwrap_or_default();
        let mut state = self.write();
        let silo = state.silos.get_mut(&tenant)?;
        if silo.get(&key).is_some_and(|seen| seen.uid == uid) {
            silo.remove(&key);
            if silo.is_empty() {
                state.silos.remove(&tenant);
            }
        }
        Some(tenant)
    }

    /// Forgets an object that the API server just said it deleted.
    pub fn forget(&self, tenant: &str, key: &ObjectKey) {
        if let Some(silo) = self.write().silos.get_mut(tenant) {
            silo.remove(key);
        }
    }

    /// A list of all objects of a kind begins.
    pub fn begin_list(&self, kind: Kind) {
        self.write().listing.insert(kind, BTreeSet::new());
    }

    /// The list is complete: whatever it did not name is gone. Returns the tenants that lost something.
    pub fn finish_list(&self, kind: Kind) -> Vec<TenantUid> {
        let mut state = self.write();
        state.unavailable.remove(&kind);
        let named = state.listing.remove(&kind).unwrap_or_default();
        let mut touched = Vec::new();
        for (tenant, silo) in &mut state.silos {
            let before = silo.len();
            silo.retain(|key, _| key.kind != kind || named.contains(key));
            if silo.len() != before {
                touched.push(tenant.clone());
            }
        }
        touched
    }

    /// The API server does not serve this kind, so nothing is known of it.
    pub fn mark_unavailable(&self, kind: Kind) {
        self.write().unavailable.insert(kind);
    }

    /// Kinds that the API server does not serve.
    #[must_use]
    pub fn unavailable(&self) -> BTreeSet<Kind> {
        self.read().unavailable.clone()
    }

    /// What is known of one silo.
    #[must_use]
    pub fn silo(&self, tenant: &str) -> SiloObjects {
        self.read().silos.get(tenant).cloned().unwrap_or_default()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(kind: Kind, object: &DynamicObject) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(tenant: &str, version: u32) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {
                "name": "database", "namespace": "silo", "uid": "1", "resourceVersion": version.to_string(),
                "labels": {LABEL_TENANT_UID: tenant},
            },
        }))
        .unwrap()
    }

    #[test]
    fn an_object_that_is_labelled_for_another_is_missed_by_its_tenant() {
        let known = Observations::default();
        let kind = Kind::NetworkPolicy;
        assert_eq!(known.apply(kind, &policy("own", 1)).as_deref(), Some("own"));
        assert_eq!(
            known.apply(kind, &policy("other", 2)).as_deref(),
            Some("own")
        );
        assert!(known.silo("own").is_empty());
        // The repair puts it back.
        known.apply(kind, &policy("own", 3));
        assert_eq!(known.silo("own").len(), 1);
        assert!(known.silo("other").is_empty());
    }
}
