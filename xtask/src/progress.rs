//! Progress for people: one plain line per finished step, with the time since
//! the start and the time the step took. On stderr, so that stdout carries data.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Prints steps against one clock; shared by threads.
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Runs `work` and reports how long it took, or that it failed.
    pub fn step<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let result = work();
        let took = seconds(began.elapsed());
        match &result {
            Ok(_) => self.line(&format!("{what}  ({took})")),
            Err(_) => self.line(&format!("FAILED: {what}  ({took})")),
        }
        result
    }

    /// Announces a step that takes long, then runs it like [`Progress::step`].
    pub fn long_step<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.line(&format!("{what} …"));
        self.step(what, work)
    }

    /// Prints one line.
    pub fn line(&self, text: &str) {
        eprintln!("{:>8}  {text}", seconds(self.elapsed()));
    }
}

/// Seconds with one decimal, minutes once there are some.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 100 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{}:{:02} min", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2:05 min");
    }
}
