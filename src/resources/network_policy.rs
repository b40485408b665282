//! Who may talk to whom. Everything else is dropped, in both directions.
//!
//! ```text
//! gateway ──8443──► app ◄────8443─── operator ──8443──► database
//!
//! app, migrate ──5432──► database
//!
//! app, migrate, database ──8443──► key server
//! app, migrate, database ──53──► DNS
//! ```

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{APP, DATABASE, MIGRATE, SILO, metadata, owned, selector};
use super::pod::{HTTPS_PORT, POSTGRES_PORT};
use crate::api::plane::{KEYSERVER, KEYSERVER_PORT, OPERATOR};
use crate::api::{SiloSettings, ValidTenant};

/// Every network policy of a silo.
#[must_use]
pub fn all(tenant: &ValidTenant, settings: &SiloSettings) -> Vec<NetworkPolicy> {
    vec![
        default_deny(tenant),
        database(tenant, settings),
        app(tenant, settings),
        migrate(tenant, settings),
    ]
}

/// Selects every pod and allows nothing; the other policies add what they allow.
fn default_deny(tenant: &ValidTenant) -> NetworkPolicy {
    policy(
        tenant,
        "default-deny",
        SILO,
        LabelSelector::default(),
        vec![],
        vec![],
    )
}

/// The database answers its own app, its own migration and the operator. It asks the key server, and nobody else.
fn database(tenant: &ValidTenant, settings: &SiloSettings) -> NetworkPolicy {
    let operator = plane_pods(settings, OPERATOR);
    let ingress = vec![
        ingress(vec![pods(APP), pods(MIGRATE)], POSTGRES_PORT),
        ingress(vec![operator], HTTPS_PORT),
    ];
    policy(
        tenant,
        DATABASE,
        DATABASE,
        selector(DATABASE),
        ingress,
        keys_and_dns(settings),
    )
}

/// The app answers the gateway, and the operator about its keys. It asks its own database.
fn app(tenant: &ValidTenant, settings: &SiloSettings) -> NetworkPolicy {
    let gateway = NetworkPolicyPeer {
        namespace_selector: Some(namespace_named(&settings.gateway_dataplane_namespace)),
        ..NetworkPolicyPeer::default()
    };
    policy(
        tenant,
        APP,
        APP,
        selector(APP),
        vec![ingress(
            vec![gateway, plane_pods(settings, OPERATOR)],
            HTTPS_PORT,
        )],
        database_and_keys(settings),
    )
}

/// The migration asks its own database and answers nobody.
fn migrate(tenant: &ValidTenant, settings: &SiloSettings) -> NetworkPolicy {
    policy(
        tenant,
        MIGRATE,
        MIGRATE,
        selector(MIGRATE),
        vec![],
        database_and_keys(settings),
    )
}

fn database_and_keys(settings: &SiloSettings) -> Vec<NetworkPolicyEgressRule> {
    let mut rules = vec![egress(pods(DATABASE), vec![port("TCP", POSTGRES_PORT)])];
    rules.extend(keys_and_dns(settings));
    rules
}

/// The key server, and DNS to find it.
fn keys_and_dns(settings: &SiloSettings) -> Vec<NetworkPolicyEgressRule> {
    let dns = NetworkPolicyPeer {
        namespace_selector: Some(namespace_named(&settings.dns_namespace)),
        pod_selector: Some(LabelSelector {
            match_labels: Some(owned([("k8s-app", "kube-dns")])),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    vec![
        egress(
            plane_pods(settings, KEYSERVER),
            vec![port("TCP", KEYSERVER_PORT)],
        ),
        egress(dns, vec![port("UDP", 53), port("TCP", 53)]),
    ]
}

/// Always both directions: a policy that forgets one would leave it to the others to close.
fn policy(
    tenant: &ValidTenant,
    name: &str,
    component: &str,
    pod_selector: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(tenant, name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pod_selector),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            // The API server drops empty lists.
            ingress: Some(ingress).filter(|rules| !rules.is_empty()),
            egress: Some(egress).filter(|rules| !rules.is_empty()),
        }),
    }
}

fn ingress(from: Vec<NetworkPolicyPeer>, number: i32) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(vec![port("TCP", number)]),
    }
}

fn egress(to: NetworkPolicyPeer, ports: Vec<NetworkPolicyPort>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(vec![to]),
        ports: Some(ports),
    }
}

/// Pods of the plane's own namespace.
fn plane_pods(settings: &SiloSettings, name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(namespace_named(&settings.plane_namespace)),
        pod_selector: Some(selector(name)),
        ..NetworkPolicyPeer::default()
    }
}

/// Pods of the silo's own namespace: a peer without a namespace selector means no other.
fn pods(component: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(selector(component)),
        ..NetworkPolicyPeer::default()
    }
}

/// The label is set by the API server itself, so nobody can take it on.
fn namespace_named(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(owned([("kubernetes.io/metadata.name", name)])),
        ..LabelSelector::default()
    }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        ..NetworkPolicyPort::default()
    }
}
