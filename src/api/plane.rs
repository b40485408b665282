//! Names of what the plane itself consists of, in the namespace that Granary is installed in.

/// The operator: its Deployment, its `ServiceAccount` and the label of its pods.
pub const OPERATOR: &str = "granary-operator";

/// The key server: its Deployment, its Service, its `ServiceAccount` and the label of its pods.
pub const KEYSERVER: &str = "granary-keyserver";

/// The registry's database: its StatefulSet, its Service and the label of its pod.
pub const REGISTRY: &str = "granary-registry";

/// Secret with the key that deletion records are signed with, and `ConfigMap` with its public half.
pub const EVIDENCE_KEY: &str = "granary-evidence-key";

/// Name of the file with public keys in that `ConfigMap`.
pub const EVIDENCE_PUBLIC_FILE: &str = "public.pem";

/// Port on which the key server serves.
pub const KEYSERVER_PORT: i32 = 8443;

/// Audience of the tokens that the key server accepts.
pub const KEYS_AUDIENCE: &str = "granary-keys";

/// The plane's own identity where a tenant has a UID: in the registry's volume and in the plane's certificates.
///
/// Kubernetes gives resources random UIDs (version 4). This one is of version 8, so that no tenant can have it.
pub const PLANE_UID: &str = "6772616e-6172-8790-8000-000000000000";

/// Label on what the operator keeps in the plane's namespace; its value says what it is.
pub const LABEL_PLANE: &str = "granary.dev/plane";
