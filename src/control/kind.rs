//! The Kubernetes kinds of a silo: what is watched, applied and pruned.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{
        ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Secret,
        Service, ServiceAccount,
    },
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{Resource, core::ApiResource};

use crate::resources::gateway_api::{BackendTlsPolicy, HttpRoute};

/// One kind of object that belongs to a silo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The silo itself.
    Namespace,
    /// Who may talk to whom.
    NetworkPolicy,
    /// What the silo may use.
    ResourceQuota,
    /// What a container gets that asks for nothing.
    LimitRange,
    /// Identities of pods.
    ServiceAccount,
    /// Certificates.
    Secret,
    /// The trust bundle.
    ConfigMap,
    /// The database's volume.
    PersistentVolumeClaim,
    /// Names of the database and the app.
    Service,
    /// The database.
    StatefulSet,
    /// The app.
    Deployment,
    /// Schema migrations.
    Job,
    /// How many app pods may be drained at once.
    PodDisruptionBudget,
    /// The subdomain.
    HttpRoute,
    /// TLS from the gateway to the app.
    BackendTlsPolicy,
    /// What runs; watched for reasons, never written.
    Pod,
}

impl Kind {
    /// Every kind, in the order of application.
    pub const ALL: [Self; 16] = [
        Self::Namespace,
        Self::NetworkPolicy,
        Self::ResourceQuota,
        Self::LimitRange,
        Self::ServiceAccount,
        Self::Secret,
        Self::ConfigMap,
        Self::PersistentVolumeClaim,
        Self::Service,
        Self::StatefulSet,
        Self::Deployment,
        Self::Job,
        Self::PodDisruptionBudget,
        Self::HttpRoute,
        Self::BackendTlsPolicy,
        Self::Pod,
    ];

    /// Group, version and plural, as the API server wants them.
    #[must_use]
    pub fn api(self) -> ApiResource {
        match self {
            Self::Namespace => erase::<Namespace>(),
            Self::NetworkPolicy => erase::<NetworkPolicy>(),
            Self::ResourceQuota => erase::<ResourceQuota>(),
            Self::LimitRange => erase::<LimitRange>(),
            Self::ServiceAccount => erase::<ServiceAccount>(),
            Self::Secret => erase::<Secret>(),
            Self::ConfigMap => erase::<ConfigMap>(),
            Self::PersistentVolumeClaim => erase::<PersistentVolumeClaim>(),
            Self::Service => erase::<Service>(),
            Self::StatefulSet => erase::<StatefulSet>(),
            Self::Deployment => erase::<Deployment>(),
            Self::Job => erase::<Job>(),
            Self::PodDisruptionBudget => erase::<PodDisruptionBudget>(),
            Self::HttpRoute => erase::<HttpRoute>(),
            Self::BackendTlsPolicy => erase::<BackendTlsPolicy>(),
            Self::Pod => erase::<Pod>(),
        }
    }

    /// The kind of an API resource, if it belongs to silos.
    #[must_use]
    pub fn of(api: &ApiResource) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.api() == *api)
    }

    /// Static name for messages and metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ResourceQuota => "ResourceQuota",
            Self::LimitRange => "LimitRange",
            Self::ServiceAccount => "ServiceAccount",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HttpRoute => "HTTPRoute",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::Pod => "Pod",
        }
    }

    /// Whether an object of this kind that the plan does not want is deleted.
    ///
    /// Not pods, which their controllers remove; not the volume, which only goes with the silo.
    #[must_use]
    pub const fn is_pruned(self) -> bool {
        !matches!(
            self,
            Self::Pod | Self::PersistentVolumeClaim | Self::Namespace
        )
    }
}

fn erase<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}
