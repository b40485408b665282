//! Logs, metrics and health.

mod logs;
mod metrics;
mod server;

pub use logs::{LogFormat, init};
pub use metrics::{Metrics, PassOutcome};
pub use server::{Health, Render, serve};
