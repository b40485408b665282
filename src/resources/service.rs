//! Names of the database and the app.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{APP, DATABASE, LABEL_NAME, metadata, owned};
use super::pod::{HTTPS_PORT, POSTGRES_PORT};
use crate::api::ValidTenant;

/// Port of the app's Service.
pub const APP_PORT: i32 = 443;

/// The database. Headless and with addresses that are not ready: the app and the migration start together with it and
/// try until it answers, and neither waits for a service proxy or for a readiness probe to pass on the news.
#[must_use]
pub fn database(tenant: &ValidTenant) -> Service {
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        ..spec(
            DATABASE,
            vec![
                port("postgresql", POSTGRES_PORT, POSTGRES_PORT),
                port("agent", HTTPS_PORT, HTTPS_PORT),
            ],
        )
    };
    Service {
        metadata: metadata(tenant, DATABASE, DATABASE),
        spec: Some(spec),
        ..Service::default()
    }
}

/// The app, ready pods only.
#[must_use]
pub fn app(tenant: &ValidTenant) -> Service {
    Service {
        metadata: metadata(tenant, APP, APP),
        spec: Some(spec(APP, vec![port("https", APP_PORT, HTTPS_PORT)])),
        ..Service::default()
    }
}

fn spec(component: &str, ports: Vec<ServicePort>) -> ServiceSpec {
    ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        selector: Some(owned([(LABEL_NAME, component)])),
        ports: Some(ports),
        ..ServiceSpec::default()
    }
}

fn port(name: &str, number: i32, target: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        protocol: Some("TCP".to_owned()),
        port: number,
        target_port: Some(IntOrString::Int(target)),
        ..ServicePort::default()
    }
}
