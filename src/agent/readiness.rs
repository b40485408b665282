//! Whether the database can be used, and if not, why: one value that the probes wait on.

use serde::Serialize;

/// Why the database cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// The volume is being checked or filled.
    Initialising,
    /// PostgreSQL was started and accepts no query yet: it reads its log, or recovers from a crash.
    Starting,
    /// The volume has less room than PostgreSQL needs to go on safely.
    VolumeFull,
    /// PostgreSQL ran before and accepts no query now.
    NotAccepting,
    /// The pod was told to stop.
    ShuttingDown,
}

impl Reason {
    /// Whether waiting is likely to help, so that a probe is held open.
    pub fn passes_by_itself(self) -> bool {
        matches!(self, Self::Initialising | Self::Starting)
    }
}

/// What a probe is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether the database can be used.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people, with figures.
    pub message: String,
}

impl Readiness {
    /// The database can be used.
    pub fn ready() -> Self {
        Self {
            ready: true,
            reason: None,
            message: "accepting connections".to_owned(),
        }
    }

    /// The database cannot be used.
    pub fn not(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: Some(reason),
            message: message.into(),
        }
    }
}
