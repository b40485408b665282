//! Patience with the KMS, tenant by tenant: the calls of one that was throttled wait, those of others do not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::keys::TenantUid;

/// The first pause after a call that did not come through; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// The tenants whose last call did not come through.
#[derive(Debug, Default)]
pub struct Cooldowns {
    tenants: Mutex<HashMap<TenantUid, Cooldown>>,
}

#[derive(Clone, Copy, Debug)]
struct Cooldown {
    until: Instant,
    pause: Duration,
}

impl Cooldowns {
    /// How long this tenant's next call has to wait.
    pub fn wait(&self, tenant: TenantUid, now: Instant) -> Duration {
        self.with(|tenants| {
            tenants.get(&tenant).map_or(Duration::ZERO, |cooldown| {
                cooldown.until.saturating_duration_since(now)
            })
        })
    }

    /// A call of this tenant's came through, or was answered for good.
    pub fn answered(&self, tenant: TenantUid) {
        self.with(|tenants| tenants.remove(&tenant));
    }

    /// A call of this tenant's did not come through.
    pub fn failed(&self, tenant: TenantUid, now: Instant) {
        self.with(|tenants| {
            // Whoever has not asked for long starts anew, so that only tenants in trouble are kept.
            tenants.retain(|_, cooldown| now.saturating_duration_since(cooldown.until) < LONGEST);
            let pause = tenants
                .get(&tenant)
                .map_or(FIRST, |cooldown| (cooldown.pause * 2).min(LONGEST));
            let until = now + pause;
            tenants.insert(tenant, Cooldown { until, pause });
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<TenantUid, Cooldown>) -> T) -> T {
        work(&mut self.tenants.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_an_answer() {
        let (cooldowns, tenant) = (Cooldowns::default(), TenantUid(uuid::Uuid::from_u128(1)));
        let mut now = Instant::now();
        assert_eq!(cooldowns.wait(tenant, now), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..11 {
            cooldowns.failed(tenant, now);
            pauses.push(cooldowns.wait(tenant, now));
            now += cooldowns.wait(tenant, now);
        }
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(pauses[10], LONGEST);
        cooldowns.answered(tenant);
        assert_eq!(cooldowns.wait(tenant, now), Duration::ZERO);
        cooldowns.failed(tenant, now);
        assert_eq!(cooldowns.wait(tenant, now), FIRST);
    }

    #[test]
    fn only_the_tenant_in_trouble_waits_and_is_forgotten_in_time() {
        let cooldowns = Cooldowns::default();
        let [one, other] = [1, 2].map(|n| TenantUid(uuid::Uuid::from_u128(n)));
        let now = Instant::now();
        cooldowns.failed(one, now);
        assert_eq!(cooldowns.wait(other, now), Duration::ZERO);
        cooldowns.failed(other, now + LONGEST * 2);
        assert_eq!(cooldowns.tenants.lock().unwrap().len(), 1);
    }
}
