//! The registry and the audit on a real PostgreSQL, over TLS and as the roles that programs have.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../postgres/mod.rs"]
mod postgres;

mod appending;
mod command;
mod connection;
mod migrations;
mod queries;
mod tables;
mod tampering;

use granary::keys::TenantUid;
use uuid::Uuid;

/// A tenant that no other test has.
fn uid() -> TenantUid {
    TenantUid(Uuid::new_v4())
}
