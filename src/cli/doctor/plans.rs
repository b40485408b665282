//! Are there plans, and does admission know them?

use std::collections::BTreeSet;

use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::report::Check;
use crate::api::{PLAN_CATALOG, Plan, PlanCatalog};

const NAME: &str = "plans";

/// Lists the plans, and reads the catalogue of them that the operator keeps for admission.
pub async fn check(cluster: &Cluster) -> Check {
    let api: Api<Plan> = Api::all(cluster.client());
    let plans = match cluster
        .ask("cannot list plans", api.list(&ListParams::default()))
        .await
    {
        Ok(plans) => plans.items.iter().map(ResourceExt::name_any).collect(),
        Err(failure) if failure.exit() == Exit::NotFound => {
            return Check::fail(NAME, "the cluster does not know plans")
                .means("no tenant can be onboarded");
        }
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    let catalogs: Api<PlanCatalog> = Api::all(cluster.client());
    let listed = cluster
        .ask(
            "cannot read the catalogue of plans",
            catalogs.get(PLAN_CATALOG),
        )
        .await;
    judge(&plans, listed)
}

fn judge(plans: &BTreeSet<String>, listed: Result<PlanCatalog, Failure>) -> Check {
    if plans.is_empty() {
        return Check::fail(NAME, "there is none")
            .means("no tenant can be onboarded")
            .next("helm upgrade with plans, or kubectl apply -f PLAN.yaml");
    }
    let names = plans.iter().cloned().collect::<Vec<_>>().join(", ");
    let listed: BTreeSet<String> = match listed {
        Ok(catalog) => catalog.spec.plans.into_iter().collect(),
        Err(failure) if failure.exit() == Exit::NotFound => BTreeSet::new(),
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    let unlisted: Vec<&str> = plans.difference(&listed).map(String::as_str).collect();
    if unlisted.is_empty() {
        return Check::ok(NAME, names);
    }
    Check::fail(
        NAME,
        format!(
            "{names}; not yet listed for admission: {}",
            unlisted.join(", ")
        ),
    )
    .means("tenants with these plans are refused until the operator has listed them")
    .next("wait a moment; if it stays, the operator does not run or may not write the catalogue")
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::api::PlanCatalogSpec;

    fn catalog(plans: &[&str]) -> PlanCatalog {
        let plans = plans.iter().map(ToString::to_string).collect();
        PlanCatalog::new(PLAN_CATALOG, PlanCatalogSpec { plans })
    }

    #[test]
    fn every_plan_has_to_be_listed_for_admission() {
        let plans = BTreeSet::from(["large".to_owned(), "small".to_owned()]);
        let verdict = |listed| judge(&plans, listed).verdict;
        assert_eq!(verdict(Ok(catalog(&["small", "large"]))), Verdict::Ok);
        assert_eq!(verdict(Ok(catalog(&["small"]))), Verdict::Fail);
        assert_eq!(verdict(Ok(catalog(&[]))), Verdict::Fail);
        assert_eq!(
            verdict(Err(Failure::new(Exit::Refused, "no"))),
            Verdict::Unknown
        );
        assert_eq!(
            judge(&BTreeSet::new(), Ok(catalog(&[]))).verdict,
            Verdict::Fail
        );
    }
}
