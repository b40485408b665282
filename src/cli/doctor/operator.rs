//! Does an operator run, and does one of its replicas lead?

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::super::age;
use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::version::VERSION;
use super::report::Check;

const NAME: &str = "operator";

/// Name of the operator's Deployment and of its Lease.
const OPERATOR: &str = "granary-operator";

/// What the operator's Deployment says about the installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installation {
    /// Image of the operator.
    pub image: Option<String>,
    /// Name of the Gateway that routes hang on.
    pub gateway: Option<String>,
    /// Namespace of that Gateway.
    pub gateway_namespace: Option<String>,
    /// Host of the registry's database.
    pub registry_host: Option<String>,
}

impl Installation {
    fn of(deployment: &Deployment) -> Self {
        let container = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
            .and_then(|spec| spec.containers.first());
        let variable = |name: &str| {
            container?
                .env
                .iter()
                .flatten()
                .find(|variable| variable.name == name)?
                .value
                .clone()
        };
        Self {
            image: container.and_then(|container| container.image.clone()),
            gateway: variable("GRANARY_GATEWAY_NAME"),
            gateway_namespace: variable("GRANARY_GATEWAY_NAMESPACE"),
            registry_host: variable("GRANARY_REGISTRY_HOST"),
        }
    }
}

/// Reads the operator's Deployment and Lease.
pub async fn check(cluster: &Cluster, namespace: &str) -> (Check, Installation) {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), namespace);
    let what = format!("cannot read deployment {OPERATOR} in namespace {namespace}");
    let deployment = match cluster.ask(&what, deployments.get(OPERATOR)).await {
        Ok(deployment) => deployment,
        Err(failure) => return (not_found(&failure, namespace), Installation::default()),
    };
    let leases: Api<Lease> = Api::namespaced(cluster.client(), namespace);
    let what = format!("cannot read lease {OPERATOR} in namespace {namespace}");
    let lease = cluster.ask(&what, leases.get(OPERATOR)).await;
    let check = judge(&deployment, lease, namespace, Timestamp::now());
    (check, Installation::of(&deployment))
}

fn not_found(failure: &Failure, namespace: &str) -> Check {
    if failure.exit() != Exit::NotFound {
        return Check::unanswered(NAME, failure);
    }
    Check::fail(
        NAME,
        format!("no deployment {OPERATOR} in namespace {namespace}"),
    )
    .means("nobody builds silos; those that run go on")
    .next("helm install granary CHART --namespace granary-system --create-namespace")
    .next("granary doctor --namespace NAMESPACE   # if it is installed in another namespace")
}

fn judge(
    deployment: &Deployment,
    lease: Result<Lease, Failure>,
    namespace: &str,
    now: Timestamp,
) -> Check {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let available = deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    let found = format!("{available} of {wanted} replicas available");
    let describe = format!("kubectl --namespace {namespace} describe deployment {OPERATOR}");
    let logs =
        format!("kubectl --namespace {namespace} logs deployment/{OPERATOR} --all-pods --tail 50");
    if available < 1 {
        return Check::fail(NAME, found)
            .means("nothing changes until an operator runs; silos that run go on")
            .next(describe)
            .next(logs);
    }
    let leader = match lease {
        Ok(lease) => leader(&lease, now),
        Err(failure) if failure.exit() == Exit::NotFound => Err("nobody has ever led".to_owned()),
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    let leader = match leader {
        Ok(leader) => leader,
        Err(why) => {
            return Check::fail(NAME, format!("{found}, but no leader: {why}"))
                .means("replicas run but none may write, so nothing changes")
                .next(logs);
        }
    };
    let found = format!("{found}, led by {leader}");
    if available < wanted {
        return Check::warn(NAME, found)
            .means("tenants are served and changed, but a failure would stop changes")
            .next(describe);
    }
    let installed = deployment
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/version"));
    match installed {
        Some(installed) if installed != VERSION => Check::warn(
            NAME,
            format!("{found}; version {installed}, and this program is {VERSION}"),
        )
        .means("commands may not know what the operator does, or the other way round")
        .next("use the program of the operator's version, or upgrade the chart"),
        _ => Check::ok(NAME, found),
    }
}

/// Who leads; or why nobody does.
fn leader(lease: &Lease, now: Timestamp) -> Result<String, String> {
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec
        .holder_identity
        .filter(|holder| !holder.is_empty())
        .ok_or("nobody holds the lease")?;
    let renewed = spec.renew_time.ok_or("the lease was never renewed")?.0;
    let lasts = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or(15).into());
    if renewed + lasts < now {
        return Err(format!(
            "{holder} renewed its lease {} (or this machine's clock is wrong)",
            age::relative(renewed, now)
        ));
    }
    Ok(holder)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::super::fixtures::{ago, now};
    use super::super::report::Verdict;
    use super::*;

    fn deployment(available: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": OPERATOR, "labels": {"app.kubernetes.io/version": VERSION}},
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{
                "name": "operator", "image": "localhost/granary@sha256:00",
                "env": [{"name": "GRANARY_GATEWAY_NAME", "value": "edge"}, {"name": "POD_NAME", "valueFrom": {}}],
            }]}}},
            "status": {"availableReplicas": available},
        }))
        .expect("a deployment")
    }

    fn lease(renewed_before: i64) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": OPERATOR},
            "spec": {"holderIdentity": "granary-operator-abc", "leaseDurationSeconds": 15,
                     "renewTime": ago(renewed_before).to_string().replace('Z', ".000000Z")},
        }))
        .expect("a lease")
    }

    #[rstest]
    #[case(2, 5, Verdict::Ok)]
    #[case(1, 5, Verdict::Warn)]
    #[case(0, 5, Verdict::Fail)]
    #[case(2, 60, Verdict::Fail)]
    fn replicas_and_a_fresh_lease_are_needed(
        #[case] available: i32,
        #[case] renewed_before: i64,
        #[case] verdict: Verdict,
    ) {
        let check = judge(
            &deployment(available),
            Ok(lease(renewed_before)),
            "granary-system",
            now(),
        );
        assert_eq!(check.verdict, verdict, "{}", check.found);
    }

    #[test]
    fn a_lease_that_is_not_there_is_nobody_leading() {
        let missing = Err(Failure::new(Exit::NotFound, "cannot read lease"));
        let check = judge(&deployment(2), missing, "granary-system", now());
        assert_eq!(check.verdict, Verdict::Fail);
        let refused = Err(Failure::new(Exit::Refused, "cannot read lease"));
        let check = judge(&deployment(2), refused, "granary-system", now());
        assert_eq!(check.verdict, Verdict::Unknown);
    }

    #[test]
    fn another_version_is_a_warning() {
        let mut deployment = deployment(2);
        let labels = deployment.metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/version".to_owned(), "99.0.0".to_owned());
        let check = judge(&deployment, Ok(lease(5)), "granary-system", now());
        assert_eq!(check.verdict, Verdict::Warn);
    }

    #[test]
    fn the_installation_is_read_from_the_deployment() {
        let installation = Installation::of(&deployment(2));
        assert_eq!(installation.gateway.as_deref(), Some("edge"));
        assert_eq!(
            installation.image.as_deref(),
            Some("localhost/granary@sha256:00")
        );
        assert_eq!(installation.gateway_namespace, None);
    }
}
