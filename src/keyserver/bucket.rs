//! Token buckets: who asks too often waits, and nobody else does.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often full buckets are thrown away at most, once there are too many.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// One bucket per caller, in bounded memory.
#[derive(Debug)]
pub struct Buckets<K> {
    /// Tokens that come back in a second.
    rate: f64,
    /// What a full bucket holds: this many requests at once.
    burst: f64,
    /// The most buckets that are kept.
    most: usize,
    kept: Mutex<Kept<K>>,
}

#[derive(Debug)]
struct Kept<K> {
    buckets: HashMap<K, Bucket>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets for at most `most` callers at a time: `burst` requests at once, then `rate` a second.
    #[must_use]
    pub fn new(rate: f64, burst: f64, most: usize) -> Self {
        Self {
            rate,
            burst,
            most,
            kept: Mutex::new(Kept {
                buckets: HashMap::new(),
                swept: None,
            }),
        }
    }

    /// Takes one token of this caller's.
    ///
    /// # Errors
    /// How long to wait, where there is none.
    pub fn take(&self, caller: K, now: Instant) -> Result<(), Duration> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.buckets.len() >= self.most && !kept.buckets.contains_key(&caller) {
            self.sweep(&mut kept, now)?;
        }
        let full = Bucket {
            tokens: self.burst,
            at: now,
        };
        let bucket = kept.buckets.entry(caller).or_insert(full);
        bucket.tokens = self.level(*bucket, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Makes room: a bucket that is full again says nothing. Where all are in use, a newcomer waits.
    fn sweep(&self, kept: &mut Kept<K>, now: Instant) -> Result<(), Duration> {
        let due = kept
            .swept
            .is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY);
        if due {
            kept.buckets
                .retain(|_, bucket| self.level(*bucket, now) < self.burst);
            kept.swept = Some(now);
        }
        if kept.buckets.len() < self.most {
            Ok(())
        } else {
            Err(SWEEP_EVERY)
        }
    }

    fn level(&self, bucket: Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        passed.mul_add(self.rate, bucket.tokens).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate() {
        let (buckets, start) = (Buckets::new(2.0, 3.0, 10), Instant::now());
        for _ in 0..3 {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        let wait = buckets.take("a", start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert!(buckets.take("a", start + wait / 2).is_err());
        assert_eq!(buckets.take("a", start + wait), Ok(()));
        assert!(buckets.take("a", start + wait).is_err());
        // However long it is quiet, no more than a burst comes together.
        let later = start + Duration::from_hours(1);
        assert_eq!(
            (0..10).filter(|_| buckets.take("a", later).is_ok()).count(),
            3
        );
    }

    #[test]
    fn one_caller_does_not_slow_another() {
        let (buckets, start) = (Buckets::new(1.0, 1.0, 10), Instant::now());
        assert_eq!(buckets.take("a", start), Ok(()));
        assert!(buckets.take("a", start).is_err());
        assert_eq!(buckets.take("b", start), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_room_comes_back() {
        let (buckets, start) = (Buckets::new(1.0, 2.0, 100), Instant::now());
        for caller in 0..100 {
            assert_eq!(buckets.take(caller, start), Ok(()));
        }
        assert_eq!(buckets.take(100, start), Err(SWEEP_EVERY));
        assert_eq!(buckets.take(7, start), Ok(()), "who is known is served");
        // A second later all but number 7 are full again.
        let later = start + SWEEP_EVERY;
        assert_eq!(buckets.take(100, later), Ok(()));
        assert_eq!(buckets.kept.lock().unwrap().buckets.len(), 2);
    }

    #[test]
    fn a_clock_that_runs_backwards_gives_nothing() {
        let (buckets, now) = (Buckets::new(5.0, 1.0, 4), Instant::now());
        let later = now + Duration::from_secs(5);
        assert_eq!(buckets.take("a", later), Ok(()));
        assert!(buckets.take("a", now).is_err());
    }
}
