//! What is in a silo, and whether each object is as it should be.

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::super::cluster::Cluster;

/// The kinds that are shown, in the order in which a silo is built: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 10] = [
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
    ),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "Job", "jobs"),
    ("apps", "v1", "Deployment", "deployments"),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    (
        "gateway.networking.k8s.io",
        "v1",
        "BackendTLSPolicy",
        "backendtlspolicies",
    ),
];

/// Whether an object is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Ready {
    /// It is.
    True,
    /// It is not.
    False,
    /// It could not be found out.
    Unknown,
}

/// One object of a silo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its kind.
    pub kind: &'static str,
    /// Its name; `*` when the kind could not be listed.
    pub name: String,
    /// Whether it is as it should be.
    pub ready: Ready,
    /// In a few words, how it is.
    pub state: String,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// Everything in the silo's namespace that is worth showing. A kind that cannot be listed becomes one line that says
/// why: the rest is still worth seeing.
pub async fn list(cluster: &Cluster, namespace: &str) -> Vec<Object> {
    let asked = KINDS.map(|(group, version, kind, plural)| async move {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), namespace, &resource);
        let what = format!("cannot list {plural}");
        match cluster.ask(&what, api.list(&ListParams::default())).await {
            Ok(list) => list
                .items
                .iter()
                .map(|object| judge(kind, object))
                .collect(),
            Err(failure) => vec![Object {
                kind,
                name: "*".to_owned(),
                ready: Ready::Unknown,
                state: failure.reasons().join("; "),
                created: None,
            }],
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// How an object is, from what Kubernetes says about it.
fn judge(kind: &'static str, object: &DynamicObject) -> Object {
    let (ready, state) = if object.metadata.deletion_timestamp.is_some() {
        (Ready::False, "being removed".to_owned())
    } else {
        match kind {
            "StatefulSet" | "Deployment" => replicas(&object.data),
            "Job" => job(&object.data),
            "Pod" => pod(&object.data),
            "PersistentVolumeClaim" => claim(&object.data),
            "PodDisruptionBudget" => budget(&object.data),
            "HTTPRoute" => parents(&object.data, "/status/parents"),
            "BackendTLSPolicy" => parents(&object.data, "/status/ancestors"),
            "Service" => (Ready::True, service(&object.data)),
            _ => (Ready::True, "in place".to_owned()),
        }
    };
    Object {
        kind,
        name: object.name_any(),
        ready,
        state,
        created: object.creation_timestamp().map(|time| time.0),
    }
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn yes_if(ready: bool) -> Ready {
    if ready { Ready::True } else { Ready::False }
}

fn replicas(data: &Value) -> (Ready, String) {
    let wanted = data
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let ready = number(data, "/status/readyReplicas");
    let updated = number(data, "/status/updatedReplicas");
    let mut state = format!("{ready}/{wanted} ready");
    if updated < wanted {
        state = format!("{state}, {updated} up to date");
    }
    (yes_if(ready >= wanted && updated >= wanted), state)
}

fn job(data: &Value) -> (Ready, String) {
    let holds = |type_: &str| {
        items(data, "/status/conditions").iter().find(|condition| {
            text(condition, "/type") == type_ && text(condition, "/status") == "True"
        })
    };
    // The second is set as soon as the work is done, the first when its pods are cleaned up.
    if holds("Complete")
        .or_else(|| holds("SuccessCriteriaMet"))
        .is_some()
    {
        (Ready::True, "complete".to_owned())
    } else if let Some(failed) = holds("Failed") {
        (
            Ready::False,
            format!("failed: {}", text(failed, "/message")),
        )
    } else {
        let failures = number(data, "/status/failed");
        (Ready::False, format!("running, {failures} failed tries"))
    }
}

fn pod(data: &Value) -> (Ready, String) {
    let phase = text(data, "/status/phase");
    let containers = items(data, "/status/containerStatuses");
    let ready = containers
        .iter()
        .filter(|container| container.pointer("/ready") == Some(&Value::Bool(true)))
        .count();
    let restarts: i64 = containers
        .iter()
        .map(|container| number(container, "/restartCount"))
        .sum();
    let waiting = containers
        .iter()
        .find_map(|container| container.pointer("/state/waiting"));
    let mut state = match (phase, waiting) {
        (_, Some(waiting)) => format!(
            "{}: {}",
            text(waiting, "/reason"),
            text(waiting, "/message")
        ),
        ("Pending", None) => {
            let reason = items(data, "/status/conditions")
                .iter()
                .find(|condition| {
                    text(condition, "/type") == "PodScheduled"
                        && text(condition, "/status") == "False"
                })
                .map(|condition| text(condition, "/message"));
            reason.map_or_else(
                || "Pending".to_owned(),
                |reason| format!("Pending: {reason}"),
            )
        }
        ("Running", None) => format!("{ready}/{} ready", containers.len()),
        (phase, None) => phase.to_owned(),
    };
    state = state.trim_end_matches([':', ' ']).to_owned();
    if restarts > 0 {
        state = format!("{state}, {restarts} restarts");
    }
    let is_ready = phase == "Succeeded"
        || (phase == "Running" && !containers.is_empty() && ready == containers.len());
    (yes_if(is_ready), state)
}

fn claim(data: &Value) -> (Ready, String) {
    let phase = text(data, "/status/phase");
    let size = text(data, "/status/capacity/storage");
    let class = text(data, "/spec/storageClassName");
    let state = [phase, size, class]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    (yes_if(phase == "Bound"), state)
}

fn budget(data: &Value) -> (Ready, String) {
    let healthy = number(data, "/status/currentHealthy");
    let desired = number(data, "/status/desiredHealthy");
    (
        yes_if(healthy >= desired),
        format!("{healthy} healthy, {desired} needed"),
    )
}

fn service(data: &Value) -> String {
    match text(data, "/spec/clusterIP") {
        "None" => "headless".to_owned(),
        address => address.to_owned(),
    }
}

/// Gateway API objects are judged by each gateway they hang on.
fn parents(data: &Value, pointer: &str) -> (Ready, String) {
    let parents = items(data, pointer);
    if parents.is_empty() {
        return (Ready::Unknown, "no gateway has looked at it yet".to_owned());
    }
    let refused = parents
        .iter()
        .flat_map(|parent| items(parent, "/conditions"))
        .find(|condition| {
            matches!(text(condition, "/type"), "Accepted" | "ResolvedRefs")
                && text(condition, "/status") != "True"
        });
    match refused {
        Some(condition) => (
            Ready::False,
            format!(
                "{}: {}",
                text(condition, "/reason"),
                text(condition, "/message")
            ),
        ),
        None => (Ready::True, "accepted by the gateway".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("Deployment", json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 2, "updatedReplicas": 2}}), Ready::True, "2/2 ready")]
    #[case("Deployment", json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 2, "updatedReplicas": 1}}), Ready::False, "2/2 ready, 1 up to date")]
    #[case("StatefulSet", json!({"spec": {"replicas": 1}}), Ready::False, "0/1 ready, 0 up to date")]
    #[case("Deployment", json!({"spec": {"replicas": 0}}), Ready::True, "0/0 ready")]
    #[case("Job", json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}), Ready::True, "complete")]
    #[case("Job", json!({"status": {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}}), Ready::True, "complete")]
    #[case("Job", json!({"status": {"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}}), Ready::False, "failed: too often")]
    #[case("Job", json!({"status": {"failed": 2}}), Ready::False, "running, 2 failed tries")]
    #[case("Pod", json!({"status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 0}]}}), Ready::True, "1/1 ready")]
    #[case("Pod", json!({"status": {"phase": "Running", "containerStatuses": [{"ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]}}), Ready::False, "CrashLoopBackOff: back-off, 4 restarts")]
    #[case("Pod", json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}}), Ready::False, "Pending: no node")]
    #[case("Pod", json!({"status": {"phase": "Succeeded"}}), Ready::True, "Succeeded")]
    #[case("PersistentVolumeClaim", json!({"spec": {"storageClassName": "local"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}), Ready::True, "Bound 1Gi local")]
    #[case("PersistentVolumeClaim", json!({"status": {"phase": "Pending"}}), Ready::False, "Pending")]
    #[case("HTTPRoute", json!({}), Ready::Unknown, "no gateway has looked at it yet")]
    #[case("HTTPRoute", json!({"status": {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}, {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "no app"}]}]}}), Ready::False, "BackendNotFound: no app")]
    #[case("BackendTLSPolicy", json!({"status": {"ancestors": [{"conditions": [{"type": "Accepted", "status": "True"}]}]}}), Ready::True, "accepted by the gateway")]
    #[case("PodDisruptionBudget", json!({"status": {"currentHealthy": 0, "desiredHealthy": 1}}), Ready::False, "0 healthy, 1 needed")]
    #[case("Service", json!({"spec": {"clusterIP": "None"}}), Ready::True, "headless")]
    #[case("NetworkPolicy", json!({}), Ready::True, "in place")]
    fn objects_are_judged_by_what_kubernetes_says(
        #[case] kind: &'static str,
        #[case] data: Value,
        #[case] ready: Ready,
        #[case] state: &str,
    ) {
        let object: DynamicObject = serde_json::from_value(
            json!({"metadata": {"name": "x"}, "spec": data["spec"], "status": data["status"]}),
        )
        .expect("an object");
        let judged = judge(kind, &object);
        assert_eq!((judged.ready, judged.state.as_str()), (ready, state));
    }

    #[test]
    fn what_is_being_removed_is_not_ready() {
        let object: DynamicObject = serde_json::from_value(
            json!({"metadata": {"name": "x", "deletionTimestamp": "2026-11-21T12:00:00Z"}}),
        )
        .expect("an object");
        assert_eq!(judge("NetworkPolicy", &object).ready, Ready::False);
    }
}
