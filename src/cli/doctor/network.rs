//! Does anything enforce network policies? Recognised by what is installed; tried for real only with `--probe`.

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};

use super::super::cluster::Cluster;
use super::report::Check;

/// Name of the check, which the probe shares: it answers the same question better.
pub const NAME: &str = "network-policies";

/// What it means when nothing enforces them.
pub const OPEN: &str =
    "without enforcement every silo can reach every other: do not onboard tenants";

/// How to find out for sure.
pub const TRY: &str =
    "granary doctor --probe   # tries it with three pods in a namespace of its own";

/// Agents by the name of their `DaemonSet`, and whether they are known to enforce network policies.
const AGENTS: [(&str, &str, bool); 13] = [
    ("cilium", "Cilium", true),
    ("calico-node", "Calico", true),
    ("canal", "Canal", true),
    ("antrea-agent", "Antrea", true),
    ("kube-router", "kube-router", true),
    ("ovnkube-node", "OVN-Kubernetes", true),
    ("kube-ovn-cni", "Kube-OVN", true),
    ("weave-net", "Weave Net", true),
    ("kube-network-policies", "kube-network-policies", true),
    ("kindnet", "kindnet", true),
    ("azure-npm", "Azure NPM", true),
    ("kube-flannel-ds", "Flannel", false),
    ("aws-node", "the AWS VPC CNI (off by default)", false),
];

/// Looks for an agent that is known to enforce network policies.
pub async fn check(cluster: &Cluster) -> Check {
    let what = "cannot list daemon sets";
    let api: Api<DaemonSet> = Api::all(cluster.client());
    let sets = cluster.ask(what, api.list(&ListParams::default())).await;
    let nodes = cilium_nodes(cluster).await;
    match sets {
        Ok(sets) => judge(&sets.items, nodes),
        Err(_) if nodes > 0 => judge(&[], nodes),
        Err(failure) => Check::unanswered(NAME, &failure).next(TRY),
    }
}

/// Nodes that a Cilium agent announced. It may run outside of pods, where no `DaemonSet` shows it.
async fn cilium_nodes(cluster: &Cluster) -> usize {
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("cilium.io", "v2", "CiliumNode"),
        "ciliumnodes",
    );
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    cluster
        .ask(
            "cannot list Cilium's nodes",
            api.list_metadata(&ListParams::default()),
        )
        .await
        .map_or(0, |nodes| nodes.items.len())
}

fn judge(sets: &[DaemonSet], cilium_nodes: usize) -> Check {
    for set in sets {
        let name = set.name_any();
        let Some((_, product, enforces)) = AGENTS.iter().find(|(agent, _, _)| *agent == name)
        else {
            continue;
        };
        let status = set.status.clone().unwrap_or_default();
        let (ready, wanted) = (status.number_ready, status.desired_number_scheduled);
        let found = format!("{product} on {ready} of {wanted} nodes");
        return match (enforces, ready >= wanted && ready > 0) {
            (true, true) => recognised(&found),
            (true, false) => Check::warn(NAME, found)
                .means("pods on a node without its agent may be open, or get no network")
                .next(format!(
                    "kubectl --namespace {} describe daemonset {name}",
                    set.namespace().unwrap_or_default()
                )),
            (false, _) => Check::warn(NAME, format!("{found}, not known to enforce them"))
                .means(OPEN)
                .next(TRY),
        };
    }
    if cilium_nodes > 0 {
        return recognised(&format!("Cilium, which has announced {cilium_nodes} nodes"));
    }
    Check::unknown(NAME, "no agent that is known to enforce them")
        .means(OPEN)
        .next(TRY)
}

fn recognised(found: &str) -> Check {
    Check::ok(
        NAME,
        format!("{found} (recognised, not tried; --probe tries it)"),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    fn set(name: &str, ready: i32) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"selector": {}, "template": {}},
            "status": {"numberReady": ready, "desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0},
        }))
        .expect("a daemon set")
    }

    #[rstest]
    #[case(&[("cilium", 3)], 0, Verdict::Ok)]
    #[case(&[("kube-proxy", 3), ("calico-node", 2)], 0, Verdict::Warn)]
    #[case(&[("kube-flannel-ds", 3)], 0, Verdict::Warn)]
    #[case(&[("kube-proxy", 3)], 0, Verdict::Unknown)]
    #[case(&[], 1, Verdict::Ok)]
    #[case(&[], 0, Verdict::Unknown)]
    fn only_known_agents_count(
        #[case] sets: &[(&str, i32)],
        #[case] cilium_nodes: usize,
        #[case] verdict: Verdict,
    ) {
        let sets: Vec<DaemonSet> = sets.iter().map(|(name, ready)| set(name, *ready)).collect();
        let check = judge(&sets, cilium_nodes);
        assert_eq!(check.verdict, verdict, "{}", check.found);
    }
}
