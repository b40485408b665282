//! Which keys are too old. Pure.

use jiff::{Timestamp, Unit};

use crate::api::{Plan, Tenant, keys::DataKeyState, tenant::KeyStatus};

/// That keys are too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Those from before this moment are replaced.
    pub not_before: Timestamp,
    /// Whether it is because of the plan, and not because somebody asked for it.
    pub by_plan: bool,
}

/// Which keys are to be replaced, if any of these is too old now. By the plan all are, so that keys made a moment apart
/// are not rotated one after the other.
#[must_use]
pub fn due(key: &KeyStatus, tenant: &Tenant, plan: Option<&Plan>, now: Timestamp) -> Option<Due> {
    let asked = tenant
        .spec
        .keys
        .as_ref()
        .and_then(|keys| Some(keys.not_before.as_ref()?.0))
        .filter(|at| *at <= now && is_older(key, *at));
    let age = plan
        .and_then(|plan| plan.spec.rotate_after())
        .and_then(|age| now.checked_sub(age).ok());
    match (age.filter(|at| is_older(key, *at)), asked) {
        (Some(_), _) => Some(Due {
            not_before: whole_second(now),
            by_plan: true,
        }),
        (None, Some(not_before)) => Some(Due {
            not_before,
            by_plan: false,
        }),
        (None, None) => None,
    }
}

/// Whether the tenant's key, or a data key that writes, was made before `at`.
fn is_older(key: &KeyStatus, at: Timestamp) -> bool {
    let mut writing = key
        .data_keys
        .iter()
        .filter(|key| key.state == DataKeyState::Active);
    key.rotated_at.0 < at || writing.any(|key| key.since.0 < at)
}

/// The second that a moment is in, which is how a status tells it.
#[must_use]
pub fn whole_second(at: Timestamp) -> Timestamp {
    let second = jiff::TimestampRound::new()
        .smallest(Unit::Second)
        .mode(jiff::RoundMode::Floor);
    at.round(second).unwrap_or(at)
}
