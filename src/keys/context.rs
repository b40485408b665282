//! Whose a data key is and what for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UID of a tenant's custom resource: what its key, its data keys and its evidence belong to. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantUid(pub Uuid);

impl fmt::Display for TenantUid {
    /// Hyphenated lower case, as Kubernetes writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for TenantUid {
    type Err = ContextError;

    /// Takes the one spelling that [`Display`](fmt::Display) writes: a KMS compares encryption contexts byte by byte.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ContextError::TenantUid(text.to_owned());
        let uid = Self(Uuid::try_parse(text).map_err(|_| refused())?);
        if uid.to_string() == text {
            Ok(uid)
        } else {
            Err(refused())
        }
    }
}

/// What the data keys of one kind are for. Each has versions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Columns that the tenant's app encrypts itself.
    App,
    /// Backups and sealed exports.
    Backup,
}

impl Purpose {
    /// Every purpose, in the order in which data keys are made.
    pub const ALL: [Self; 2] = [Self::App, Self::Backup];

    /// The name in headers, encryption contexts, paths and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = ContextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or_else(|| ContextError::Purpose(text.to_owned()))
    }
}

/// What a data key is bound to when it is wrapped. Unwrapping must name exactly the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Whose data key.
    pub tenant: TenantUid,
    /// What it is for.
    pub purpose: Purpose,
    /// Which of the data keys for that purpose, from 1.
    pub version: u32,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            purpose,
            version,
        } = self;
        write!(
            f,
            "data key {version} for purpose {purpose} of tenant {tenant}"
        )
    }
}

/// A text that names no tenant or no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not the UID of a tenant.
    #[error(
        "{0:?} is no tenant UID: write it as `kubectl get tenant NAME -o jsonpath={{.metadata.uid}}` prints it"
    )]
    TenantUid(String),
    /// Not a purpose.
    #[error("{0:?} is no purpose of a data key: write app or backup, in lower case")]
    Purpose(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "4f1c09ab-7d00-4000-8000-0000000000aa";

    #[test]
    fn a_uid_has_one_spelling() {
        assert_eq!(UID.parse::<TenantUid>().unwrap().to_string(), UID);
        let upper = UID.to_uppercase();
        let simple = UID.replace('-', "");
        for other in [upper.as_str(), simple.as_str(), &format!("{{{UID}}}"), ""] {
            assert!(other.parse::<TenantUid>().is_err(), "{other:?}");
        }
    }

    #[test]
    fn purposes_have_one_spelling() {
        for purpose in Purpose::ALL {
            assert_eq!(purpose.as_str().parse(), Ok(purpose));
            assert_eq!(
                serde_json::to_value(purpose).unwrap(),
                serde_json::Value::from(purpose.as_str())
            );
        }
        for other in ["App", "BACKUP", " app", "apps", ""] {
            assert!(other.parse::<Purpose>().is_err(), "{other:?}");
        }
    }
}
