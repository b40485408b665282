//! What a tenant's status says of its keys and of a rotation. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    act::Done,
    due::whole_second,
    job::Job,
    look::{Looked, Rotation, Trouble},
    next::{self, Next, Step},
};
use crate::{
    api::{
        keys::{DataKeyPurpose, DataKeyState, DataKeyStatus, RotationStatus},
        tenant::KeyStatus,
    },
    control::tenant_keys::KeysError,
    keys::Purpose,
    keyserver::wire::{DataKeyInfo, TenantKeys},
    registry::data_keys::State,
};

/// Reason of `KeyReady` while keys are rotated.
pub const ROTATING: &str = "Rotating";

/// The keys of a tenant as its status has them. Why older versions are kept is taken over from `before`.
pub fn key_status(keys: &TenantKeys, before: Option<&KeyStatus>) -> Result<KeyStatus, KeysError> {
    let key = &keys.key;
    let id = key.id.as_ref().ok_or(KeysError::Nameless)?;
    let mut retired = BTreeSet::new();
    let data_keys = keys
        .data_keys
        .iter()
        // Newest first: one retired version a purpose is enough to show that it is.
        .filter(|key| key.state != State::Retired || retired.insert(key.purpose))
        .map(|key| data_key_status(key, before))
        .collect();
    Ok(KeyStatus {
        id: id.to_string(),
        version: i64::from(key.version),
        rotated_at: Time(whole_second(key.rotated_at.unwrap_or(key.created_at))),
        data_keys,
        rotation: None,
    })
}

fn data_key_status(key: &DataKeyInfo, before: Option<&KeyStatus>) -> DataKeyStatus {
    let (purpose, version) = (purpose(key.purpose), i64::from(key.version));
    let state = match key.state {
        State::Active => DataKeyState::Active,
        State::Retiring => DataKeyState::Retiring,
        State::Retired => DataKeyState::Retired,
    };
    let kept = before
        .into_iter()
        .flat_map(|key| &key.data_keys)
        .find(|other| (other.purpose, other.version) == (purpose, version))
        .and_then(|other| other.kept.clone())
        .filter(|_| state == DataKeyState::Retiring);
    DataKeyStatus {
        purpose,
        version,
        state,
        since: Time(whole_second(key.retired_at.unwrap_or(key.created_at))),
        kept,
    }
}

const fn purpose(purpose: Purpose) -> DataKeyPurpose {
    match purpose {
        Purpose::App => DataKeyPurpose::App,
        Purpose::Backup => DataKeyPurpose::Backup,
    }
}

/// Says of every older version of the app's key why it is kept.
fn keep(key: &mut KeyStatus, why: Option<&str>) {
    for data_key in &mut key.data_keys {
        let is_old =
            data_key.state == DataKeyState::Retiring && data_key.purpose == DataKeyPurpose::App;
        data_key.kept = why.filter(|_| is_old).map(str::to_owned);
    }
}

/// The keys after a step, where it changed something about them.
#[must_use]
pub fn key_after(done: &Done, before: Option<KeyStatus>) -> Option<KeyStatus> {
    let mut key = match &done.keys {
        Some(keys) => key_status(keys, before.as_ref()).ok()?,
        None => before?,
    };
    if done.replaced.is_some() {
        keep(&mut key, done.kept.as_deref());
    }
    Some(key)
}

/// How far a rotation is, for the status.
#[must_use]
pub fn rotation_status(job: &Job, rotation: &Rotation) -> RotationStatus {
    let scope = &job.scope;
    let first = scope.from.iter().next();
    let from = first
        .map(|(_, from)| *from)
        .or(scope.key_from)
        .unwrap_or_default();
    RotationStatus {
        purpose: first.map(|(of, _)| purpose(*of)),
        from: i64::from(from),
        to: i64::from(from) + 1,
        rows_left: next::rows_left(rotation),
        started_at: Time(whole_second(job.started_at)),
    }
}

/// What is being done or waited for, in words.
pub fn progress(looked: &Looked) -> Result<Option<String>, Trouble> {
    let rotation = match looked {
        Looked::Trouble(trouble) => return Err(trouble.clone()),
        Looked::Far(rotation) => rotation,
    };
    Ok(match next::next(rotation) {
        Next::Nothing => None,
        Next::Wait(what) => Some(what),
        Next::Do(step) => Some(
            match step {
                Step::Begin(_) => "keys that are too old are being replaced",
                Step::Rotate(_) => "new versions are being made",
                Step::Retire(_) => "older versions are being retired",
                Step::Finish { .. } => "data keys are being wrapped anew",
            }
            .to_owned(),
        ),
    })
}

/// Why older versions are still there, if some are.
#[must_use]
pub fn kept(key: &KeyStatus) -> Option<String> {
    let old: Vec<&DataKeyStatus> = key
        .data_keys
        .iter()
        .filter(|key| key.kept.is_some())
        .collect();
    let why = old.first()?.kept.as_deref()?;
    let versions: Vec<String> = old.iter().map(|key| key.version.to_string()).collect();
    Some(format!(
        "version {} of the app's data key can still be read with: {why}",
        versions.join(", ")
    ))
}
