//! The app against a real PostgreSQL, reached as in a silo: TLS 1.3, client certificates, no passwords.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod app;
mod certificates;
mod client;
mod cluster;
mod dialing;
mod encryption;
mod pages;
mod process;
mod readiness;
mod requests;
mod rotation;

use std::time::{Duration, Instant};

/// Tries `condition` until it gives a value; fails the test after 20 s.
async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
