//! The commands as people and scripts run them: the built program, its output and its exit codes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a panic is the report"
)]

mod evidence;
mod fake;
mod files;
mod keys;
mod offboarding;
mod program;
mod server;
mod shell;
mod support;
