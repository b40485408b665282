//! Does a key server run, and on what do tenants' keys hang?

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::report::Check;
use crate::api::plane::KEYSERVER;

const NAME: &str = "key-server";

/// Reads the key server's Deployment.
pub async fn check(cluster: &Cluster, namespace: &str) -> Check {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), namespace);
    let what = format!("cannot read deployment {KEYSERVER} in namespace {namespace}");
    match cluster.ask(&what, deployments.get(KEYSERVER)).await {
        Ok(deployment) => judge(&deployment, namespace),
        Err(failure) => not_found(&failure, namespace),
    }
}

fn not_found(failure: &Failure, namespace: &str) -> Check {
    if failure.exit() != Exit::NotFound {
        return Check::unanswered(NAME, failure);
    }
    Check::fail(
        NAME,
        format!("no deployment {KEYSERVER} in namespace {namespace}"),
    )
    .means("no tenant gets keys, and no pod that starts gets those of its tenant; those that run go on")
    .next("helm upgrade granary CHART --namespace granary-system   # a chart of this version")
}

fn judge(deployment: &Deployment, namespace: &str) -> Check {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    let provider = provider(deployment).unwrap_or_else(|| "unknown".to_owned());
    let found = format!("{ready} of {wanted} replicas ready, provider {provider}");
    let describe = format!("kubectl --namespace {namespace} describe deployment {KEYSERVER}");
    let logs =
        format!("kubectl --namespace {namespace} logs deployment/{KEYSERVER} --all-pods --tail 50");
    if ready < 1 {
        return Check::fail(NAME, found)
            .means("no tenant gets keys, and no pod that starts gets those of its tenant; those that run go on")
            .next(describe)
            .next(logs);
    }
    if ready < wanted {
        return Check::warn(NAME, found)
            .means("keys are served, but a failure would keep pods that start from theirs")
            .next(describe);
    }
    if provider == "local" {
        return Check::warn(NAME, found)
            .means("all tenants' keys hang on one root key in a Secret: for evaluation only")
            .next("use a KMS for anything that matters: keys.provider in the chart's values");
    }
    Check::ok(NAME, found)
}

fn provider(deployment: &Deployment) -> Option<String> {
    let template = &deployment.spec.as_ref()?.template;
    let container = template.spec.as_ref()?.containers.first()?;
    let mut variables = container.env.iter().flatten();
    variables
        .find(|variable| variable.name == "GRANARY_KMS_PROVIDER")?
        .value
        .clone()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    #[rstest]
    #[case(2, "aws", Verdict::Ok)]
    #[case(2, "local", Verdict::Warn)]
    #[case(1, "aws", Verdict::Warn)]
    #[case(0, "aws", Verdict::Fail)]
    fn it_runs_whole_and_on_a_kms(
        #[case] ready: i32,
        #[case] provider: &str,
        #[case] verdict: Verdict,
    ) {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": KEYSERVER},
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{
                "name": "keyserver", "env": [{"name": "GRANARY_KMS_PROVIDER", "value": provider}],
            }]}}},
            "status": {"readyReplicas": ready},
        }))
        .expect("a deployment");
        let check = judge(&deployment, "granary-system");
        assert_eq!(check.verdict, verdict, "{}", check.found);
        assert!(check.found.contains(provider), "{}", check.found);
    }

    #[test]
    fn one_that_is_not_there_fails() {
        let missing = Failure::new(Exit::NotFound, "cannot read deployment");
        assert_eq!(not_found(&missing, "x").verdict, Verdict::Fail);
        let refused = Failure::new(Exit::Refused, "cannot read deployment");
        assert_eq!(not_found(&refused, "x").verdict, Verdict::Unknown);
    }
}
