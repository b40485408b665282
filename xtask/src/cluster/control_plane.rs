//! etcd, the API server, the controller manager and the scheduler.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::build::Tools;
use super::layout::{Cluster, write_if_changed};
use super::network::{NODE_ADDRESS, POD_RANGE, SERVICE_RANGE};
use super::process::{Daemon, wait_ready};
use crate::command::run;
use crate::paths;

/// Starts etcd and the API server, and waits until it answers.
pub fn start_api_server(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let pki = |file: &str| cluster.pki().join(file).display().to_string();
    Daemon {
        name: "etcd",
        program: tools.kubernetes("etcd")?,
        arguments: vec![
            format!("--data-dir={}", cluster.path("etcd").display()),
            "--listen-client-urls=https://127.0.0.1:2379".into(),
            "--advertise-client-urls=https://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--client-cert-auth".into(),
            format!("--trusted-ca-file={}", pki("etcd-ca.crt")),
            format!("--cert-file={}", pki("etcd.crt")),
            format!("--key-file={}", pki("etcd.key")),
            "--log-level=warn".into(),
        ],
        environment: Vec::new(),
        on_node: true,
        configuration: Vec::new(),
    }
    .ensure(cluster)?;

    let policy = cluster.path("configuration/audit.yaml");
    let wanted = fs::read_to_string(paths::cluster_sources().join("kubernetes/audit.yaml"))?;
    write_if_changed(&policy, &wanted)?;
    Daemon {
        name: "kube-apiserver",
        program: tools.kubernetes("kube-apiserver")?,
        arguments: vec![
            format!("--advertise-address={NODE_ADDRESS}"),
            "--etcd-servers=https://127.0.0.1:2379".into(),
            format!("--etcd-cafile={}", pki("etcd-ca.crt")),
            format!("--etcd-certfile={}", pki("apiserver-etcd.crt")),
            format!("--etcd-keyfile={}", pki("apiserver-etcd.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            format!(
                "--kubelet-client-certificate={}",
                pki("apiserver-kubelet.crt")
            ),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", pki("service-accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                pki("service-accounts.key")
            ),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", cluster.audit_log().display()),
            "--audit-log-maxsize=200".into(),
            "--audit-log-maxbackup=1".into(),
            "--profiling=false".into(),
        ],
        environment: Vec::new(),
        on_node: true,
        configuration: vec![policy],
    }
    .ensure(cluster)?;
    wait_ready(
        cluster,
        &["kube-apiserver", "etcd"],
        Duration::from_mins(1),
        || api_answers(cluster, tools),
    )
}

/// Starts what makes the API server's objects live. Nothing elects a leader,
/// since each runs once: that saves the start-up and the renewals.
pub fn start_controllers(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let kubeconfig = |name: &str| {
        cluster
            .pki()
            .join(format!("{name}.kubeconfig"))
            .display()
            .to_string()
    };
    Daemon {
        name: "kube-controller-manager",
        program: tools.kubernetes("kube-controller-manager")?,
        arguments: vec![
            format!("--kubeconfig={}", kubeconfig("kube-controller-manager")),
            format!("--root-ca-file={}", cluster.pki().join("ca.crt").display()),
            format!(
                "--service-account-private-key-file={}",
                cluster.pki().join("service-accounts.key").display()
            ),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            "--allocate-node-cidrs=true".into(),
            format!("--cluster-cidr={POD_RANGE}"),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--kube-api-qps=1000".into(),
            "--kube-api-burst=2000".into(),
            "--concurrent-namespace-syncs=20".into(),
            "--concurrent-statefulset-syncs=10".into(),
            "--namespace-sync-period=30s".into(),
            "--profiling=false".into(),
        ],
        environment: Vec::new(),
        on_node: true,
        configuration: Vec::new(),
    }
    .ensure(cluster)?;

    let configuration = cluster.path("configuration/scheduler.json");
    let wanted = serde_json::json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig("kube-scheduler"), "qps": 1000, "burst": 2000},
        "leaderElection": {"leaderElect": false},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
    });
    write_if_changed(&configuration, &serde_json::to_string_pretty(&wanted)?)?;
    Daemon {
        name: "kube-scheduler",
        program: tools.kubernetes("kube-scheduler")?,
        arguments: vec![format!("--config={}", configuration.display())],
        environment: Vec::new(),
        on_node: true,
        configuration: vec![configuration],
    }
    .ensure(cluster)
    .map(drop)
}

/// `kubectl` as the cluster's administrator.
pub fn kubectl(cluster: &Cluster, tools: &Tools) -> Result<Command> {
    let mut command = Command::new(tools.kubernetes("kubectl")?);
    command.arg("--kubeconfig").arg(cluster.kubeconfig());
    Ok(command)
}

/// Whether the API server says that it is ready.
pub fn api_answers(cluster: &Cluster, tools: &Tools) -> bool {
    kubectl(cluster, tools)
        .and_then(|mut kubectl| {
            run(kubectl.args(["get", "--raw", "/readyz", "--request-timeout=5s"]))
        })
        .is_ok_and(|answer| answer == "ok")
}
