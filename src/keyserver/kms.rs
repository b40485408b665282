//! The one door to the KMS: every call is timed, counted, given only so long, and held back while its tenant has to wait.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::cooldown::Cooldowns;
use super::metrics::Metrics;
use super::opening::{Opening, not_open};
use super::problem::{Code, Refusal};
use crate::effects::{self, Effect};
use crate::keys::{KmsError, Provider, ProviderName, StartError, TenantUid};

/// Longest wait for one operation, the provider's own repetitions included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked of the KMS: the names in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make or find the tenant's key.
    CreateKey,
    /// Ask for its state.
    Describe,
    /// Make a wrapped data key.
    Generate,
    /// Unwrap a data key.
    Unwrap,
    /// Wrap a data key under the newest version of its key.
    Rewrap,
    /// Give the tenant's key new material.
    RotateKey,
    /// Make it refuse.
    Disable,
    /// Make it serve again.
    Enable,
    /// Have it destroyed.
    ScheduleDeletion,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CreateKey => "create-key",
            Self::Describe => "describe",
            Self::Generate => "generate",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
            Self::RotateKey => "rotate-key",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::ScheduleDeletion => "schedule-deletion",
        }
    }
}

/// Why an operation brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum KmsFailure {
    /// The KMS said why.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// It did not answer.
    #[error("the KMS did not answer within {0:?}")]
    TimedOut(Duration),
    /// It was not asked: the tenant's last call did not come through a moment ago.
    #[error("the KMS asked for patience with this tenant's key")]
    Cooling(Duration),
}

impl KmsFailure {
    /// Whether the same call may succeed later. If not, the KMS has decided.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kms(error) => error.is_transient(),
            Self::TimedOut(_) | Self::Cooling(_) => true,
        }
    }

    /// A stable word for conditions, metrics and the audit.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Kms(error) => error.reason(),
            Self::TimedOut(_) => "KmsTimedOut",
            Self::Cooling(_) => "KmsCooling",
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::TimedOut(_) | Self::Cooling(_) => Code::KmsUnavailable,
            Self::Kms(error) => match error {
                KmsError::Denied { .. } | KmsError::Quota { .. } => Code::KmsDenied,
                KmsError::Disabled { .. } => Code::KeyNotEnabled,
                KmsError::DeletionWindow { .. } => Code::BadRequest,
                KmsError::Ended { .. } => Code::Conflict,
                KmsError::Throttled { .. }
                | KmsError::Unreachable { .. }
                | KmsError::Busy { .. }
                | KmsError::Random => Code::KmsUnavailable,
                KmsError::Store(error) if error.transient => Code::KmsUnavailable,
                KmsError::Store(_)
                | KmsError::NotFound { .. }
                | KmsError::WrongContext { .. }
                | KmsError::WrongKey { .. }
                | KmsError::Corrupt { .. }
                | KmsError::Envelope(_)
                | KmsError::AliasTaken { .. }
                | KmsError::ForeignKey { .. }
                | KmsError::Unopenable { .. }
                | KmsError::Unexpected { .. } => Code::KeyUnusable,
            },
        }
    }
}

#[cfg(feature = "faults")]
impl effects::Failing for KmsFailure {
    fn lost(_: Effect) -> Self {
        Self::TimedOut(TIMEOUT)
    }

    fn refused(_: Effect) -> Self {
        Self::Kms(KmsError::Denied {
            action: "any",
            object: "a key".to_owned(),
            detail: "a test is in the way".to_owned(),
        })
    }
}

impl From<KmsFailure> for Refusal {
    fn from(failure: KmsFailure) -> Self {
        let wait = match &failure {
            KmsFailure::Cooling(wait) => Some(*wait),
            failure if failure.is_transient() => Some(Duration::from_secs(1)),
            _ => None,
        };
        Self {
            code: failure.code(),
            detail: failure.to_string(),
            reason: Some(failure.reason()),
            retry_after: wait,
        }
    }
}

/// Whether the KMS answered when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It was not asked yet.
    Unknown,
    /// It answered.
    Reachable,
    /// It did not.
    Unreachable,
}

impl Reach {
    /// The word for `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "not asked yet",
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The KMS, with patience.
#[derive(Debug)]
pub struct Kms {
    opening: Opening,
    provider: OnceCell<Provider>,
    cooldowns: Cooldowns,
    metrics: Metrics,
    reach: AtomicU8,
}

impl Kms {
    /// Asks the provider that `opening` opens, as soon as it can be opened.
    pub fn new(opening: Opening, metrics: Metrics) -> Self {
        Self {
            opening,
            provider: OnceCell::new(),
            cooldowns: Cooldowns::default(),
            metrics,
            reach: AtomicU8::new(Reach::Unknown as u8),
        }
    }

    /// Which backend it is.
    pub fn name(&self) -> ProviderName {
        self.opening.name
    }

    /// Opens the provider, unless it is open. The local one needs the registry for that, which may come later.
    pub async fn open(&self) -> Result<&Provider, StartError> {
        self.provider
            .get_or_try_init(|| (self.opening.open)())
            .await
    }

    /// Whether it answered when it was last asked.
    pub fn reach(&self) -> Reach {
        match self.reach.load(Ordering::Relaxed) {
            known if known == Reach::Reachable as u8 => Reach::Reachable,
            known if known == Reach::Unreachable as u8 => Reach::Unreachable,
            _ => Reach::Unknown,
        }
    }

    /// Asks for one operation on this tenant's key. A tenant whose last call did not come through is answered at once
    /// until its pause is over; other tenants do not notice.
    pub async fn ask<'a, T, F>(
        &'a self,
        tenant: TenantUid,
        operation: Operation,
        call: impl FnOnce(&'a Provider) -> F,
    ) -> Result<T, KmsFailure>
    where
        F: Future<Output = Result<T, KmsError>> + Send,
    {
        let began = Instant::now();
        let wait = self.cooldowns.wait(tenant, began);
        if !wait.is_zero() {
            return Err(KmsFailure::Cooling(wait));
        }
        // In a box: a provider's futures are large, and every caller's would be as large.
        let asking = Box::pin(async {
            let provider = self.open().await.map_err(not_open)?;
            call(provider).await
        });
        let asking = async {
            match tokio::time::timeout(TIMEOUT, asking).await {
                Ok(answer) => answer.map_err(KmsFailure::Kms),
                Err(_) => Err(KmsFailure::TimedOut(TIMEOUT)),
            }
        };
        let answer = effects::perform(Effect::Kms(operation.as_str()), Some(tenant), asking).await;
        let outcome = answer.as_ref().map_or_else(KmsFailure::reason, |_| "done");
        self.metrics
            .kms(operation.as_str(), outcome, began.elapsed());
        match &answer {
            Ok(_) => self.cooldowns.answered(tenant),
            Err(failure) => {
                if failure.is_transient() {
                    self.cooldowns.failed(tenant, Instant::now());
                } else {
                    self.cooldowns.answered(tenant);
                }
                tracing::warn!(
                    %tenant,
                    operation = operation.as_str(),
                    reason = outcome,
                    error = %failure,
                    "the KMS did not do what was asked"
                );
            }
        }
        let away = matches!(
            answer,
            Err(KmsFailure::TimedOut(_) | KmsFailure::Kms(KmsError::Unreachable { .. }))
        );
        let reach = if away {
            Reach::Unreachable
        } else {
            Reach::Reachable
        };
        self.reach.store(reach as u8, Ordering::Relaxed);
        answer
    }
}
