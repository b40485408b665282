//! The tenant's subdomain.

use super::gateway_api::{
    GROUP, HttpBackendRef, HttpPathMatch, HttpRoute, HttpRouteMatch, HttpRouteRule, HttpRouteSpec,
    ParentReference,
};
use super::labels::{APP, metadata};
use super::service::APP_PORT;
use crate::api::{SiloSettings, ValidTenant};

/// Listener of the gateway that speaks TLS. The plain one only redirects to it, by a route of the installation.
const LISTENER: &str = "https";

/// The route. It stays while a tenant is suspended: a Service without pods is answered with 503, an unknown host
/// with 404.
#[must_use]
pub fn http_route(tenant: &ValidTenant, settings: &SiloSettings) -> HttpRoute {
    HttpRoute {
        metadata: metadata(tenant, APP, APP),
        spec: HttpRouteSpec {
            parent_refs: vec![ParentReference {
                group: GROUP.to_owned(),
                kind: "Gateway".to_owned(),
                namespace: settings.gateway_namespace.clone(),
                name: settings.gateway_name.clone(),
                section_name: LISTENER.to_owned(),
            }],
            hostnames: vec![tenant.host.clone()],
            rules: vec![HttpRouteRule {
                matches: vec![HttpRouteMatch {
                    path: HttpPathMatch {
                        type_: "PathPrefix".to_owned(),
                        value: "/".to_owned(),
                    },
                }],
                backend_refs: vec![HttpBackendRef {
                    group: String::new(),
                    kind: "Service".to_owned(),
                    name: APP.to_owned(),
                    port: APP_PORT,
                    weight: 1,
                }],
            }],
        },
    }
}
