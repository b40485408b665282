//! Is there a storage class for the plans' volumes?

use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::super::cluster::Cluster;
use super::report::Check;
use crate::api::Plan;

const NAME: &str = "storage";
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// Compares the cluster's storage classes with what the plans ask for.
pub async fn check(cluster: &Cluster) -> Check {
    let classes: Api<StorageClass> = Api::all(cluster.client());
    let plans: Api<Plan> = Api::all(cluster.client());
    let params = ListParams::default();
    let classes = match cluster
        .ask("cannot list storage classes", classes.list(&params))
        .await
    {
        Ok(classes) => classes.items,
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    // Without plans only the default matters; that there are none is another check's finding.
    let plans = cluster
        .ask("cannot list plans", plans.list(&params))
        .await
        .map(|plans| plans.items)
        .unwrap_or_default();
    judge(&classes, &plans)
}

fn judge(classes: &[StorageClass], plans: &[Plan]) -> Check {
    let names: BTreeSet<String> = classes.iter().map(ResourceExt::name_any).collect();
    let default = classes.iter().find(|class| {
        class
            .annotations()
            .get(DEFAULT)
            .is_some_and(|value| value == "true")
    });
    for plan in plans {
        let asked = plan.spec.database.storage_class_name.as_ref();
        if let Some(class) = asked.filter(|class| !names.contains(*class)) {
            return Check::fail(
                NAME,
                format!(
                    "plan {} asks for storage class {class}, which does not exist",
                    plan.name_any()
                ),
            )
            .means("databases of this plan get no volume and never start")
            .next("kubectl get storageclasses");
        }
    }
    let needed = plans.is_empty()
        || plans
            .iter()
            .any(|plan| plan.spec.database.storage_class_name.is_none());
    match default {
        Some(class) => Check::ok(
            NAME,
            format!(
                "default storage class {} ({})",
                class.name_any(),
                class.provisioner
            ),
        ),
        None if needed => Check::fail(NAME, "no default storage class")
            .means("databases of plans that name no storage class get no volume and never start")
            .next(format!("kubectl annotate storageclass NAME {DEFAULT}=true"))
            .next("or name one in each plan's spec.database.storageClassName"),
        None => Check::ok(
            NAME,
            "no default storage class, and every plan names its own",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    fn class(name: &str, default: bool) -> StorageClass {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {DEFAULT: default.to_string()}}, "provisioner": "example",
        }))
        .expect("a storage class")
    }

    fn plan(class: Option<&str>) -> Plan {
        let mut plan: Plan = serde_json::from_value(json!({
            "metadata": {"name": "standard"},
            "spec": {
                "app": {"image": "x", "replicas": 1, "cpu": "100m", "memory": "64Mi"},
                "database": {"cpu": "100m", "memory": "128Mi", "storage": "1Gi", "connections": 20},
            },
        }))
        .expect("a plan");
        plan.spec.database.storage_class_name = class.map(ToOwned::to_owned);
        plan
    }

    #[test]
    fn a_class_is_needed_that_exists() {
        let verdict = |classes: &[StorageClass], plans: &[Plan]| judge(classes, plans).verdict;
        assert_eq!(verdict(&[class("fast", true)], &[plan(None)]), Verdict::Ok);
        assert_eq!(
            verdict(&[class("fast", false)], &[plan(None)]),
            Verdict::Fail
        );
        assert_eq!(
            verdict(&[class("fast", false)], &[plan(Some("fast"))]),
            Verdict::Ok
        );
        assert_eq!(
            verdict(&[class("fast", true)], &[plan(Some("slow"))]),
            Verdict::Fail
        );
        assert_eq!(verdict(&[], &[]), Verdict::Fail);
    }
}
