//! Are the admission policies there, and do they deny?

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::super::cluster::Cluster;
use super::report::Check;

const NAME: &str = "admission";

/// The chart's policies, and what is not refused without each.
const POLICIES: [(&str, &str); 6] = [
    ("granary-tenant-names", "reserved names such as www or mail"),
    (
        "granary-tenant-domains",
        "custom domains under the base domain",
    ),
    ("granary-tenant-plan", "plans that do not exist"),
    (
        "granary-tenant-deletion",
        "the deletion of protected tenants",
    ),
    ("granary-plan-deletion", "the deletion of plans in use"),
    (
        "granary-operator-writes",
        "what a taken-over operator writes outside of silos",
    ),
];

/// Lists policies and bindings.
pub async fn check(cluster: &Cluster) -> Check {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client());
    let params = ListParams::default();
    let what = "cannot list the admission policies";
    let answers = futures::try_join!(
        cluster.ask(what, policies.list_metadata(&params)),
        cluster.ask(what, bindings.list(&params)),
    );
    let (policies, bindings) = match answers {
        Ok(answers) => answers,
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    let there: BTreeSet<String> = policies.items.iter().map(ResourceExt::name_any).collect();
    let denying: BTreeSet<String> = bindings.items.iter().filter_map(denies).collect();
    judge(&there, &denying)
}

/// The policy that the binding makes deny.
fn denies(binding: &ValidatingAdmissionPolicyBinding) -> Option<String> {
    let spec = binding.spec.as_ref()?;
    let denies = spec
        .validation_actions
        .iter()
        .flatten()
        .any(|action| action == "Deny");
    denies.then(|| spec.policy_name.clone()).flatten()
}

fn judge(there: &BTreeSet<String>, denying: &BTreeSet<String>) -> Check {
    let idle: Vec<(&str, &str)> = POLICIES
        .into_iter()
        .filter(|(policy, _)| !there.contains(*policy) || !denying.contains(*policy))
        .collect();
    if idle.is_empty() {
        return Check::ok(NAME, format!("{} policies, all denying", POLICIES.len()));
    }
    let names: Vec<&str> = idle.iter().map(|(policy, _)| *policy).collect();
    let open: Vec<&str> = idle.iter().map(|(_, refused)| *refused).collect();
    Check::fail(
        NAME,
        format!("missing or not denying: {}", names.join(", ")),
    )
    .means(format!("not refused: {}", open.join("; ")))
    .next("helm upgrade with admission.enabled=true")
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn every_policy_has_to_be_there_and_to_deny() {
        let all: BTreeSet<String> = POLICIES
            .iter()
            .map(|(policy, _)| (*policy).to_owned())
            .collect();
        assert_eq!(judge(&all, &all).verdict, Verdict::Ok);
        let mut fewer = all.clone();
        fewer.remove("granary-tenant-deletion");
        for check in [judge(&fewer, &all), judge(&all, &fewer)] {
            assert_eq!(check.verdict, Verdict::Fail);
            assert!(
                check.found.contains("granary-tenant-deletion"),
                "{}",
                check.found
            );
        }
    }

    #[test]
    fn a_binding_that_only_warns_does_not_deny() {
        let binding = |action: &str| -> ValidatingAdmissionPolicyBinding {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "x"},
                "spec": {"policyName": "granary-tenant-names", "validationActions": [action]},
            }))
            .expect("a binding")
        };
        assert_eq!(denies(&binding("Warn")), None);
        assert_eq!(
            denies(&binding("Deny")).as_deref(),
            Some("granary-tenant-names")
        );
    }

    #[test]
    fn the_names_are_the_charts() {
        let chart = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/charts/granary/templates/admission.yaml"
        ))
        .expect("the chart");
        let in_chart: BTreeSet<&str> = chart
            .lines()
            .filter_map(|line| line.trim().strip_prefix("policyName: "))
            .collect();
        let here: BTreeSet<&str> = POLICIES.iter().map(|(policy, _)| *policy).collect();
        assert_eq!(here, in_chart);
    }
}
