//! The key server as a whole: its HTTPS, a real PostgreSQL as registry, the local KMS, and an API server that says what a
//! test wants it to say.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../postgres/mod.rs"]
mod postgres;

mod api_server;
mod bad_input;
mod callers;
mod ending;
mod in_pod;
mod latency;
mod life;
mod offboarding;
mod plane;
mod program;
mod throttling;
mod trouble;
