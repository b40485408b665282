//! Does the registry's database run?

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::operator::Installation;
use super::report::Check;
use crate::api::plane::REGISTRY;

const NAME: &str = "registry";

/// Reads the registry's StatefulSet, unless the installation uses a database of somebody else's.
pub async fn check(cluster: &Cluster, installation: &Installation, namespace: &str) -> Check {
    if let Some(host) = foreign_host(installation) {
        return Check::ok(NAME, format!("a database of yours, at {host}"));
    }
    let sets: Api<StatefulSet> = Api::namespaced(cluster.client(), namespace);
    let what = format!("cannot read statefulset {REGISTRY} in namespace {namespace}");
    match cluster.ask(&what, sets.get(REGISTRY)).await {
        Ok(set) => judge(&set, namespace),
        Err(failure) if failure.exit() == Exit::NotFound => Check::fail(
            NAME,
            format!("no statefulset {REGISTRY} in namespace {namespace}"),
        )
        .means(MEANS)
        .next("helm upgrade granary CHART --namespace granary-system   # a chart of this version"),
        Err(failure) => Check::unanswered(NAME, &failure),
    }
}

const MEANS: &str = "no tenant comes, changes its keys or goes, and no pod that starts gets its keys; those that run go on";

/// The database's host, if it is not the chart's own.
fn foreign_host(installation: &Installation) -> Option<&str> {
    installation
        .registry_host
        .as_deref()
        .filter(|host| !host.starts_with(&format!("{REGISTRY}.")))
}

fn judge(set: &StatefulSet, namespace: &str) -> Check {
    let ready = set
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    if ready >= 1 {
        return Check::ok(NAME, "its database is ready");
    }
    Check::fail(NAME, "its database is not ready")
        .means(MEANS)
        .next(format!(
            "kubectl --namespace {namespace} describe pod {REGISTRY}-0"
        ))
        .next(format!(
            "kubectl --namespace {namespace} logs {REGISTRY}-0 --tail 50"
        ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn its_one_pod_has_to_be_ready() {
        let set = |ready: i32| -> StatefulSet {
            serde_json::from_value(json!({
                "metadata": {"name": REGISTRY},
                "status": {"replicas": 1, "readyReplicas": ready},
            }))
            .expect("a stateful set")
        };
        assert_eq!(judge(&set(1), "granary-system").verdict, Verdict::Ok);
        assert_eq!(judge(&set(0), "granary-system").verdict, Verdict::Fail);
    }

    #[test]
    fn a_database_of_somebody_elses_is_told_by_its_host() {
        let at = |host: &str| Installation {
            registry_host: Some(host.to_owned()),
            ..Installation::default()
        };
        assert_eq!(
            foreign_host(&at("db.example")).map(str::to_owned),
            Some("db.example".to_owned())
        );
        assert_eq!(
            foreign_host(&at("granary-registry.granary-system.svc")),
            None
        );
        assert_eq!(foreign_host(&Installation::default()), None);
    }
}
