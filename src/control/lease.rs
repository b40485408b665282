//! Leader election over a `coordination.k8s.io/v1` Lease.
//!
//! Every change of the Lease carries the resource version it was read at, so of two candidates one gets a conflict.
//! A leader counts its term from the moment it *sent* its last successful renewal and stops writing when
//! [`TERM`] is over, whether or not it can reach the API server; a candidate waits [`LEASE_DURATION`] by its own
//! clock since it last saw the Lease change. The difference between the two is the margin for writes in flight.
//!
//! Source: Kubernetes documentation, "Leases"; `metadata.resourceVersion` in the API conventions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};

/// A candidate takes over when the Lease has not changed for this long.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// A leader may write for this long after it sent its last successful renewal.
pub const TERM: Duration = Duration::from_secs(10);

/// How often a leader renews and a candidate looks.
const PERIOD: Duration = Duration::from_secs(3);

/// Whether this process may write, asked before every write.
#[derive(Clone, Debug)]
pub struct Leadership {
    started: Instant,
    /// End of the term in milliseconds since `started`; zero while not leading.
    ends: Arc<AtomicU64>,
}

/// This process does not lead (any more): it must not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica is not the leader, so it does not write")]
pub struct Deposed;

impl Default for Leadership {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            ends: Arc::default(),
        }
    }
}

impl Leadership {
    /// What is left of the term.
    ///
    /// # Errors
    /// [`Deposed`] once the term is over or before it began.
    pub fn remaining(&self) -> Result<Duration, Deposed> {
        let ends = Duration::from_millis(self.ends.load(Ordering::Acquire));
        ends.checked_sub(self.started.elapsed())
            .filter(|left| !left.is_zero())
            .ok_or(Deposed)
    }

    fn extend_from(&self, sent: Instant) {
        let ends = sent.duration_since(self.started) + TERM;
        self.ends.store(
            u64::try_from(ends.as_millis()).unwrap_or(u64::MAX),
            Ordering::Release,
        );
    }

    fn end(&self) {
        self.ends.store(0, Ordering::Release);
    }
}

/// A candidate for leadership, and the leader once it won.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    leadership: Leadership,
    /// The Lease as last seen, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
}

impl Elector {
    /// A candidate named `identity` for the Lease `name`.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        leadership: Leadership,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            leadership,
            seen: None,
        }
    }

    /// Competes until this process leads.
    pub async fn win(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, lease = %self.name, "cannot read or take the lease; trying again");
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews until the term is lost to another or runs out.
    pub async fn hold(&mut self) -> Deposed {
        loop {
            tokio::time::sleep(PERIOD).await;
            let renewal = match self.leadership.remaining() {
                Ok(left) => tokio::time::timeout(left, self.attempt()).await,
                Err(deposed) => return deposed,
            };
            match renewal {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => {
                    self.leadership.end();
                    return Deposed;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = %self.name, "cannot renew the lease; trying again");
                }
                Err(_) => return Deposed,
            }
        }
    }

    /// Gives the Lease up, so that another replica need not wait for it to expire.
    pub async fn release(&mut self) {
        self.leadership.end();
        let Some((mut lease, _)) = self.seen.take() else {
            return;
        };
        if holder(&lease) == Some(self.identity.as_str()) {
            lease.spec.get_or_insert_default().holder_identity = Some(String::new());
            if let Err(error) = self
                .api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
            {
                tracing::warn!(%error, lease = %self.name, "cannot give the lease up; it will expire");
            }
        }
    }

    /// One try to take or renew the Lease. True when this process leads.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let sent = Instant::now();
        if let Some((lease, since)) = self.seen.clone()
            && self.may_take(&lease, since)
        {
            return match self
                .api
                .replace(&self.name, &PostParams::default(), &self.taken(lease))
                .await
            {
                Ok(lease) => Ok(self.lead(lease, sent)),
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                    self.look().await?;
                    Ok(false)
                }
                Err(error) => {
                    // It may have been applied all the same: the next look tells.
                    self.seen = None;
                    Err(error)
                }
            };
        }
        self.look().await?;
        if self.seen.is_some() {
            return Ok(self.holds() && self.leadership.remaining().is_ok());
        }
        let lease = self.taken(Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(lease) => Ok(self.lead(lease, sent)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn look(&mut self) -> Result<(), kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        self.seen = match (lease, self.seen.take()) {
            (Some(now), Some((before, since)))
                if now.resource_version() == before.resource_version() =>
            {
                Some((before, since))
            }
            (Some(now), _) => Some((now, Instant::now())),
            (None, _) => None,
        };
        Ok(())
    }

    fn lead(&mut self, lease: Lease, sent: Instant) -> bool {
        self.seen = Some((lease, sent));
        self.leadership.extend_from(sent);
        true
    }

    fn holds(&self) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|(lease, _)| holder(lease) == Some(self.identity.as_str()))
    }

    fn may_take(&self, lease: &Lease, since: Instant) -> bool {
        match holder(lease) {
            None | Some("") => true,
            Some(holder) if holder == self.identity => true,
            Some(_) => since.elapsed() >= LEASE_DURATION,
        }
    }

    fn taken(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            spec.lease_transitions = Some(
                spec.lease_transitions
                    .map_or(0, |transitions| transitions + 1),
            );
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leads_before_a_renewal_and_after_the_term() {
        let leadership = Leadership::default();
        assert_eq!(leadership.remaining(), Err(Deposed));
        leadership.extend_from(Instant::now());
        assert!(leadership.remaining().is_ok_and(|left| left <= TERM));
        leadership.end();
        assert_eq!(leadership.remaining(), Err(Deposed));
    }

    #[test]
    fn the_term_ends_before_anyone_else_may_take_over() {
        assert!(
            TERM + PERIOD < LEASE_DURATION,
            "a margin for writes in flight is left"
        );
    }
}
