//! How a tenant's status looks to people: words, tones and conditions. Pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::table::Tone;
use crate::api::{
    Condition, ConditionStatus, ConditionType, Environment, Phase, Tenant, TenantState,
};

/// The condition's name, as in the resource.
#[must_use]
pub const fn condition_name(condition: ConditionType) -> &'static str {
    match condition {
        ConditionType::NamespaceReady => "NamespaceReady",
        ConditionType::NetworkIsolated => "NetworkIsolated",
        ConditionType::CertificatesReady => "CertificatesReady",
        ConditionType::KeyReady => "KeyReady",
        ConditionType::DatabaseReady => "DatabaseReady",
        ConditionType::MigrationReady => "MigrationReady",
        ConditionType::AppReady => "AppReady",
        ConditionType::RouteReady => "RouteReady",
        ConditionType::Ready => "Ready",
    }
}

/// The status of a condition, as in the resource, and its tone.
#[must_use]
pub const fn condition_status(status: ConditionStatus) -> (&'static str, Tone) {
    match status {
        ConditionStatus::True => ("True", Tone::Good),
        ConditionStatus::False => ("False", Tone::Bad),
        ConditionStatus::Unknown => ("Unknown", Tone::Warn),
    }
}

/// The phase, as in the resource, and its tone.
#[must_use]
pub const fn phase(phase: Phase) -> (&'static str, Tone) {
    match phase {
        Phase::Pending => ("Pending", Tone::Warn),
        Phase::Provisioning => ("Provisioning", Tone::Warn),
        Phase::Ready => ("Ready", Tone::Good),
        Phase::Degraded => ("Degraded", Tone::Bad),
        Phase::Suspended => ("Suspended", Tone::Dim),
        Phase::Offboarding => ("Offboarding", Tone::Warn),
        Phase::Offboarded => ("Offboarded", Tone::Dim),
        Phase::Shredding => ("Shredding", Tone::Warn),
        Phase::Shredded => ("Shredded", Tone::Dim),
        Phase::Deleting => ("Deleting", Tone::Warn),
        Phase::Rejected => ("Rejected", Tone::Bad),
    }
}

/// The phase of a tenant; one that is being deleted is `Deleting` before the operator says so.
#[must_use]
pub fn phase_of(tenant: &Tenant) -> Phase {
    if tenant.metadata.deletion_timestamp.is_some() {
        Phase::Deleting
    } else {
        tenant
            .status
            .as_ref()
            .map_or(Phase::Pending, |status| status.phase)
    }
}

/// The environment, as in the resource.
#[must_use]
pub const fn environment(environment: Environment) -> &'static str {
    match environment {
        Environment::Production => "production",
        Environment::Staging => "staging",
        Environment::Development => "development",
    }
}

/// The wanted state, as in the resource.
#[must_use]
pub const fn state(state: TenantState) -> &'static str {
    match state {
        TenantState::Active => "Active",
        TenantState::Suspended => "Suspended",
        TenantState::Offboarded => "Offboarded",
    }
}

/// The conditions, in the order in which a silo comes up.
#[must_use]
pub fn conditions(tenant: &Tenant) -> Vec<&Condition> {
    let mut conditions: Vec<&Condition> = tenant
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .collect();
    conditions.sort_by_key(|condition| condition.type_);
    conditions
}

/// One condition of the tenant, if the operator has set it.
#[must_use]
pub fn condition(tenant: &Tenant, type_: ConditionType) -> Option<&Condition> {
    tenant
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// The first condition that does not hold, in the order in which a silo comes up: the others follow from it.
#[must_use]
pub fn blocking(tenant: &Tenant) -> Option<&Condition> {
    conditions(tenant)
        .into_iter()
        .find(|condition| condition.status != ConditionStatus::True)
}

/// Whether the status speaks of the spec as it is now.
#[must_use]
pub fn is_current(tenant: &Tenant) -> bool {
    let observed = tenant
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed.is_some_and(|observed| observed >= tenant.metadata.generation.unwrap_or(0))
}

/// When the tenant was created.
#[must_use]
pub fn created(tenant: &Tenant) -> Option<Timestamp> {
    tenant.creation_timestamp().map(|time| time.0)
}

/// A size as people read it.
#[must_use]
pub fn bytes(size: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = size.max(0).saturating_mul(10);
    while tenths >= 10_240 && unit < UNITS.len() - 1 {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{} B", tenths / 10)
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixtures::{CONDITIONS, condition, tenant};
    use super::*;

    #[test]
    fn the_names_are_those_of_the_resource() {
        for type_ in CONDITIONS {
            let json = serde_json::to_value(type_).expect("serializable");
            assert_eq!(json, condition_name(type_));
        }
    }

    #[test]
    fn the_first_broken_condition_blocks() {
        let tenant = tenant("acme")
            .with(condition(
                ConditionType::Ready,
                ConditionStatus::False,
                "NotReady",
                "…",
            ))
            .with(condition(
                ConditionType::NamespaceReady,
                ConditionStatus::True,
                "Applied",
                "",
            ))
            .with(condition(
                ConditionType::DatabaseReady,
                ConditionStatus::False,
                "Starting",
                "…",
            ))
            .build();
        assert_eq!(
            blocking(&tenant).map(|condition| condition.type_),
            Some(ConditionType::DatabaseReady)
        );
    }

    #[rstest]
    #[case(0, "0 B")]
    #[case(1_023, "1023 B")]
    #[case(7_864_320, "7.5 MiB")]
    #[case(1_099_511_627_776, "1.0 TiB")]
    fn sizes_are_short(#[case] size: i64, #[case] text: &str) {
        assert_eq!(bytes(size), text);
    }
}
