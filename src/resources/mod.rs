//! The objects of a silo: one pure builder per Kubernetes kind, from a valid tenant and the settings.
//!
//! Values are written the way the API server stores them (canonical quantities, defaults spelled out inside lists that
//! are owned as a whole, nothing empty), because the operator compares what it applied with what is live.

pub mod app;
pub mod backend_tls_policy;
pub mod certificates;
pub mod database;
pub mod disruption_budget;
pub mod gateway_api;
pub mod http_route;
pub mod keys;
pub mod labels;
pub mod limit_range;
pub mod manifest;
pub mod migration;
pub mod namespace;
pub mod network_policy;
pub mod plane;
mod pod;
pub mod quota;
pub mod service;
pub mod service_account;
#[cfg(test)]
mod tests;
pub mod volume_claim;

pub use manifest::Manifest;

use crate::api::{SiloSettings, TenantState, ValidTenant};

/// When an object is applied: a stage begins once the one before it is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The namespace alone: everything else is inside it.
    Namespace,
    /// The database's volume, which takes longest to be there.
    Volume,
    /// What fences pods in, before there is any pod: network policies, quota, limits, identities.
    Isolation,
    /// What pods refer to: the services and the key server's authorities.
    Foundation,
    /// Pods that stay: database and app.
    Workload,
    /// The schema migration.
    Migration,
    /// The way in.
    Route,
}

impl Stage {
    /// Whether what is applied in it makes pods.
    #[must_use]
    pub fn has_pods(self) -> bool {
        matches!(self, Self::Workload | Self::Migration)
    }
}

/// Every object of a silo but its certificates (see [`certificates`]), in the order of application.
///
/// `serving_image` is the image that the app's pods run: the tenant's, or the one before it while the migration of the
/// wanted release has not succeeded. A tenant that is not active keeps its volume, identity and route, without pods.
#[must_use]
pub fn silo(
    tenant: &ValidTenant,
    settings: &SiloSettings,
    serving_image: &str,
) -> Vec<(Stage, Manifest)> {
    let mut objects = vec![
        (
            Stage::Namespace,
            Manifest::of(&namespace::namespace(tenant)),
        ),
        (
            Stage::Volume,
            Manifest::of(&volume_claim::volume_claim(tenant)),
        ),
    ];
    let fences = network_policy::all(tenant, settings);
    let identities = service_account::all(tenant);
    let isolation = fences
        .iter()
        .map(Manifest::of)
        .chain([
            Manifest::of(&quota::quota(tenant)),
            Manifest::of(&limit_range::limit_range(tenant)),
        ])
        .chain(identities.iter().map(Manifest::of));
    objects.extend(isolation.map(|manifest| (Stage::Isolation, manifest)));
    objects.extend([
        (Stage::Foundation, Manifest::of(&service::database(tenant))),
        (Stage::Foundation, Manifest::of(&service::app(tenant))),
        (
            Stage::Foundation,
            Manifest::of(&keys::authorities(tenant, settings)),
        ),
    ]);
    if tenant.state == TenantState::Active {
        objects.extend([
            (
                Stage::Workload,
                Manifest::of(&database::stateful_set(tenant, settings)),
            ),
            (
                Stage::Workload,
                Manifest::of(&app::deployment(tenant, settings, serving_image)),
            ),
            (
                Stage::Workload,
                Manifest::of(&disruption_budget::disruption_budget(tenant)),
            ),
            (Stage::Migration, Manifest::of(&migration::job(tenant))),
        ]);
    }
    // The policy first: without it a gateway would meet the app's certificate with no authority to check it by.
    objects.extend([
        (
            Stage::Route,
            Manifest::of(&backend_tls_policy::backend_tls_policy(tenant)),
        ),
        (
            Stage::Route,
            Manifest::of(&http_route::http_route(tenant, settings)),
        ),
    ]);
    objects
}
