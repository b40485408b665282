//! What every request shares.

use std::sync::Arc;

use kube::Client;
use tokio_util::task::TaskTracker;

use super::admission::Rates;
use super::authorize::Plane;
use super::kms::Kms;
use super::metrics::Metrics;
use super::pace::Pace;
use super::problem::{Code, Refusal};
use super::tenants::Tenants;
use crate::registry::{Registry, RegistryError};

/// What every request shares.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// Whose namespace is whose.
    pub tenants: Tenants,
    /// Who the operator is.
    pub plane: Plane,
    /// Who may ask how often.
    pub rates: Rates,
    /// How soon pods are to ask again.
    pub pace: Pace,
    /// The registry, as role `app`.
    pub registry: Registry,
    /// The KMS.
    pub kms: Kms,
    /// Figures.
    pub metrics: Metrics,
    /// What must not be cut short by a client that hangs up.
    pub work: TaskTracker,
}

impl Shared {
    /// Does work to its end, whether or not the client waits for it: what was announced in the audit is also finished
    /// there.
    pub async fn to_the_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.work.spawn(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request ended in a fault of this program");
            Err(Refusal::new(Code::Internal, "this server failed"))
        })
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let (reason, transient) = (error.reason(), error.is_transient());
        let code = match &error {
            _ if transient => Code::RegistryUnavailable,
            RegistryError::Conflict { .. } | RegistryError::NotFound(_) => Code::Conflict,
            _ => Code::Internal,
        };
        let detail = match code {
            Code::Conflict => error.to_string(),
            // What went wrong inside is for the log.
            _ => "the registry did not do what was asked".to_owned(),
        };
        tracing::warn!(
            reason,
            error = format!("{:#}", anyhow::Error::from(error)),
            "the registry did not do what was asked"
        );
        Self {
            code,
            detail,
            reason: Some(reason),
            retry_after: transient.then_some(std::time::Duration::from_secs(1)),
        }
    }
}
