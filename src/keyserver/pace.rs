//! How soon a pod is to ask for new versions again: soon where few ask, so that a rotation takes seconds, and seldom where
//! many do, so that they cost no more together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Looks of all pods together that one replica answers in a second.
const LOOKS_A_SECOND: u64 = 10;

/// The soonest and the latest, in seconds.
const SOONEST: u64 = 5;
const LATEST: u64 = 60;

/// A pod that has not asked for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(3 * LATEST);

/// Pods that are counted at most; more change nothing.
const MOST: usize = 2_400;

/// Up to so many, nobody looks which of them are gone: it would change nothing.
const FEW: usize = 50;

/// Who has asked lately.
#[derive(Debug, Default)]
pub struct Pace {
    seen: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    /// Seconds until this pod is to ask again.
    pub fn again(&self, pod: &str, now: Instant) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MOST || seen.contains_key(pod) {
            seen.insert(pod.to_owned(), now);
        }
        if seen.len() > FEW {
            seen.retain(|_, at| now.saturating_duration_since(*at) < GONE_AFTER);
        }
        // Each replica hears of about every pod, because each look may go to another one.
        let pods = u64::try_from(seen.len()).unwrap_or(u64::MAX);
        pods.div_ceil(LOOKS_A_SECOND).clamp(SOONEST, LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pace: &Pace, pods: u32, now: Instant) -> u64 {
        (0..pods)
            .map(|pod| pace.again(&pod.to_string(), now))
            .last()
            .unwrap()
    }

    #[test]
    fn few_pods_ask_often_and_many_seldom() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert_eq!(last(&pace, 1, now), SOONEST);
        assert_eq!(last(&pace, 50, now), SOONEST);
        assert_eq!(last(&pace, 200, now), 20);
        assert_eq!(last(&pace, 10_000, now), LATEST);
        assert_eq!(pace.seen.lock().unwrap().len(), MOST);
    }

    #[test]
    fn pods_that_are_gone_do_not_count() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert_eq!(last(&pace, 300, now), 30);
        let later = now + GONE_AFTER;
        pace.again("0", later);
        assert_eq!(pace.again("0", later), SOONEST);
    }
}
