//! Every write of the plane to something outside of its own process has a name here and goes through [`perform`].
//!
//! ```text
//! operator ── control::writer ──────────┐
//! operator, key server ── registry ─────┼─ perform(effect, tenant, call) ─► API server · registry · KMS
//! key server ── keyserver::kms ─────────┘
//! ```
//!
//! With the feature `faults`, which only tests have, a test makes one effect of one tenant fail before it happens or
//! after, and kills the process that it belongs to. Without it, [`perform`] is its argument.
//!
//! Not among them is what nobody decides on: events, log lines, and the lease, which has its own fencing.

#[cfg(feature = "faults")]
mod inject;

use std::fmt;

#[cfg(feature = "faults")]
pub use inject::{
    Failing, Fault, Injection, Trace, arm, forget, is_down, perform, restart, trace, watch,
};

#[cfg(not(feature = "faults"))]
use crate::keys::TenantUid;

/// The name of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The operator writes an object to the API server.
    Kubernetes {
        /// How: `apply`, `create`, `delete`, …
        verb: &'static str,
        /// Kind of the object.
        kind: &'static str,
    },
    /// The operator commits a transaction of the registry.
    Operator(Commit),
    /// The key server commits a transaction of the registry.
    KeyServer(Commit),
    /// The key server asks the KMS for an operation.
    Kms(&'static str),
}

/// What a transaction of the registry holds. Its row of the audit, if it has one, names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Commit {
    /// The row before an act, and what belongs to it. The word is that of the audit's action.
    Started(&'static str),
    /// The row after an act that was done, and what it came to.
    Finished(&'static str),
    /// The row after an act that was not done.
    Failed(&'static str),
    /// The row of an act that was not allowed.
    Refused(&'static str),
    /// A change that needs no row, such as a step of an act that goes on.
    Noted(&'static str),
}

/// The processes that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// `granary operator`.
    Operator,
    /// `granary keyserver`.
    KeyServer,
}

impl Effect {
    /// Whose it is.
    #[must_use]
    pub const fn process(self) -> Process {
        match self {
            Self::Kubernetes { .. } | Self::Operator(_) => Process::Operator,
            Self::KeyServer(_) | Self::Kms(_) => Process::KeyServer,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes { verb, kind } => write!(f, "kubernetes: {verb} {kind}"),
            Self::Operator(commit) => write!(f, "registry: operator {commit}"),
            Self::KeyServer(commit) => write!(f, "registry: key server {commit}"),
            Self::Kms(operation) => write!(f, "kms: {operation}"),
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (phase, what) = match self {
            Self::Started(what) => ("starts", what),
            Self::Finished(what) => ("finishes", what),
            Self::Failed(what) => ("fails", what),
            Self::Refused(what) => ("refuses", what),
            Self::Noted(what) => ("notes", what),
        };
        write!(f, "{phase} {what}")
    }
}

/// Does `call`, which is the write of this name for this tenant; none where it is the plane's own.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn perform<F: Future>(_: Effect, _: Option<TenantUid>, call: F) -> F {
    call
}
