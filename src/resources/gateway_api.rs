//! The part of the Gateway API (v1, release 1.4) that a silo needs, with only the fields that are set.
//!
//! Fields with a default are written all the same: lists are atomic there, so the defaults inside them would read as
//! somebody else's change. Source: `gateway.networking.k8s.io` CRDs, standard channel.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Group of the Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// Where requests for some hosts go.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Gateways that carry the route.
    pub parent_refs: Vec<ParentReference>,
    /// Hosts that it answers for.
    pub hostnames: Vec<String>,
    /// What happens to requests.
    pub rules: Vec<HttpRouteRule>,
}

/// A listener of a gateway.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Group of the parent.
    pub group: String,
    /// Kind of the parent.
    pub kind: String,
    /// Namespace of the parent.
    pub namespace: String,
    /// Name of the parent.
    pub name: String,
    /// The listener.
    pub section_name: String,
}

/// What happens to requests that match.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Which requests.
    pub matches: Vec<HttpRouteMatch>,
    /// Where they go.
    pub backend_refs: Vec<HttpBackendRef>,
}

/// Which requests.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// By path.
    pub path: HttpPathMatch,
}

/// Which paths.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpPathMatch {
    /// `PathPrefix` or `Exact`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The path.
    pub value: String,
}

/// A Service in the namespace of the route.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpBackendRef {
    /// Group of the backend; empty for core.
    pub group: String,
    /// Kind of the backend.
    pub kind: String,
    /// Name of the backend.
    pub name: String,
    /// Port of the Service.
    pub port: i32,
    /// Share of the traffic among the backends of a rule.
    pub weight: i32,
}

/// How a gateway makes sure that it talks to the right backend.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "BackendTLSPolicy",
    root = "BackendTlsPolicy",
    plural = "backendtlspolicies",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// Backends that it is about.
    pub target_refs: Vec<LocalReference>,
    /// What their certificate must be.
    pub validation: BackendTlsPolicyValidation,
}

/// What a backend's certificate must be.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicyValidation {
    /// `ConfigMap`s whose key `ca.crt` holds the authorities that may have signed it.
    #[serde(rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<LocalReference>,
    /// The name it must be for; also sent as SNI.
    pub hostname: String,
}

/// An object in the same namespace.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Group of the object; empty for core.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}
