//! The end of a tenant, step by step: access cut, pods stopped, grace, key disabled, refusal proven, data deleted, the
//! key's destruction ordered, refusal proven again, record signed, tombstone.
//!
//! ```text
//! state Offboarded ─→ Announce → CutAccess → StopPods → Grace ─→ BeginShred → DisableKey → Prove → Count → DeleteData
//!                     └──── granary reinstate brings it back ────┘   → ScheduleDestruction → ProveAgain → Record
//! deleted          ─→ the same without a grace period, and then the finalizer goes
//! ```
//!
//! | file           | what it holds                                                                 |
//! |----------------|-------------------------------------------------------------------------------|
//! | [`progress`]   | how far it is, as the registry has it                                         |
//! | [`next`]       | pure: what comes next                                                         |
//! | [`carry_out`]  | doing it                                                                      |
//! | [`registry`]   | what is written down: announcement, milestones, point of no return, tombstone |
//! | [`record`]     | the signed record                                                             |
//! | [`status`]     | pure: what the tenant's status says of it                                     |
//! | [`confirm`]    | the leader's task: when the KMS has destroyed a key, that goes on record too  |
//!
//! Each pass does one step and writes down that it did, so that an interruption costs at most a repetition. Two things
//! are in the tenant's status before they are in the registry: that it is on its way out, because a tenant that comes
//! back is known by it; and that the shred begins, because from then on the API server lets nobody take it back.

pub mod carry_out;
pub mod confirm;
mod error;
pub mod next;
pub mod progress;
pub mod record;
pub mod registry;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;

pub use error::OffboardingError;
pub use next::{Task, Todo};
pub use progress::{Journal, Progress, Standing, standing};

use super::tenant_keys::TenantKeys;
use crate::evidence::SigningKey;

/// What ends tenants.
#[derive(Clone)]
pub struct Offboarding {
    /// Registry and key server.
    pub keys: TenantKeys,
    /// The key that records are signed with, once the plane has one.
    pub signing: watch::Receiver<Option<Arc<SigningKey>>>,
}
