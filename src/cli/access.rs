//! The way to the registry: through the API server, as the person who asks.
//!
//! The certificate of role `auditor` is in a Secret, and the registry is reached by a port-forward. So Kubernetes
//! decides who may audit: whoever may read that Secret and forward to that pod. The role itself can only read the audit,
//! the evidence and whose it is.

use std::io;
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use uuid::Uuid;

use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::{Failure, root_cause};
use crate::keys::TenantUid;
use crate::registry::tenants::{self, Tenant};
use crate::registry::{
    Connection, Dial, Endpoint, Identity, Registry, RegistryError, RegistrySettings, Role, Stream,
};

/// The Secret with the auditor's certificate.
const SECRET: &str = "granary-auditor-tls";

/// The registry's pod.
const POD: &str = "granary-registry-0";

/// PostgreSQL in that pod.
const PORT: u16 = 5432;

/// The registry, open for reading.
pub struct Access {
    registry: Registry,
}

impl Access {
    /// Reads the certificate and prepares connections.
    pub async fn open(cluster: &Cluster, namespace: &str) -> Result<Self, Failure> {
        let what = format!("cannot read Secret {namespace}/{SECRET}, which opens the registry");
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), namespace);
        let secret =
            cluster
                .ask(&what, secrets.get(SECRET))
                .await
                .map_err(|failure| {
                    match failure.exit() {
                Exit::NotFound => failure
                    .next("granary … --namespace NAMESPACE   # where is Granary installed?"),
                Exit::Refused => failure.next(format!(
                    "ask for the rights to read that Secret and to forward to pod {namespace}/{POD}"
                )),
                _ => failure,
            }
                })?;
        let endpoint = Endpoint::Stream {
            server_name: format!("granary-registry.{namespace}.svc"),
            dial: forward(cluster.client(), namespace),
        };
        let settings = RegistrySettings {
            max_connections: 1,
            patience: cluster.request_timeout(),
            ..RegistrySettings::new(endpoint, Role::Auditor, identity(&secret, namespace)?)
        };
        let registry = Registry::connect(&settings)
            .map_err(|error| explain("cannot prepare the way to the registry", &error))?;
        Ok(Self { registry })
    }

    /// Every tenant there is or was under this name or UID, oldest first.
    pub async fn tenants(
        connection: &mut Connection,
        asked: &str,
    ) -> Result<Vec<Tenant>, RegistryError> {
        match asked.parse::<Uuid>() {
            Ok(uid) => {
                let found = tenants::find(connection, TenantUid(uid)).await?;
                Ok(found.into_iter().collect())
            }
            Err(_) => tenants::find_all(connection, asked).await,
        }
    }

    /// A connection as `auditor`.
    pub async fn connection(&self) -> Result<Connection, Failure> {
        self.registry
            .acquire()
            .await
            .map_err(|error| explain("cannot reach the registry", &error))
    }
}

/// Makes connections to the registry's pod.
fn forward(client: Client, namespace: &str) -> Dial {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let place = format!("{namespace}/{POD}");
    Arc::new(move || {
        let (pods, place) = (pods.clone(), place.clone());
        async move {
            let failed = |why: String| {
                io::Error::other(format!("cannot forward a port to pod {place}: {why}"))
            };
            let mut forwarder = pods
                .portforward(POD, &[PORT])
                .await
                .map_err(|error| failed(root_cause(&error)))?;
            let stream = forwarder
                .take_stream(PORT)
                .ok_or_else(|| failed("the API server opened none".to_owned()))?;
            Ok(Box::new(stream) as Stream)
        }
        .boxed()
    })
}

fn identity(secret: &Secret, namespace: &str) -> Result<Identity, Failure> {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value
            .and_then(|value| String::from_utf8(value.0.clone()).ok())
            .ok_or_else(|| {
                Failure::new(
                    Exit::Failure,
                    format!("Secret {namespace}/{SECRET} has no usable {key}"),
                )
                .next("granary doctor   # is the operator well? It makes and renews that Secret")
            })
    };
    Ok(Identity::Pem {
        ca: text("ca.crt")?,
        certificate: text("client.crt")?,
        key: text("client.key")?.into(),
    })
}

/// What an error of the registry means for somebody who tried `what`.
pub fn explain(what: &str, error: &RegistryError) -> Failure {
    let exit = match error {
        RegistryError::Unavailable { .. } => Exit::Unreachable,
        RegistryError::Busy { .. } => Exit::TimedOut,
        RegistryError::Refused { .. } => Exit::Refused,
        _ => Exit::Failure,
    };
    let failure = Failure::new(exit, what).why(error.to_string());
    let failure = match std::error::Error::source(error) {
        Some(source) => failure.why(root_cause(source)),
        None => failure,
    };
    match exit {
        Exit::Unreachable => failure.next("granary doctor   # is the registry well?"),
        _ => failure,
    }
}
