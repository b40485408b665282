//! What to do next, from a tenant's status alone. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::look;
use crate::api::{ConditionType, Phase, Tenant, TenantState};

/// How long the operator may take to notice a tenant before it looks absent.
const NOTICED_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// Commands to copy, most useful first, each with its reason behind `#`.
#[must_use]
pub fn next(tenant: &Tenant, now: Timestamp) -> Vec<String> {
    let name = tenant.name_any();
    match look::phase_of(tenant) {
        Phase::Ready if look::is_current(tenant) => tenant
            .status
            .iter()
            .filter_map(|status| status.url.as_ref())
            .map(|url| format!("open {url}"))
            .collect(),
        Phase::Suspended if tenant.spec.state == TenantState::Suspended => {
            vec![format!("granary resume {name}   # the volume is kept")]
        }
        Phase::Offboarded => vec![format!(
            "granary offboard {name}   # finishes the removal; nobody has access any more"
        )],
        Phase::Rejected => vec![format!(
            "kubectl edit tenant {name}   # change what the Ready condition names"
        )],
        Phase::Deleting => match look::blocking(tenant) {
            Some(condition) => vec![format!(
                "kubectl describe tenant {name}   # {}: {}",
                condition.reason, condition.message
            )],
            None => vec![format!(
                "kubectl describe tenant {name}   # its silo is being removed"
            )],
        },
        Phase::Pending if unnoticed(tenant, now) => vec![
            "granary doctor   # the operator has not looked at this tenant yet: is it running?"
                .to_owned(),
        ],
        _ => blocked(tenant),
    }
}

/// Whether the operator has had time to notice the tenant and did not.
fn unnoticed(tenant: &Tenant, now: Timestamp) -> bool {
    !look::is_current(tenant)
        && look::created(tenant).is_some_and(|created| now.duration_since(created) > NOTICED_WITHIN)
}

/// Where to look for the cause of the first condition that does not hold.
fn blocked(tenant: &Tenant) -> Vec<String> {
    let name = tenant.name_any();
    let wait = || vec![format!("granary status {name} --watch")];
    let Some(condition) = look::blocking(tenant) else {
        return wait();
    };
    let status = tenant.status.as_ref();
    let Some(namespace) = status.and_then(|status| status.namespace.as_ref()) else {
        return wait();
    };
    match condition.type_ {
        ConditionType::NamespaceReady | ConditionType::NetworkIsolated => vec![
            format!("kubectl describe tenant {name}"),
            "granary doctor   # may the operator write what a silo needs?".to_owned(),
        ],
        ConditionType::CertificatesReady => vec![format!("kubectl describe tenant {name}")],
        ConditionType::DatabaseReady => vec![
            format!("kubectl --namespace {namespace} describe pod database-0"),
            format!("kubectl --namespace {namespace} logs database-0"),
        ],
        ConditionType::MigrationReady => vec![format!(
            "kubectl --namespace {namespace} logs --selector app.kubernetes.io/name=migrate"
        )],
        ConditionType::AppReady => vec![
            format!(
                "kubectl --namespace {namespace} describe pods --selector app.kubernetes.io/name=app"
            ),
            format!("kubectl --namespace {namespace} logs deployment/app"),
        ],
        ConditionType::RouteReady => vec![
            "granary doctor   # is the gateway programmed?".to_owned(),
            format!("kubectl --namespace {namespace} describe httproute app"),
        ],
        ConditionType::Ready => wait(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixtures::{condition, now, tenant};
    use super::*;
    use crate::api::ConditionStatus;

    #[test]
    fn a_ready_tenant_is_opened() {
        assert_eq!(
            next(&tenant("acme").ready().build(), now()),
            ["open https://acme.granary.localhost:8443"]
        );
    }

    #[test]
    fn an_unnoticed_tenant_leads_to_the_operator() {
        let advice = next(&tenant("acme").build(), now());
        assert!(advice[0].starts_with("granary doctor"), "{advice:?}");
    }

    #[rstest]
    #[case(ConditionType::DatabaseReady, "describe pod database-0")]
    #[case(
        ConditionType::MigrationReady,
        "logs --selector app.kubernetes.io/name=migrate"
    )]
    #[case(ConditionType::AppReady, "logs deployment/app")]
    #[case(ConditionType::RouteReady, "granary doctor")]
    fn the_blocking_condition_decides_where_to_look(
        #[case] type_: ConditionType,
        #[case] command: &str,
    ) {
        let mut tenant = tenant("acme").ready().phase(Phase::Degraded).build();
        let status = tenant.status.as_mut().expect("a status");
        status
            .conditions
            .retain(|condition| condition.type_ != type_);
        status.conditions.push(condition(
            type_,
            ConditionStatus::False,
            "Broken",
            "it broke",
        ));
        let advice = next(&tenant, now());
        assert!(
            advice.iter().any(|line| line.contains(command)),
            "{advice:?}"
        );
    }

    #[test]
    fn every_phase_leads_somewhere() {
        for phase in [
            Phase::Pending,
            Phase::Provisioning,
            Phase::Ready,
            Phase::Degraded,
            Phase::Suspended,
            Phase::Offboarded,
            Phase::Deleting,
            Phase::Rejected,
        ] {
            let tenant = tenant("acme").ready().phase(phase).build();
            assert!(!next(&tenant, now()).is_empty(), "{phase:?}");
        }
    }
}
