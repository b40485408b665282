//! The database agent with a real PostgreSQL 17, without a cluster: the program runs as process 1 of its own namespaces
//! in the image's root file system, as the user and with the read-only root that it has in a pod.
//!
//! Needs root and the database image's files: `cargo xtask test` prepares them, or by hand
//! `GRANARY_POSTGRES_ROOTFS=… cargo test --test agent -- --ignored`.

#![allow(
    clippy::expect_used,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unused_self,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod client;
mod pki;
mod pod;

mod export;
mod initialise;
mod supervise;
mod trust;
