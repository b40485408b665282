//! What a deletion record says, and when it cannot be true.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The end of one tenant, as the plane saw it. All times are the plane's clock, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Whose data it was.
    pub tenant: Tenant,
    /// How far the end had come.
    pub stage: Stage,
    /// The tenant's keys in the KMS: at least one.
    pub keys: Vec<Key>,
    /// Every data key that one of [`Self::keys`] wrapped: at least one.
    pub data_keys: Vec<DataKey>,
    /// When each step was done.
    pub steps: Steps,
    /// The export made before the end; none when the tenant's plan asks for none.
    pub export: Option<Export>,
    /// What was deleted.
    pub removed: Removed,
    /// What was tried after the keys were disabled and again after their deletion was scheduled, and failed.
    pub proofs: Vec<Proof>,
    /// When the KMS destroys the keys, by its own calendar.
    pub destruction_due: Timestamp,
    /// When this record was made.
    pub recorded_at: Timestamp,
}

/// How far the end of a tenant had come when its record was made. There is one record of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing opens the data any more, the volumes are gone, and the KMS has the keys' deletion on its calendar.
    Shredded,
    /// The KMS has no key material any more either.
    Destroyed,
}

impl Stage {
    /// The word, as in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shredded => "shredded",
            Self::Destroyed => "destroyed",
        }
    }
}

/// Which tenant it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Its name, which may belong to another tenant since.
    pub name: String,
    /// Its UID, which is never used again.
    pub uid: Uuid,
    /// The namespace its silo was in.
    pub namespace: String,
}

/// A tenant's key in the KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// Which kind of KMS held it, such as `aws`.
    pub provider: String,
    /// The KMS's name of it, such as an ARN.
    pub id: String,
}

/// One version of a data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataKey {
    /// What it encrypted, such as `app`.
    pub purpose: String,
    /// Counted from 1.
    pub version: u32,
}

impl fmt::Display for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.purpose, self.version)
    }
}

/// When each step was done. A record needs them all; [`Self::exported`] only with an export, and [`Self::destroyed`]
/// only at [`Stage::Destroyed`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Steps {
    /// Nobody reached the tenant's page any more.
    pub access_cut: Option<Timestamp>,
    /// No pod was left that could hold a key in its memory.
    pub pods_stopped: Option<Timestamp>,
    /// The export was complete and sealed.
    pub exported: Option<Timestamp>,
    /// The KMS refused the tenant's keys.
    pub keys_disabled: Option<Timestamp>,
    /// Every data key had been tried, and was refused.
    pub proved: Option<Timestamp>,
    /// The volumes were gone.
    pub volumes_deleted: Option<Timestamp>,
    /// The KMS had the keys' deletion on its calendar.
    pub deletion_scheduled: Option<Timestamp>,
    /// The KMS had no key material any more.
    pub destroyed: Option<Timestamp>,
}

impl Steps {
    /// Every step's name and time, in the order in which people read them.
    #[must_use]
    pub fn list(&self) -> [(&'static str, Option<Timestamp>); 8] {
        [
            ("access cut", self.access_cut),
            ("pods stopped", self.pods_stopped),
            ("export", self.exported),
            ("keys disabled", self.keys_disabled),
            ("proofs", self.proved),
            ("volumes deleted", self.volumes_deleted),
            ("deletion scheduled", self.deletion_scheduled),
            ("destroyed", self.destroyed),
        ]
    }
}

/// An export of the tenant's data, sealed for somebody who is not the plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Export {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the sealed file, 64 hexadecimal digits in lower case.
    pub sha256: String,
    /// Name of the key it was sealed with.
    pub sealed_with: String,
}

/// How much was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removed {
    /// Kubernetes objects.
    pub objects: u64,
    /// Volumes among them.
    pub volumes: u64,
    /// Size of those volumes in bytes.
    pub bytes: u64,
}

/// Something that was tried, and must have failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proof {
    /// What was tried.
    pub tried: Attempt,
    /// The data key it was tried on; none where there is no single one.
    pub data_key: Option<DataKey>,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer, in the words of who refused.
    pub answer: String,
    /// When.
    pub at: Timestamp,
}

/// A way to get at a tenant's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// The plane asked for the data key as it did for a living tenant.
    Unwrap,
    /// A wrapped data key that was saved earlier was given to the KMS.
    SavedDataKey,
    /// A token of one of the tenant's pods that was saved earlier was shown to the key server.
    SavedToken,
    /// A volume's content was read with what was left.
    Restore,
}

impl Attempt {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unwrap => "unwrap",
            Self::SavedDataKey => "unwrap of a saved data key",
            Self::SavedToken => "unwrap with a saved token",
            Self::Restore => "restore",
        }
    }
}

/// How an [`Attempt`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was given out.
    Refused,
    /// It worked, which no record may hold.
    Allowed,
}

/// A reason why a record cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A step was not done.
    #[error("the step {0:?} is missing")]
    Missing(&'static str),
    /// A step was done before one that comes first.
    #[error("{later:?} ({later_at}) is before {earlier:?} ({earlier_at})")]
    Order {
        /// What comes first.
        earlier: &'static str,
        /// When that was.
        earlier_at: Timestamp,
        /// What comes after it.
        later: &'static str,
        /// When that was.
        later_at: Timestamp,
    },
    /// An attempt worked.
    #[error("{} was not refused at {at}", tried.as_str())]
    NotRefused {
        /// What worked.
        tried: Attempt,
        /// When.
        at: Timestamp,
    },
    /// Nobody tried whether a data key still works.
    #[error("no proof in time that data key {0} is refused")]
    Unproven(DataKey),
    /// Nobody tried it again at the end.
    #[error("no proof that data key {0} stayed refused after the deletion was scheduled")]
    UnprovenAtTheEnd(DataKey),
    /// The record says both that the keys are still there and when they were destroyed.
    #[error("a record of stage \"shredded\" cannot say when the keys were destroyed")]
    DestroyedAlready,
    /// A proof is about a data key that the tenant did not have.
    #[error("a proof is about data key {0}, which is not listed")]
    UnknownDataKey(DataKey),
    /// A data key is listed twice, or counted from 0.
    #[error("data key {0} is listed twice, or is none")]
    OddDataKey(DataKey),
    /// A list or text that cannot be empty is.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// There is an export without its time, or the other way round.
    #[error("an export and its time belong together, and one of them is missing")]
    HalfExport,
    /// The export's digest is none.
    #[error("the export's digest is not 64 hexadecimal digits in lower case")]
    ExportDigest,
}

/// A record that cannot be true, with every reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible(pub Vec<Fault>);

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deletion record cannot be true: ")?;
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Impossible {}

impl Record {
    /// Whether this can be true: complete, in order, and nothing was let in.
    pub fn check(&self) -> Result<(), Impossible> {
        let mut faults = Vec::new();
        self.check_names(&mut faults);
        self.check_steps(&mut faults);
        self.check_export(&mut faults);
        self.check_proofs(&mut faults);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Impossible(faults))
        }
    }

    fn check_names(&self, faults: &mut Vec<Fault>) {
        let named = |text: &str| !text.trim().is_empty();
        for (what, empty) in [
            ("the tenant's name", !named(&self.tenant.name)),
            ("the tenant's namespace", !named(&self.tenant.namespace)),
            ("the list of keys", self.keys.is_empty()),
            ("the list of data keys", self.data_keys.is_empty()),
            (
                "the name of a key",
                !self
                    .keys
                    .iter()
                    .all(|key| named(&key.id) && named(&key.provider)),
            ),
            (
                "the purpose of a data key",
                !self.data_keys.iter().all(|key| named(&key.purpose)),
            ),
        ] {
            if empty {
                faults.push(Fault::Empty(what));
            }
        }
        for (at, key) in self.data_keys.iter().enumerate() {
            if key.version == 0 || self.data_keys[..at].contains(key) {
                faults.push(Fault::OddDataKey(key.clone()));
            }
        }
    }

    fn check_steps(&self, faults: &mut Vec<Fault>) {
        let [
            cut,
            pods,
            export,
            disabled,
            proved,
            volumes,
            scheduled,
            destroyed,
        ] = self.steps.list();
        let recorded = ("record", Some(self.recorded_at));
        // The app stops before the export or after it, depending on who makes it, so these two have no order.
        let mut line = vec![cut, pods, disabled, proved, volumes, scheduled];
        match self.stage {
            Stage::Destroyed => line.push(destroyed),
            Stage::Shredded if destroyed.1.is_some() => faults.push(Fault::DestroyedAlready),
            Stage::Shredded => {}
        }
        for (name, at) in &line {
            if at.is_none() {
                faults.push(Fault::Missing(name));
            }
        }
        let next_in_line = line.iter().skip(1).chain([&recorded]);
        let pairs = line.iter().zip(next_in_line).map(|(a, b)| (*a, *b));
        let due = ("the date of the destruction", Some(self.destruction_due));
        for (earlier, later) in pairs.chain([(cut, export), (export, disabled), (scheduled, due)]) {
            faults.extend(out_of_order(earlier, later));
        }
    }

    fn check_export(&self, faults: &mut Vec<Fault>) {
        if self.export.is_some() != self.steps.exported.is_some() {
            faults.push(Fault::HalfExport);
        }
        if let Some(export) = &self.export {
            let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if export.sha256.len() != 64 || !export.sha256.bytes().all(digit) {
                faults.push(Fault::ExportDigest);
            }
            if export.sealed_with.trim().is_empty() {
                faults.push(Fault::Empty("the name of the export's key"));
            }
        }
    }

    fn check_proofs(&self, faults: &mut Vec<Fault>) {
        let disabled = ("keys disabled", self.steps.keys_disabled);
        for proof in &self.proofs {
            if proof.outcome != Outcome::Refused {
                faults.push(Fault::NotRefused {
                    tried: proof.tried,
                    at: proof.at,
                });
            }
            faults.extend(out_of_order(disabled, ("a proof", Some(proof.at))));
            faults.extend(out_of_order(
                ("a proof", Some(proof.at)),
                ("record", Some(self.recorded_at)),
            ));
            if let Some(key) = &proof.data_key
                && !self.data_keys.contains(key)
            {
                faults.push(Fault::UnknownDataKey(key.clone()));
            }
        }
        for key in &self.data_keys {
            let refused = || {
                self.proofs.iter().filter(|proof| {
                    matches!(proof.tried, Attempt::Unwrap | Attempt::SavedDataKey)
                        && proof.data_key.as_ref() == Some(key)
                        && proof.outcome == Outcome::Refused
                })
            };
            let (proved, scheduled) = (self.steps.proved, self.steps.deletion_scheduled);
            if !refused().any(|proof| proved.is_none_or(|proved| proof.at <= proved)) {
                faults.push(Fault::Unproven(key.clone()));
            }
            if !refused().any(|proof| scheduled.is_none_or(|scheduled| proof.at >= scheduled)) {
                faults.push(Fault::UnprovenAtTheEnd(key.clone()));
            }
        }
    }
}

type Moment = (&'static str, Option<Timestamp>);

fn out_of_order((earlier, first): Moment, (later, second): Moment) -> Option<Fault> {
    let (earlier_at, later_at) = (first?, second?);
    (later_at < earlier_at).then_some(Fault::Order {
        earlier,
        earlier_at,
        later,
        later_at,
    })
}
