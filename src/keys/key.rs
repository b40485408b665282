//! A tenant's key in the KMS: its name and its state.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TenantUid;

/// What the local provider's names begin with.
const LOCAL: &str = "local:";

/// The KMS's own name of a tenant's key: for `aws` its ARN, for `local` `local:<tenant uid>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// Longest name, in bytes. Names go into envelope headers with a length of two bytes; AWS allows 2048.
    pub const MAX: usize = 2048;

    /// The name that the local provider gives to a tenant's key: one per UID, for ever.
    pub(super) fn local(tenant: TenantUid) -> Self {
        Self(format!("{LOCAL}{tenant}"))
    }

    /// Whose key this is, if the local provider named it.
    pub(super) fn as_local(&self) -> Option<TenantUid> {
        self.0.strip_prefix(LOCAL)?.parse().ok()
    }

    /// The name as the KMS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plausible =
            (1..=Self::MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if plausible {
            Ok(Self(text))
        } else {
            Err(KeyIdError)
        }
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<KeyId> for String {
    fn from(key: KeyId) -> Self {
        key.0
    }
}

/// A text that no KMS gives to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's name has 1 to 2048 visible ASCII characters")]
pub struct KeyIdError;

/// What a tenant's key can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum KeyState {
    /// Wraps and unwraps.
    Enabled,
    /// Refuses until it is enabled. Also what a KMS reports while a key cannot be used for reasons of its own.
    Disabled,
    /// Refuses, and is destroyed at `at` unless that is cancelled.
    PendingDeletion {
        /// When the KMS destroys it.
        at: Timestamp,
    },
    /// Gone for ever; the KMS remembers that it was there.
    Destroyed,
    /// The KMS knows no such key. AWS says this of destroyed keys too.
    Missing,
}

impl KeyState {
    /// The name in tables and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion { .. } => "pending-deletion",
            Self::Destroyed => "destroyed",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled => f.write_str("enabled"),
            Self::Disabled => f.write_str("disabled"),
            Self::PendingDeletion { at } => write!(f, "going to be destroyed at {at}"),
            Self::Destroyed => f.write_str("destroyed"),
            Self::Missing => f.write_str("not known to the KMS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_header_and_on_a_line() {
        let longest = "k".repeat(KeyId::MAX);
        assert!(longest.parse::<KeyId>().is_ok());
        for bad in ["", "a b", "a\nb", "schlüssel", &format!("{longest}k")] {
            assert_eq!(bad.parse::<KeyId>(), Err(KeyIdError), "{bad:?}");
        }
        assert!(serde_json::from_str::<KeyId>("\"\"").is_err());
    }

    #[test]
    fn states_are_written_as_tables_name_them() {
        let at = Timestamp::UNIX_EPOCH;
        for state in [
            KeyState::Enabled,
            KeyState::Disabled,
            KeyState::PendingDeletion { at },
            KeyState::Destroyed,
            KeyState::Missing,
        ] {
            assert_eq!(
                serde_json::to_value(state).unwrap()["state"],
                state.as_str()
            );
        }
    }
}
