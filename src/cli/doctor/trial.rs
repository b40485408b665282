//! `granary doctor --probe`: tries whether network policies are enforced, in a namespace of its own.
//!
//! One pod listens. Two others try to reach it, and a policy that was there before them lets only one in. The one that
//! gets through is the control: without it, a network that lets nothing through would look well.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::printer::Printer;
use super::network::{NAME, OPEN};
use super::report::Check;

/// Port that the listening pod listens on.
const PORT: u16 = 8080;

/// How long one pod may take to come up, and to try.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a pod tries before it gives up, in the form of the command line.
const TRIES: &str = "15s";

/// After this the pods end by themselves, even if nobody removes the namespace.
const POD_LIFETIME_SECONDS: i64 = 180;

/// Tries it, and removes what it made whatever happens.
pub async fn check(cluster: &Cluster, image: Option<&str>, printer: Printer) -> Check {
    let Some(image) = image else {
        return Check::unknown(NAME, "no operator whose image the probe could use")
            .next("granary doctor --probe --probe-image IMAGE");
    };
    let namespace = match create_namespace(cluster).await {
        Ok(namespace) => namespace,
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    printer.note(&format!(
        "Trying network policies in namespace {namespace} …"
    ));
    let tried = tokio::select! {
        tried = attempt(cluster, &namespace, image) => tried,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "stopped by Ctrl-C")),
    };
    let removed = remove(cluster, &namespace).await;
    let check = match tried {
        Ok(seen) => judge(seen),
        Err(failure) => Check::unanswered(NAME, &failure),
    };
    match removed {
        Ok(()) => check,
        Err(_) => check.next(format!(
            "kubectl delete namespace {namespace}   # it could not be removed"
        )),
    }
}

/// What the two pods saw: whether each found what it was told to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    allowed_got_through: bool,
    denied_was_stopped: bool,
}

fn judge(seen: Seen) -> Check {
    match seen {
        Seen {
            allowed_got_through: true,
            denied_was_stopped: true,
        } => Check::ok(
            NAME,
            "tried: the allowed pod got through, the other did not",
        ),
        Seen {
            allowed_got_through: true,
            denied_was_stopped: false,
        } => Check::fail(NAME, "tried: a pod got through that no policy allows")
            .means(OPEN)
            .next("install a network plugin that enforces network policies"),
        Seen {
            allowed_got_through: false,
            ..
        } => Check::unknown(
            NAME,
            "tried: the allowed pod did not get through, so the other proves nothing",
        )
        .means("pods do not reach each other, or an allowing policy is not honoured")
        .next("check the network plugin's own health first"),
    }
}

async fn attempt(cluster: &Cluster, namespace: &str, image: &str) -> Result<Seen, Failure> {
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client(), namespace);
    for policy in [default_deny(), let_in(), let_out()] {
        create(cluster, &policies, policy, "network policy").await?;
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let port = PORT.to_string();
    create(
        cluster,
        &pods,
        pod("server", image, &["listen", &port]),
        "pod",
    )
    .await?;
    let server = watch(cluster, &pods, "server", listening).await?;
    let address = format!("{server}:{port}");
    for (name, expected) in [("allowed", "open"), ("denied", "closed")] {
        let args = ["connect", &address, "--expect", expected, "--within", TRIES];
        create(cluster, &pods, pod(name, image, &args), "pod").await?;
    }
    Ok(Seen {
        allowed_got_through: watch(cluster, &pods, "allowed", as_expected).await?,
        denied_was_stopped: watch(cluster, &pods, "denied", as_expected).await?,
    })
}

/// Where the server listens, once it runs.
fn listening(pod: &Pod) -> Option<Result<String, Failure>> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref()? {
        "Running" => status.pod_ip.clone().map(Ok),
        "Failed" | "Succeeded" => Some(Err(could_not_run(pod))),
        _ => None,
    }
}

/// Whether the pod found what it was told to expect, once it has ended.
fn as_expected(pod: &Pod) -> Option<Result<bool, Failure>> {
    match pod.status.as_ref()?.phase.as_deref()? {
        "Succeeded" => Some(Ok(true)),
        "Failed" if exit_code(pod) == Some(i32::from(Exit::Failure.code())) => Some(Ok(false)),
        "Failed" => Some(Err(could_not_run(pod))),
        _ => None,
    }
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = statuses.first()?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}

fn could_not_run(pod: &Pod) -> Failure {
    let name = pod.name_any();
    let ended = exit_code(pod).map_or_else(
        || "without an exit code".to_owned(),
        |code| format!("with exit code {code}"),
    );
    Failure::new(
        Exit::Failure,
        format!("the probe's pod {name} could not do its work"),
    )
    .why(format!(
        "it ended {ended}; its image may be of another version than this program"
    ))
}

async fn create_namespace(cluster: &Cluster) -> Result<String, Failure> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let namespace: Namespace = object(json!({
        "metadata": {"generateName": "granary-doctor-", "labels": {
            "app.kubernetes.io/managed-by": "granary-doctor",
            "pod-security.kubernetes.io/enforce": "restricted",
        }},
    }))?;
    let params = PostParams::default();
    cluster
        .ask(
            "cannot make a namespace for the probe",
            api.create(&params, &namespace),
        )
        .await
        .map(|namespace| namespace.name_any())
}

async fn remove(cluster: &Cluster, namespace: &str) -> Result<(), Failure> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let params = DeleteParams::default();
    let what = format!("cannot remove namespace {namespace}");
    cluster
        .ask(&what, api.delete(namespace, &params))
        .await
        .map(drop)
}

async fn create<K>(cluster: &Cluster, api: &Api<K>, value: Value, kind: &str) -> Result<(), Failure>
where
    K: kube::Resource + serde::Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let object: K = object(value)?;
    let what = format!("cannot make {kind} {} for the probe", object.name_any());
    // Just after its namespace, the service account that a pod needs may not be there yet.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match cluster
            .ask(&what, api.create(&PostParams::default(), &object))
            .await
        {
            Ok(_) => return Ok(()),
            Err(failure) if !waits_for_account(&failure) || Instant::now() > deadline => {
                return Err(failure);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn waits_for_account(failure: &Failure) -> bool {
    failure
        .reasons()
        .iter()
        .any(|why| why.contains("serviceaccount \"default\" not found"))
}

fn object<K: DeserializeOwned>(value: Value) -> Result<K, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::new(Exit::Failure, "cannot describe the probe").why(error.to_string())
    })
}

/// Waits until `look` sees something in the pod.
async fn watch<T>(
    cluster: &Cluster,
    pods: &Api<Pod>,
    name: &str,
    look: impl Fn(&Pod) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = std::pin::pin!(watcher::watch_object(pods.clone(), name).default_backoff());
    let mut last = None;
    while let Ok(Some(seen)) = timeout_at(deadline, stream.next()).await {
        if let Ok(Some(pod)) = seen {
            if let Some(found) = look(&pod) {
                return found;
            }
            last = pod.status;
        }
    }
    let phase = last.and_then(|status| status.phase).unwrap_or_default();
    Err(cluster.placed(
        Failure::new(
            Exit::TimedOut,
            format!("the probe's pod {name} did not finish"),
        )
        .why(format!("it is {phase} after {}s", PATIENCE.as_secs())),
    ))
}

fn pod(name: &str, image: &str, args: &[&str]) -> Value {
    let args: Vec<&str> = ["probe"].iter().chain(args).copied().collect();
    json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": POD_LIFETIME_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "probe",
                "image": image,
                "args": args,
                "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

fn selects(name: &str) -> Value {
    json!({"matchLabels": {"app.kubernetes.io/name": name}})
}

fn default_deny() -> Value {
    json!({
        "metadata": {"name": "default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    })
}

fn let_in() -> Value {
    json!({
        "metadata": {"name": "server"},
        "spec": {
            "podSelector": selects("server"),
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": selects("allowed")}], "ports": [{"port": PORT}]}],
        },
    })
}

/// Both may leave, so that the answer is about who gets in.
fn let_out() -> Value {
    json!({
        "metadata": {"name": "clients"},
        "spec": {
            "podSelector": {"matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": ["allowed", "denied"]}]},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": selects("server")}]}],
        },
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::report::Verdict;
    use super::*;

    #[rstest]
    #[case(true, true, Verdict::Ok)]
    #[case(true, false, Verdict::Fail)]
    #[case(false, true, Verdict::Unknown)]
    #[case(false, false, Verdict::Unknown)]
    fn a_dead_network_proves_nothing(
        #[case] allowed_got_through: bool,
        #[case] denied_was_stopped: bool,
        #[case] verdict: Verdict,
    ) {
        let check = judge(Seen {
            allowed_got_through,
            denied_was_stopped,
        });
        assert_eq!(check.verdict, verdict);
    }

    #[rstest]
    #[case("Succeeded", 0, Some(Ok(true)))]
    #[case("Failed", 1, Some(Ok(false)))]
    #[case("Failed", 2, Some(Err(())))]
    #[case("Running", 0, None)]
    fn only_the_probes_own_words_count(
        #[case] phase: &str,
        #[case] code: i32,
        #[case] seen: Option<Result<bool, ()>>,
    ) {
        let pod: Pod = object(json!({
            "metadata": {"name": "denied"},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "probe", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}},
            }]},
        }))
        .expect("a pod");
        assert_eq!(as_expected(&pod).map(|seen| seen.map_err(drop)), seen);
    }

    #[test]
    fn what_the_probe_makes_is_understood() {
        for policy in [default_deny(), let_in(), let_out()] {
            object::<NetworkPolicy>(policy).expect("a network policy");
        }
        object::<Pod>(pod("server", "image", &["listen", "8080"])).expect("a pod");
    }
}
