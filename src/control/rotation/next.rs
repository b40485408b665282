//! What a rotation needs next. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::{
    due::Due,
    job::{Job, Scope},
    look::{Answer, AppKeys, Rotation},
};
use crate::{
    keys::Purpose,
    keyserver::wire::{RetireRequest, RotateRequest},
    registry::data_keys::State,
};

/// How long nothing may have needed an older version before it is retired: what was sealed with it a moment before the
/// new one came is in the database by then. An app has 5 s from sealing a text to the end of its transaction.
const SETTLED: Duration = Duration::from_secs(8);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fix what is replaced, and announce it.
    Begin(Scope),
    /// Have new versions made, which write from now on.
    Rotate(Vec<RotateRequest>),
    /// Give up versions that nothing needs any more.
    Retire(Vec<RetireRequest>),
    /// Wrap what is in use under a new version of the tenant's key, if that is replaced too, and close the act.
    Finish {
        /// What is closed.
        job: Job,
        /// Why older versions can still be read with, if some can.
        kept: Option<String>,
    },
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This step.
    Do(Step),
    /// Nothing but waiting for this.
    Wait(String),
    /// No key is too old, and no rotation is under way.
    Nothing,
}

/// Which older versions of one purpose can go.
#[derive(Debug, PartialEq, Eq)]
enum Old {
    /// It is not known yet, because of this.
    Wait(String),
    /// These; and why the others cannot.
    Free(Vec<u32>, Option<String>),
}

/// What comes next.
#[must_use]
pub fn next(rotation: &Rotation) -> Next {
    let Some(job) = &rotation.job else {
        return rotation
            .due
            .map_or(Next::Nothing, |due| begin(rotation, due));
    };
    let rotate: Vec<RotateRequest> = job
        .scope
        .from
        .iter()
        .filter(|(purpose, from)| newest(rotation, **purpose) == Some(**from))
        .map(|(purpose, from)| RotateRequest {
            purpose: *purpose,
            from: *from,
        })
        .collect();
    if !rotate.is_empty() {
        return Next::Do(Step::Rotate(rotate));
    }
    let mut retire = Vec::new();
    let mut kept = None;
    for (purpose, old) in [
        (Purpose::App, app(rotation)),
        (Purpose::Backup, backup(rotation)),
    ] {
        match old {
            Old::Wait(what) => return Next::Wait(what),
            Old::Free(versions, why) => {
                retire.extend(
                    versions
                        .into_iter()
                        .map(|version| RetireRequest { purpose, version }),
                );
                kept = kept.or(why);
            }
        }
    }
    if retire.is_empty() {
        let job = job.clone();
        Next::Do(Step::Finish { job, kept })
    } else {
        Next::Do(Step::Retire(retire))
    }
}

fn begin(rotation: &Rotation, due: Due) -> Next {
    let scope = Scope::of(&rotation.keys, due);
    if scope.from.is_empty() && scope.key_from.is_none() {
        Next::Nothing
    } else {
        Next::Do(Step::Begin(scope))
    }
}

/// Whether somebody has to be asked whether older versions are needed.
#[must_use]
pub fn needs_pods(rotation: &Rotation) -> bool {
    Purpose::ALL
        .into_iter()
        .any(|purpose| !retiring(rotation, purpose).is_empty())
}

/// Whether every pod of the app says that no row needs an older version, those aside that nobody can open.
#[must_use]
pub fn is_clean(rotation: &Rotation) -> bool {
    let Some(told) = told(rotation) else {
        return false;
    };
    let newest = newest(rotation, Purpose::App);
    !told.is_empty()
        && told.iter().all(|keys| {
            Some(keys.active) >= newest && (rows(rotation, &[keys]) == 0 || is_stuck(keys))
        })
}

/// Rows that have to be sealed anew before older versions can go; none if nobody has counted them.
#[must_use]
pub fn rows_left(rotation: &Rotation) -> Option<i64> {
    let newest = newest(rotation, Purpose::App);
    let counted: Vec<&AppKeys> = rotation
        .pods
        .iter()
        .filter_map(|says| match &says.answer {
            Answer::Uses(keys) if Some(keys.active) >= newest => Some(keys),
            _ => None,
        })
        .collect();
    (!counted.is_empty()).then(|| rows(rotation, &counted))
}

/// The version that writes.
#[must_use]
pub fn newest(rotation: &Rotation, purpose: Purpose) -> Option<u32> {
    versions(rotation, purpose, State::Active).into_iter().max()
}

fn retiring(rotation: &Rotation, purpose: Purpose) -> Vec<u32> {
    versions(rotation, purpose, State::Retiring)
}

fn versions(rotation: &Rotation, purpose: Purpose, state: State) -> Vec<u32> {
    let keys = rotation.keys.data_keys.iter();
    keys.filter(|key| key.purpose == purpose && key.state == state)
        .map(|key| key.version)
        .collect()
}

/// What all pods said, if all did.
fn told(rotation: &Rotation) -> Option<Vec<&AppKeys>> {
    let told = rotation.pods.iter().map(|says| match &says.answer {
        Answer::Uses(keys) => Some(keys),
        Answer::Silent(_) | Answer::Unknown => None,
    });
    told.collect()
}

/// The most rows that somebody counted under versions that are on their way out.
fn rows(rotation: &Rotation, counted: &[&AppKeys]) -> i64 {
    needed(&retiring(rotation, Purpose::App), counted)
        .values()
        .sum()
}

/// Versions that rows need, and how many rows.
fn needed(retiring: &[u32], counted: &[&AppKeys]) -> BTreeMap<u32, i64> {
    let mut needed = BTreeMap::new();
    for keys in counted {
        for (version, rows) in &keys.stale {
            if *rows > 0 && retiring.contains(version) {
                let most = needed.entry(*version).or_insert(*rows);
                *most = (*most).max(*rows);
            }
        }
    }
    needed
}

/// Whether all that is left cannot be opened: it stays as it is until somebody deletes it.
fn is_stuck(keys: &AppKeys) -> bool {
    let left = keys.stale.values().sum::<i64>() + keys.unsealed;
    left > 0 && keys.unreadable >= left
}

fn app(rotation: &Rotation) -> Old {
    let retiring = retiring(rotation, Purpose::App);
    if retiring.is_empty() {
        return Old::Free(Vec::new(), None);
    }
    if rotation.pods.is_empty() {
        return Old::Wait("it goes on when the app runs, which seals its rows anew".to_owned());
    }
    if rotation
        .pods
        .iter()
        .all(|says| says.answer == Answer::Unknown)
    {
        let why = "the app does not tell at /keyz when it needs them no more";
        return Old::Free(Vec::new(), Some(why.to_owned()));
    }
    for says in &rotation.pods {
        match &says.answer {
            Answer::Uses(_) => {}
            Answer::Silent(why) => {
                return Old::Wait(format!("pod {} cannot be asked: {why}", says.pod));
            }
            Answer::Unknown => {
                return Old::Wait(format!(
                    "pod {} does not tell at /keyz which keys it uses, and others do; it goes on when it is gone",
                    says.pod
                ));
            }
        }
    }
    by_rows(rotation, &retiring)
}

fn by_rows(rotation: &Rotation, retiring: &[u32]) -> Old {
    let told = told(rotation).unwrap_or_default();
    let newest = newest(rotation, Purpose::App);
    let current = told
        .iter()
        .filter(|keys| Some(keys.active) >= newest)
        .count();
    if current < told.len() {
        let version = newest.unwrap_or_default();
        return Old::Wait(format!(
            "{current} of {} pods write with version {version}",
            told.len()
        ));
    }
    let needed = needed(retiring, &told);
    let rows: i64 = needed.values().sum();
    if !is_clean(rotation) {
        return Old::Wait(format!("{rows} rows are left to seal anew"));
    }
    if rotation.clean_for < SETTLED {
        return Old::Wait(
            "no row needs an older version; what is being written comes to its end".to_owned(),
        );
    }
    let free = retiring
        .iter()
        .copied()
        .filter(|version| !needed.contains_key(version))
        .collect();
    let kept = (rows > 0).then(|| format!("{rows} rows under it cannot be opened"));
    Old::Free(free, kept)
}

fn backup(rotation: &Rotation) -> Old {
    let newest = newest(rotation, Purpose::Backup);
    if rotation
        .backup
        .is_some_and(|version| Some(version) < newest)
    {
        let version = newest.unwrap_or_default();
        return Old::Wait(format!(
            "the database's pod has not got version {version} of its key yet"
        ));
    }
    Old::Free(retiring(rotation, Purpose::Backup), None)
}
