//! Names of what belongs to a silo. All derive from the tenant's UID, never from its name alone.

use std::fmt;

use sha2::{Digest, Sha256};

/// Longest prefix of a tenant's name inside a namespace name: 63 − `silo-` − `-` − 10 digits.
const NAME_PREFIX_MAX: usize = 47;

/// The name of a silo's namespace: `silo-<name>-<first 10 hex digits of the UID>`.
///
/// The name is there for people and may be cut; the UID's digits make it unique, and ownership is always
/// checked against the full UID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiloName(String);

impl SiloName {
    /// The namespace name of the tenant with this name and UID.
    #[must_use]
    pub fn new(tenant: &str, uid: &str) -> Self {
        let prefix: String = tenant.chars().take(NAME_PREFIX_MAX).collect();
        let digits: String = uid
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(10)
            .collect();
        Self(format!("silo-{}-{digits}", prefix.trim_end_matches('-')))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A release of a tenant's app: eight hex digits of the SHA-256 of the image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release(String);

impl Release {
    /// The release that runs this image.
    #[must_use]
    pub fn of_image(image: &str) -> Self {
        let digest = Sha256::digest(image.as_bytes());
        let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(format!("{first:08x}"))
    }

    /// The release as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_prefix_never_shares_a_namespace() {
        let prefix = "a".repeat(50);
        let one = SiloName::new(
            &format!("{prefix}-one"),
            "0f3e1c58-aaaa-4bbb-8ccc-000000000001",
        );
        let two = SiloName::new(
            &format!("{prefix}-two"),
            "7d20cc91-aaaa-4bbb-8ccc-000000000002",
        );
        assert_ne!(one, two);
        assert!(one.as_str().len() <= 63, "{one}");
    }

    #[test]
    fn a_cut_never_leaves_two_dashes() {
        let name = format!("{}-b", "a".repeat(46));
        assert_eq!(
            SiloName::new(&name, "0f3e1c58-aa00-4bbb-8ccc-000000000001").as_str(),
            format!("silo-{}-0f3e1c58aa", "a".repeat(46))
        );
    }
}
