//! What can go wrong with the registry, and whether trying again can help.

use std::io;
use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;

/// Why the registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or went away. What was being committed may be committed.
    #[error("the registry cannot be reached: {reason}")]
    Unavailable {
        /// What was tried, and how it failed.
        reason: String,
    },
    /// Others are in the way, or it took too long; nothing was changed.
    #[error("the registry is busy: {reason}")]
    Busy {
        /// What it waited for.
        reason: String,
    },
    /// A rule of the registry does not allow it; nothing was changed.
    #[error("the registry does not allow it (rule {rule}): {reason}")]
    Conflict {
        /// Name of the rule: a constraint or a trigger of `migrations/`.
        rule: String,
        /// What was against it.
        reason: String,
    },
    /// What should be changed is not there, or not in a state in which it can be changed.
    #[error("the registry has no {0}")]
    NotFound(String),
    /// The role may not do this, or the certificate is not the role's.
    #[error("the registry refuses: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The schema is older than this build needs.
    #[error(
        "the registry's schema lacks {missing}: it is brought up to date by the operator's leader when it starts"
    )]
    SchemaOutdated {
        /// The migrations that were not applied.
        missing: String,
    },
    /// A migration could not be applied; what it did was rolled back.
    #[error("a migration of the registry failed")]
    Migration(#[source] refinery_core::Error),
    /// A row holds something that this build does not know.
    #[error(
        "the registry holds {value:?} as {column}, which this version does not know: was it written by a newer one?"
    )]
    Unreadable {
        /// What it stands for.
        column: &'static str,
        /// The value.
        value: String,
    },
    /// The private socket could not be made.
    #[error("cannot make a socket in {}: the folder must be writable", folder.display())]
    Socket {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A statement failed in a way that nobody expected.
    #[error("a statement of the registry failed")]
    Statement(#[source] sqlx::Error),
}

impl RegistryError {
    /// Whether the same may succeed later without anybody changing something.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            // The schema comes with the operator, which may start after the others.
            Self::Unavailable { .. } | Self::Busy { .. } | Self::SchemaOutdated { .. } => true,
            Self::Conflict { .. }
            | Self::NotFound(_)
            | Self::Refused { .. }
            | Self::Migration(_)
            | Self::Unreadable { .. }
            | Self::Socket { .. }
            | Self::Statement(_) => false,
        }
    }

    /// The name in metrics and conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "RegistryUnavailable",
            Self::Busy { .. } => "RegistryBusy",
            Self::Conflict { .. } => "RegistryConflict",
            Self::NotFound(_) => "RegistryNotFound",
            Self::Refused { .. } => "RegistryRefused",
            Self::SchemaOutdated { .. } => "RegistrySchemaOutdated",
            Self::Migration(_) => "RegistryMigrationFailed",
            Self::Unreadable { .. } => "RegistryUnreadable",
            Self::Socket { .. } => "RegistrySocket",
            Self::Statement(_) => "RegistryStatementFailed",
        }
    }

    pub(crate) fn unreadable(column: &'static str, value: &str) -> Self {
        Self::Unreadable {
            column,
            value: value.to_owned(),
        }
    }

    fn from_database(error: &PgDatabaseError) -> Option<Self> {
        let reason = || error.message().to_owned();
        let code = error.code();
        let found = match code {
            // A table or function that is not there: the programs were started before the migration.
            "42P01" | "42883" => Self::SchemaOutdated { missing: reason() },
            // Serialisation failure, deadlock, lock not available, statement cancelled.
            "40001" | "40P01" | "55P03" | "57014" => Self::Busy { reason: reason() },
            // A transaction that its session limit ended.
            "25P03" => Self::Unavailable { reason: reason() },
            // Wrong certificate for the role, no such role or database, no right.
            "28000" | "28P01" | "3D000" | "42501" => Self::Refused { reason: reason() },
            _ => match code.get(..2) {
                // No connection, no room, shutting down.
                Some("08" | "53" | "57") => Self::Unavailable { reason: reason() },
                Some("23") => Self::Conflict {
                    rule: error.constraint().unwrap_or(code).to_owned(),
                    reason: reason(),
                },
                _ => return None,
            },
        };
        Some(found)
    }
}

impl From<sqlx::Error> for RegistryError {
    fn from(error: sqlx::Error) -> Self {
        let unavailable = |reason: String| Self::Unavailable { reason };
        match &error {
            sqlx::Error::Database(database) => database
                .try_downcast_ref::<PgDatabaseError>()
                .and_then(Self::from_database)
                .unwrap_or(Self::Statement(error)),
            sqlx::Error::Io(source) => unavailable(format!("the connection broke: {source}")),
            sqlx::Error::PoolTimedOut => unavailable("no connection in time".to_owned()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                unavailable("this program is shutting down".to_owned())
            }
            _ => Self::Statement(error),
        }
    }
}

#[cfg(feature = "faults")]
impl crate::effects::Failing for RegistryError {
    fn lost(effect: crate::effects::Effect) -> Self {
        Self::Unavailable {
            reason: format!("the connection broke during {effect}"),
        }
    }

    fn refused(effect: crate::effects::Effect) -> Self {
        Self::Busy {
            reason: format!("a test is in the way of {effect}"),
        }
    }
}
