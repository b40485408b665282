//! The only door through which the operator writes to Kubernetes.
//!
//! Each write asks the leadership first and may take no longer than what is left of its term; each is idempotent, and
//! its answer is folded into the observations.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::DynamicObject,
};
use serde_json::json;

use super::{
    kind::Kind,
    lease::{Deposed, Leadership},
    observations::{ObjectKey, Observations},
    ownership,
};
use crate::{
    api::{
        FIELD_MANAGER, FINALIZER, LABEL_TENANT_UID, PLAN_CATALOG, PlanCatalog, PlanCatalogSpec,
        Tenant, TenantStatus,
    },
    effects::{self, Effect},
    keys::TenantUid,
    resources::Manifest,
    telemetry::Metrics,
};

/// Longest time that one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a write did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Not the leader.
    #[error(transparent)]
    Deposed(#[from] Deposed),
    /// No answer in time; it may have been applied.
    #[error(
        "the API server did not answer in {WRITE_TIMEOUT:?}; the write may have been applied and will be repeated"
    )]
    TimedOut,
    /// The API server refused or could not be reached.
    #[error("{}", describe(.0))]
    Api(#[source] Box<kube::Error>),
    /// An object of that name exists and is not this silo's.
    #[error(
        "{0} exists and does not belong to this tenant; it is not adopted: remove or rename it"
    )]
    Taken(ObjectKey),
}

impl WriteError {
    /// HTTP status of the API server's refusal, if it answered.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

#[cfg(feature = "faults")]
impl effects::Failing for WriteError {
    fn lost(_: Effect) -> Self {
        Self::TimedOut
    }

    fn refused(effect: Effect) -> Self {
        let status =
            kube::core::Status::failure(&format!("a test is in the way of {effect}"), "Forbidden")
                .with_code(403);
        Self::from(kube::Error::Api(Box::new(status)))
    }
}

/// The API server's own words where it answered.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        _ => "the API server could not be reached".to_owned(),
    }
}

/// Writes as the leader.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Leadership,
    observations: Arc<Observations>,
    metrics: Metrics,
}

impl Writer {
    /// A writer that folds answers into `observations`.
    #[must_use]
    pub fn new(
        client: Client,
        leadership: Leadership,
        observations: Arc<Observations>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            leadership,
            observations,
            metrics,
        }
    }

    /// Server-side apply, taking over every field that the manifest names.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn apply(&self, kind: Kind, manifest: &Manifest) -> Result<(), WriteError> {
        let api = self.api(kind, manifest.namespace.as_deref());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&manifest.body);
        let object = self
            .write(
                ("apply", kind),
                owner(manifest),
                api.patch(&manifest.name, &params, &patch),
            )
            .await?;
        self.observations.apply(kind, &object);
        Ok(())
    }

    /// Creates an object that must not exist yet; one that this tenant already has is fine.
    ///
    /// # Errors
    /// [`WriteError::Taken`] where somebody else's object has the name; else see [`WriteError`].
    pub async fn create(
        &self,
        kind: Kind,
        manifest: &Manifest,
        tenant_uid: &str,
    ) -> Result<(), WriteError> {
        let api = self.api(kind, manifest.namespace.as_deref());
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let body: DynamicObject = serde_json::from_value(manifest.body.clone())
            .map_err(|error| WriteError::from(kube::Error::SerdeError(error)))?;
        let created = self
            .write(
                ("create", kind),
                owner(manifest),
                api.create(&params, &body),
            )
            .await;
        let object = match created {
            Err(error) if error.code() == Some(409) => {
                let object = api.get(&manifest.name).await?;
                if !ownership::belongs_to(&object, tenant_uid) {
                    return Err(WriteError::Taken(ObjectKey::of(kind, manifest)));
                }
                if object.labels().contains_key(LABEL_TENANT_UID) {
                    object
                } else {
                    // Somebody took the label away by which watches find it.
                    return self.apply(kind, manifest).await;
                }
            }
            answer => answer?,
        };
        self.observations.apply(kind, &object);
        Ok(())
    }

    /// Creates an object where none has the name. Whether it did; one that is there stays as it is.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn create_once(&self, kind: Kind, manifest: &Manifest) -> Result<bool, WriteError> {
        let api = self.api(kind, manifest.namespace.as_deref());
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let body: DynamicObject = serde_json::from_value(manifest.body.clone())
            .map_err(|error| WriteError::from(kube::Error::SerdeError(error)))?;
        let created = self
            .write(
                ("create", kind),
                owner(manifest),
                api.create(&params, &body),
            )
            .await;
        match created {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces an object by what is wanted, so that content which others added goes.
    ///
    /// # Errors
    /// See [`WriteError`]; a conflict means that it changed meanwhile.
    pub async fn replace(
        &self,
        kind: Kind,
        manifest: &Manifest,
        resource_version: u64,
    ) -> Result<(), WriteError> {
        let api = self.api(kind, manifest.namespace.as_deref());
        let mut body: DynamicObject = serde_json::from_value(manifest.body.clone())
            .map_err(|error| WriteError::from(kube::Error::SerdeError(error)))?;
        body.metadata.resource_version = Some(resource_version.to_string());
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let object = self
            .write(
                ("replace", kind),
                owner(manifest),
                api.replace(&manifest.name, &params, &body),
            )
            .await?;
        self.observations.apply(kind, &object);
        Ok(())
    }

    /// Deletes exactly the object with this UID; one that is gone already is fine.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete(
        &self,
        tenant_uid: &str,
        key: &ObjectKey,
        uid: &str,
    ) -> Result<(), WriteError> {
        let namespace = (!key.namespace.is_empty()).then_some(key.namespace.as_str());
        let api = self.api(key.kind, namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match self
            .write(
                ("delete", key.kind),
                tenant_uid.parse().ok(),
                api.delete(&key.name, &params),
            )
            .await
        {
            // An object that goes slowly is answered with itself, one that is gone with a status.
            Ok(answer) => match answer.left() {
                Some(object) if object.metadata.deletion_timestamp.is_some() => {
                    self.observations.apply(key.kind, &object);
                }
                _ => self.observations.forget(tenant_uid, key),
            },
            // A conflict means another UID: what was to go is gone.
            Err(error) if matches!(error.code(), Some(404 | 409)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Puts the finalizer on a tenant, or takes it off, if the tenant is still the one that was looked at.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn set_finalizer(&self, tenant: &Tenant, present: bool) -> Result<(), WriteError> {
        let api: Api<Tenant> = Api::all(self.client.clone());
        let mut finalizers: Vec<String> = tenant.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if present {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = Patch::Merge(json!({"metadata": {
            "uid": tenant.uid(),
            "resourceVersion": tenant.resource_version(),
            "finalizers": finalizers,
        }}));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = tenant.name_any();
        match self
            .write(
                ("patch", "Tenant"),
                uid_of(tenant),
                api.patch(&name, &params, &patch),
            )
            .await
        {
            Err(error) if !present && error.code() == Some(404) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Publishes a tenant's status, if the tenant is still the one with this UID.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn publish_status(
        &self,
        tenant: &Tenant,
        status: &TenantStatus,
    ) -> Result<(), WriteError> {
        let api: Api<Tenant> = Api::all(self.client.clone());
        // The UID in the patch is a precondition: a tenant of the same name that came later is not touched.
        let mut status = serde_json::to_value(status)
            .map_err(|error| WriteError::from(kube::Error::SerdeError(error)))?;
        clear_what_is_unset(&mut status);
        let patch = Patch::Merge(json!({"metadata": {"uid": tenant.uid()}, "status": status}));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.write(
            ("status", "Tenant"),
            uid_of(tenant),
            api.patch_status(&tenant.name_any(), &params, &patch),
        )
        .await
        .map(drop)
    }

    /// Publishes the names of all plans, which admission reads.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn publish_plans(&self, names: &BTreeSet<String>) -> Result<(), WriteError> {
        let api: Api<PlanCatalog> = Api::all(self.client.clone());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let spec = PlanCatalogSpec {
            plans: names.iter().cloned().collect(),
        };
        let catalog = PlanCatalog::new(PLAN_CATALOG, spec);
        let patch = Patch::Apply(&catalog);
        let written = self
            .write(
                ("apply", "PlanCatalog"),
                None,
                api.patch(PLAN_CATALOG, &params, &patch),
            )
            .await?;
        if written.spec.plans.iter().all(|plan| names.contains(plan)) {
            return Ok(());
        }
        // An apply leaves what somebody else put into the list.
        let patch = Patch::Merge(json!({"spec": catalog.spec}));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.write(
            ("patch", "PlanCatalog"),
            None,
            api.patch(PLAN_CATALOG, &params, &patch),
        )
        .await
        .map(drop)
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.api();
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    async fn write<T>(
        &self,
        (verb, kind): (&'static str, impl Into<&'static str>),
        tenant: Option<TenantUid>,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        let limit = self.leadership.remaining()?.min(WRITE_TIMEOUT);
        let kind = kind.into();
        self.metrics.api_write(verb, kind);
        let writing = Box::pin(async {
            match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer.map_err(WriteError::from),
                Err(_) => Err(WriteError::TimedOut),
            }
        });
        effects::perform(Effect::Kubernetes { verb, kind }, tenant, writing).await
    }
}

/// Whose silo an object is part of, by its label.
fn owner(manifest: &Manifest) -> Option<TenantUid> {
    let labels = &manifest.body["metadata"]["labels"];
    labels[LABEL_TENANT_UID].as_str()?.parse().ok()
}

fn uid_of(tenant: &Tenant) -> Option<TenantUid> {
    tenant.metadata.uid.as_deref()?.parse().ok()
}

/// A merge patch leaves out what it does not name, so fields that may become unset are named with null.
fn clear_what_is_unset(status: &mut serde_json::Value) {
    const OPTIONAL: [(&str, &[&str]); 4] = [
        (
            "",
            &[
                "observedGeneration",
                "namespace",
                "url",
                "release",
                "key",
                "database",
                "offboarding",
                "certificatesRenewAt",
            ],
        ),
        ("/key", &["dataKeys", "rotation"]),
        ("/key/rotation", &["purpose", "rowsLeft"]),
        (
            "/offboarding",
            &["accessCutAt", "graceEndsAt", "shreddedAt", "keyDestroyedAt"],
        ),
    ];
    for (path, names) in OPTIONAL {
        let Some(fields) = status
            .pointer_mut(path)
            .and_then(serde_json::Value::as_object_mut)
        else {
            continue;
        };
        for name in names {
            fields.entry(*name).or_insert(serde_json::Value::Null);
        }
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.name()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::clear_what_is_unset;

    #[test]
    fn what_is_over_is_taken_out_of_the_status() {
        let mut status = json!({"phase": "Ready", "key": {"id": "local:1", "dataKeys": [1]}});
        clear_what_is_unset(&mut status);
        assert_eq!(
            status["key"],
            json!({"id": "local:1", "dataKeys": [1], "rotation": null})
        );
        assert!(status["url"].is_null());
        let mut status = json!({"key": {"rotation": {"from": 1, "rowsLeft": 4}}});
        clear_what_is_unset(&mut status);
        assert_eq!(
            status["key"]["rotation"],
            json!({"from": 1, "rowsLeft": 4, "purpose": null})
        );
        let mut status = json!({"phase": "Pending"});
        clear_what_is_unset(&mut status);
        assert!(status["key"].is_null());
    }
}
