//! What a running operator remembers of its tenants; losing it costs repeated looks, never a wrong write.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::act::Act;
use crate::api::{SiloSettings, TenantStatus, tenant::KeyStatus};

/// First wait after a failed pass; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Longest wait after a failed pass.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What keeps pods from their keys is asked for at most this often.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Memory by tenant UID.
#[derive(Debug, Default)]
pub struct Memory {
    tenants: Mutex<HashMap<String, Remembered>>,
    queued: Mutex<HashSet<String>>,
}

#[derive(Debug, Default)]
struct Remembered {
    published: Option<(TenantStatus, Instant)>,
    failures: u32,
    looks: u32,
    built_from: Option<Arc<SiloSettings>>,
    key: Option<KeyStatus>,
    key_trouble: Option<(Option<KeyTrouble>, Instant)>,
    announced: Option<i64>,
    changing: Option<Act>,
    clean: Option<(u32, Instant)>,
    rotated_for: Option<Timestamp>,
}

/// What keeps pods from their keys, as reason and message.
type KeyTrouble = (String, String);

impl Memory {
    /// The status that was last published, and when: a watch may not have brought it back yet.
    #[must_use]
    pub fn published(&self, uid: &str) -> Option<(TenantStatus, Instant)> {
        self.lock().get(uid)?.published.clone()
    }

    /// Remembers a published status.
    pub fn publish(&self, uid: &str, status: TenantStatus) {
        self.lock().entry(uid.to_owned()).or_default().published = Some((status, Instant::now()));
    }

    /// A pass failed: how long to wait before the next.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut tenants = self.lock();
        let remembered = tenants.entry(uid.to_owned()).or_default();
        remembered.failures = remembered.failures.saturating_add(1);
        backoff(remembered.failures)
    }

    /// A pass went through.
    pub fn succeeded(&self, uid: &str) {
        if let Some(remembered) = self.lock().get_mut(uid) {
            remembered.failures = 0;
        }
    }

    /// The key that the tenant was found to have.
    #[must_use]
    pub fn key(&self, uid: &str) -> Option<KeyStatus> {
        self.lock().get(uid)?.key.clone()
    }

    /// What was found a moment ago when somebody asked what keeps pods from their keys.
    #[must_use]
    pub fn key_trouble(&self, uid: &str) -> Option<Option<KeyTrouble>> {
        let tenants = self.lock();
        let (found, at) = tenants.get(uid)?.key_trouble.as_ref()?;
        (at.elapsed() < ASK_AGAIN).then(|| found.clone())
    }

    /// This was found, or nothing.
    pub fn found_key_trouble(&self, uid: &str, found: Option<KeyTrouble>) {
        self.lock().entry(uid.to_owned()).or_default().key_trouble = Some((found, Instant::now()));
    }

    /// The tenant has this key.
    pub fn has_key(&self, uid: &str, key: KeyStatus) {
        self.lock().entry(uid.to_owned()).or_default().key = Some(key);
    }

    /// The newest generation of the spec that the audit knows of, as far as this process has seen.
    #[must_use]
    pub fn announced(&self, uid: &str) -> Option<i64> {
        self.lock().get(uid)?.announced
    }

    /// The audit knows of this generation.
    pub fn announce(&self, uid: &str, generation: i64) {
        self.lock().entry(uid.to_owned()).or_default().announced = Some(generation);
    }

    /// The change that is being carried out.
    #[must_use]
    pub fn changing(&self, uid: &str) -> Option<Act> {
        self.lock().get(uid)?.changing.clone()
    }

    /// This change is being carried out, or none any more.
    pub fn change(&self, uid: &str, act: Option<Act>) {
        self.lock().entry(uid.to_owned()).or_default().changing = act;
    }

    /// How long no row has needed an older version than this one of the app's key; none where some still do.
    pub fn clean(&self, uid: &str, version: Option<u32>) -> Duration {
        let mut tenants = self.lock();
        let remembered = tenants.entry(uid.to_owned()).or_default();
        remembered.clean = match (remembered.clean, version) {
            (Some((known, since)), Some(version)) if known == version => Some((known, since)),
            (_, version) => version.map(|version| (version, Instant::now())),
        };
        remembered
            .clean
            .map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Keys from before this moment have been replaced.
    pub fn rotated(&self, uid: &str, not_before: Timestamp) {
        let mut tenants = self.lock();
        let remembered = tenants.entry(uid.to_owned()).or_default();
        remembered.rotated_for = remembered.rotated_for.max(Some(not_before));
    }

    /// The moment that the last rotation was for: keys from before it have been replaced, whatever clocks say.
    #[must_use]
    pub fn rotated_for(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid)?.rotated_for
    }

    /// The silo is what these settings make of it.
    pub fn built(&self, uid: &str, settings: &Arc<SiloSettings>) {
        self.lock().entry(uid.to_owned()).or_default().built_from = Some(settings.clone());
    }

    /// Whether the silo was last built from these very settings.
    #[must_use]
    pub fn is_built_from(&self, uid: &str, settings: &Arc<SiloSettings>) -> bool {
        self.lock()
            .get(uid)
            .and_then(|remembered| remembered.built_from.as_ref())
            .is_some_and(|built| Arc::ptr_eq(built, settings))
    }

    /// Something that is about to happen was not there yet: how long to wait before the next look, from 20 ms up.
    pub fn looked(&self, uid: &str, found: bool) -> Duration {
        let mut tenants = self.lock();
        let remembered = tenants.entry(uid.to_owned()).or_default();
        remembered.looks = if found {
            0
        } else {
            remembered.looks.saturating_add(1)
        };
        Duration::from_millis(20 << (remembered.looks / 4).min(8)).min(Duration::from_secs(5))
    }

    /// The tenant is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// A tenant was put into the queue. Returns the queue's length.
    pub fn queue(&self, name: &str) -> usize {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        queued.insert(name.to_owned());
        queued.len()
    }

    /// A tenant was taken from the queue. Returns the queue's length.
    pub fn dequeue(&self, name: &str) -> usize {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        queued.remove(name);
        queued.len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let memory = Memory::default();
        assert_eq!(memory.failed("a"), FIRST_WAIT);
        assert_eq!(memory.failed("a"), FIRST_WAIT * 2);
        for _ in 0..20 {
            memory.failed("a");
        }
        assert_eq!(memory.failed("a"), LONGEST_WAIT);
        memory.succeeded("a");
        assert_eq!(memory.failed("a"), FIRST_WAIT, "success starts over");
    }

    #[test]
    fn what_is_clean_is_so_for_one_version() {
        let memory = Memory::default();
        assert_eq!(memory.clean("a", None), Duration::ZERO);
        memory.clean("a", Some(2));
        std::thread::sleep(Duration::from_millis(20));
        let since = memory.clean("a", Some(2));
        assert!(since >= Duration::from_millis(20), "{since:?}");
        assert!(memory.clean("a", Some(3)) < since, "another version");
        memory.clean("a", None);
        assert!(memory.clean("a", Some(3)) < since, "it was not clean");
    }

    #[test]
    fn the_queue_counts_each_tenant_once() {
        let memory = Memory::default();
        memory.queue("a");
        assert_eq!(memory.queue("a"), 1);
        assert_eq!(memory.queue("b"), 2);
        assert_eq!(memory.dequeue("a"), 1);
    }
}
