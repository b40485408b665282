//! PID 1 of a silo's database pod: initialise the volume, supervise PostgreSQL, tell the truth about it.
//!
//! ```text
//! listen on HTTPS ─→ volume ─→ settings ─→ postmaster ─→ ready
//! (probes wait)     (unpack   (written    (signals,     (accepts a query over
//!                    once)     each time)  log, reaping)  the pod's own socket)
//! ```
//!
//! The volume holds data alone. Configuration and certificates live in memory beside the socket and are written at
//! every start, so an image or plan change is a restart and never a migration of files.

mod args;
mod certificates;
mod children;
mod control_file;
mod export;
pub mod keys;
mod log;
mod postmaster;
mod probe;
mod readiness;
mod server;
mod settings;
mod supervise;
mod template;
mod volume;

pub use args::{DatabaseArgs, MemorySize};
pub use supervise::database;

/// The only major version whose data directories this agent creates, checks and starts.
pub const POSTGRES_MAJOR: u32 = 17;
