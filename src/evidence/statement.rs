//! The record as an in-toto Statement v1.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{Impossible, Record};
use super::sha256_hex;

/// The version of in-toto's statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What kind of statement it is, with the version of [`Record`].
pub const PREDICATE_TYPE: &str = "https://granary.dev/deletion/v1";

/// A statement about one tenant, whose record can be true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Wire")]
pub struct Statement {
    record: Record,
}

impl Statement {
    /// States the record, unless it cannot be true.
    pub fn new(record: Record) -> Result<Self, Impossible> {
        record.check()?;
        Ok(Self { record })
    }

    /// What is stated.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The digest that names the tenant in statements: SHA-256 of its UID as it is written in lower case with hyphens.
    #[must_use]
    pub fn digest_of(uid: Uuid) -> String {
        sha256_hex(uid.hyphenated().to_string().as_bytes())
    }
}

/// The statement as JSON has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    #[serde(rename = "_type")]
    pub(super) statement_type: String,
    pub(super) subject: Vec<Subject>,
    pub(super) predicate_type: String,
    pub(super) predicate: Record,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    name: String,
    digest: Digests,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Digests {
    sha256: String,
}

impl Subject {
    /// The tenant of a record.
    pub(super) fn of(record: &Record) -> Self {
        Self {
            name: record.tenant.name.clone(),
            digest: Digests {
                sha256: Statement::digest_of(record.tenant.uid),
            },
        }
    }
}

impl From<Statement> for Wire {
    fn from(statement: Statement) -> Self {
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject::of(&statement.record)],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: statement.record,
        }
    }
}
