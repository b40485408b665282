//! What to do next, from a tenant's status alone. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::look;
use crate::api::{Condition, ConditionType, Phase, Tenant, TenantState};

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
        Phase::Offboarded => vec![
            format!("granary reinstate {name}   # brings it back while its grace period lasts"),
            format!("granary offboard --now {name}   # destroys its key and data at once"),
        ],
        Phase::Shredded => vec![
            format!("granary evidence show {name}   # the signed record of its end"),
            format!("granary offboard {name}   # removes what is left: the resource"),
        ],
        Phase::Offboarding | Phase::Shredding => vec![format!("granary status {name} --watch")],
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
    if let Some(advice) = by_reason(tenant, condition, namespace) {
        return advice;
    }
    match condition.type_ {
        ConditionType::NamespaceReady | ConditionType::NetworkIsolated => vec![
            format!("kubectl describe tenant {name}"),
            "granary doctor   # may the operator write what a silo needs?".to_owned(),
        ],
        ConditionType::CertificatesReady => vec![format!("kubectl describe tenant {name}")],
        ConditionType::KeyReady => vec![
            format!("kubectl describe tenant {name}"),
            "granary doctor   # do key server and registry run?".to_owned(),
        ],
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

/// What to do where the reason says more than the condition: commands that fit every cause would show nothing.
fn by_reason(tenant: &Tenant, condition: &Condition, namespace: &str) -> Option<Vec<String>> {
    let name = tenant.name_any();
    let kubectl = format!("kubectl --namespace {namespace}");
    match (condition.type_, condition.reason.as_str()) {
        (ConditionType::NamespaceReady, "NameTaken") => Some(vec![
            format!(
                "kubectl describe namespace {namespace}   # whose is it? Granary did not make it"
            ),
            format!(
                "kubectl delete namespace {namespace}   # with all that is in it; then the silo is built"
            ),
        ]),
        (ConditionType::DatabaseReady, "VolumePending") => Some(vec![
            format!("{kubectl} describe persistentvolumeclaim data-database-0"),
            "granary doctor   # is there a storage class that makes volumes?".to_owned(),
        ]),
        (ConditionType::DatabaseReady, "VolumeFull") => Some(vec![
            format!(
                "kubectl edit tenant {name}   # spec.plan: one with more storage than {}; or free space in the database",
                tenant.spec.plan
            ),
            "kubectl get plans   # shows the storage of each".to_owned(),
        ]),
        (type_, reason) if is_of_image(reason) => {
            let component = component(type_)?;
            let describe =
                format!("{kubectl} describe pods --selector app.kubernetes.io/name={component}");
            let own = tenant.spec.app.as_ref().and_then(|app| app.image.as_ref());
            let correct = match (type_, own) {
                (ConditionType::DatabaseReady, _) => {
                    "helm upgrade …   # the chart's values name the database's image".to_owned()
                }
                (_, Some(_)) => format!("kubectl edit tenant {name}   # correct spec.app.image"),
                (_, None) => format!(
                    "kubectl edit plan {}   # correct spec.app.image",
                    tenant.spec.plan
                ),
            };
            Some(vec![describe, correct])
        }
        (type_, reason) if has_not_run(reason) => Some(vec![format!(
            "{kubectl} describe pods --selector app.kubernetes.io/name={}",
            component(type_)?
        )]),
        _ => None,
    }
}

/// The pods that a condition speaks of.
const fn component(type_: ConditionType) -> Option<&'static str> {
    match type_ {
        ConditionType::DatabaseReady => Some("database"),
        ConditionType::MigrationReady => Some("migrate"),
        ConditionType::AppReady => Some("app"),
        _ => None,
    }
}

/// Whether the kubelet could not get the image.
fn is_of_image(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed"
    )
}

/// Whether no container was started for another reason, so that there are no logs.
fn has_not_run(reason: &str) -> bool {
    matches!(
        reason,
        "Unschedulable"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixtures::{condition, now, tenant};
    use super::*;
    use crate::api::ConditionStatus;
    use crate::api::tenant::TenantApp;

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
        let advice = next(&broken(type_, "Broken"), now());
        assert!(
            advice.iter().any(|line| line.contains(command)),
            "{advice:?}"
        );
    }

    fn broken(type_: ConditionType, reason: &str) -> Tenant {
        let mut tenant = tenant("acme").ready().phase(Phase::Degraded).build();
        let status = tenant.status.as_mut().expect("a status");
        status
            .conditions
            .retain(|condition| condition.type_ != type_);
        let condition = condition(type_, ConditionStatus::False, reason, "it broke");
        status.conditions.push(condition);
        tenant
    }

    #[rstest]
    #[case(
        ConditionType::NamespaceReady,
        "NameTaken",
        &["describe namespace silo-acme-4f1c09ab7d", "delete namespace silo-acme-4f1c09ab7d"]
    )]
    #[case(
        ConditionType::DatabaseReady,
        "VolumePending",
        &["describe persistentvolumeclaim data-database-0", "granary doctor"]
    )]
    #[case(
        ConditionType::DatabaseReady,
        "VolumeFull",
        &["spec.plan: one with more storage than standard", "kubectl get plans"]
    )]
    #[case(
        ConditionType::DatabaseReady,
        "ImagePullBackOff",
        &["describe pods --selector app.kubernetes.io/name=database", "helm upgrade"]
    )]
    #[case(
        ConditionType::MigrationReady,
        "ErrImagePull",
        &["describe pods --selector app.kubernetes.io/name=migrate", "edit plan standard   # correct spec.app.image"]
    )]
    #[case(
        ConditionType::AppReady,
        "Unschedulable",
        &["describe pods --selector app.kubernetes.io/name=app"]
    )]
    fn the_reason_is_more_precise_than_the_condition(
        #[case] type_: ConditionType,
        #[case] reason: &str,
        #[case] lines: &[&str],
    ) {
        let advice = next(&broken(type_, reason), now());
        assert_eq!(advice.len(), lines.len(), "{advice:?}");
        for (line, part) in advice.iter().zip(lines) {
            assert!(line.contains(part), "{advice:?}");
        }
    }

    #[test]
    fn a_tenants_own_image_is_corrected_in_the_tenant() {
        let mut tenant = broken(ConditionType::AppReady, "ErrImagePull");
        tenant.spec.app = Some(TenantApp {
            image: Some("registry.example/cashbook@sha256:00".to_owned()),
            replicas: None,
        });
        let advice = next(&tenant, now());
        assert!(
            advice[1].starts_with("kubectl edit tenant acme"),
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
            Phase::Offboarding,
            Phase::Offboarded,
            Phase::Shredding,
            Phase::Shredded,
            Phase::Deleting,
            Phase::Rejected,
        ] {
            let tenant = tenant("acme").ready().phase(phase).build();
            assert!(!next(&tenant, now()).is_empty(), "{phase:?}");
        }
    }
}
