//! A deletion record that was verified, as people and programs read it.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::super::look;
use super::super::printer::View;
use super::super::table::{Grid, Tone, plain, toned};
use crate::evidence::{Outcome, Record, Stage, Verified};

/// A record that holds, and who vouches for it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    api_version: &'static str,
    kind: &'static str,
    /// Always true: what does not hold has no report.
    verified: bool,
    /// The key that signed it.
    key_id: String,
    record: Record,
}

impl Report {
    /// The report on a verified record.
    #[must_use]
    pub fn of(verified: Verified) -> Self {
        Self {
            api_version: super::super::REPORT_VERSION,
            kind: "EvidenceReport",
            verified: true,
            key_id: verified.key_id,
            record: verified.statement.record().clone(),
        }
    }

    fn head(&self, colour: bool) -> String {
        let record = &self.record;
        let data_keys: Vec<String> = record.data_keys.iter().map(ToString::to_string).collect();
        let removed = &record.removed;
        let export = match &record.export {
            Some(export) => format!(
                "{}, sealed with {}, SHA-256 {}",
                size(export.bytes),
                export.sealed_with,
                export.sha256
            ),
            None => "none was asked for".to_owned(),
        };
        let keys = record
            .keys
            .iter()
            .map(|key| ("Key", format!("{} ({})", key.id, key.provider)));
        let rows = [
            ("Tenant", record.tenant.name.clone()),
            ("UID", record.tenant.uid.to_string()),
            ("Namespace", record.tenant.namespace.clone()),
        ]
        .into_iter()
        .chain(keys)
        .chain([
            ("Data keys", data_keys.join(", ")),
            (
                "Deleted",
                format!(
                    "{} objects, among them {} volumes of {}",
                    removed.objects,
                    removed.volumes,
                    size(removed.bytes)
                ),
            ),
            ("Export", export),
            ("Stage", stage(record)),
            ("Recorded", seconds(record.recorded_at)),
            ("Signed by", self.key_id.clone()),
        ]);
        let mut text = format!(
            "{}\n\n",
            toned(
                "Verified: the signature holds, and the record is complete and in order.",
                Tone::Good,
                colour
            )
        );
        for (heading, value) in rows {
            let _ = writeln!(text, "{heading:<10} {}", plain(&value));
        }
        text
    }

    fn steps(&self, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["STEP", "TIME"]).indented();
        for (step, at) in self.record.steps.list() {
            if let Some(at) = at {
                grid.row([(step.to_owned(), Tone::Plain), (seconds(at), Tone::Plain)]);
            }
        }
        grid.render()
    }

    fn proofs(&self, colour: bool) -> String {
        let mut grid =
            Grid::new(colour, &["TRIED", "DATA KEY", "OUTCOME", "TIME", "ANSWER"]).indented();
        for proof in &self.record.proofs {
            let (outcome, tone) = match proof.outcome {
                Outcome::Refused => ("refused", Tone::Good),
                Outcome::Allowed => ("allowed", Tone::Bad),
            };
            let key = proof.data_key.as_ref().map(ToString::to_string);
            grid.row([
                (proof.tried.as_str().to_owned(), Tone::Plain),
                (key.unwrap_or_default(), Tone::Plain),
                (outcome.to_owned(), tone),
                (seconds(proof.at), Tone::Plain),
                (proof.answer.clone(), Tone::Plain),
            ]);
        }
        grid.render()
    }
}

impl View for Report {
    fn table(&self, _wide: bool, colour: bool) -> String {
        format!(
            "{}\n{}\n\n{}",
            self.head(colour),
            self.steps(colour),
            self.proofs(colour)
        )
    }

    fn names(&self) -> Vec<String> {
        vec![format!("tenant/{}", plain(&self.record.tenant.name))]
    }
}

fn stage(record: &Record) -> String {
    match record.stage {
        Stage::Shredded => format!(
            "shredded: the keys refuse, and the KMS destroys them {}",
            seconds(record.destruction_due)
        ),
        Stage::Destroyed => "destroyed: the KMS has no key material any more".to_owned(),
    }
}

/// A time in UTC to the second; JSON has it exactly.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn size(bytes: u64) -> String {
    look::bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
}
