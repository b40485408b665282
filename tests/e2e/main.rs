//! Tests against a real cluster in which Granary's chart is installed. `KUBECONFIG` says which.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod admission;
mod chart;
mod cli;
#[path = "../specs/mod.rs"]
mod specs;
mod support;
