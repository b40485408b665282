//! What the audit has to say of a life: every act that was begun is finished, and nothing was done unannounced.

use std::collections::BTreeMap;

use granary::audit::Record;
use granary::effects::{Commit, Effect};
use serde_json::Value;
use uuid::Uuid;

/// The action that the audit has for an operation of the KMS which changes something.
const ANNOUNCED: [(&str, &str); 8] = [
    ("create-key", "key-created"),
    ("generate", "data-key-created"),
    ("rewrap", "data-key-rewrapped"),
    ("rotate-key", "key-rotated"),
    ("disable", "key-disabled"),
    ("enable", "key-enabled"),
    ("schedule-deletion", "key-deletion-scheduled"),
    ("unwrap", "key-refusal-proven"),
];

/// What was begun and has no end. What is `running` has none yet.
pub fn unfinished(rows: &[Record], running: &[Uuid]) -> Vec<String> {
    rows.iter()
        .enumerate()
        .filter(|(_, row)| row.phase == "started" && !running.contains(&row.id))
        .filter(|(place, row)| {
            let is_its_end = |later: &&Record| later.id == row.id && later.phase == "finished";
            let is_a_repetition = |later: &&Record| {
                (&later.action, subject(later)) == (&row.action, subject(row))
                    && later.phase == "finished"
                    && later.outcome.as_deref() == Some("done")
            };
            let mut later = rows[*place..].iter();
            !later.any(|later| is_its_end(&later) || is_a_repetition(&later))
        })
        .map(|(_, row)| format!("{} {} has no end", row.action, row.detail))
        .collect()
}

/// The KMS's operations that happened and that no row says are done.
pub fn unsaid(happened: &[Effect], rows: &[Record]) -> Vec<String> {
    let is_said = |action: &str| {
        rows.iter()
            .any(|row| row.action == action && row.outcome.as_deref() == Some("done"))
    };
    ANNOUNCED
        .into_iter()
        .filter(|(operation, action)| {
            *operation != "unwrap" && happened.contains(&Effect::Kms(operation)) && !is_said(action)
        })
        .map(|(operation, action)| format!("{operation} happened, and no {action} is done"))
        .collect()
}

/// Which data key a row is about, if it is about one.
fn subject(row: &Record) -> [Option<&Value>; 2] {
    ["purpose", "version"].map(|field| row.detail.get(field))
}

/// The KMS's operations that happened before the row that announces them, by what happened, in order.
pub fn unannounced(happened: &[Effect]) -> Vec<String> {
    let mut announced: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for effect in happened {
        match effect {
            Effect::KeyServer(Commit::Started(action)) => {
                *announced.entry(action).or_default() += 1;
            }
            Effect::Kms(operation) => {
                let Some((_, action)) = ANNOUNCED.iter().find(|(name, _)| name == operation) else {
                    continue;
                };
                match announced.get_mut(action) {
                    // One row announces that every data key is tried.
                    Some(1..) if *operation == "unwrap" => {}
                    Some(left @ 1..) => *left -= 1,
                    _ => found.push(format!("{effect} was not announced as {action}")),
                }
            }
            _ => {}
        }
    }
    found
}
