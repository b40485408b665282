//! The node: containerd, kubelet and kube-proxy.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::build::Tools;
use super::image::{PAUSE, ctr};
use super::layout::{Cluster, write_if_changed};
use super::network::{DNS_ADDRESS, NODE_ADDRESS, POD_RANGE};
use super::process::{Daemon, wait_ready};
use super::residue;
use crate::command::run;

/// Starts containerd, with everything it keeps in the cluster's folder.
pub fn start_containerd(cluster: &Cluster) -> Result<()> {
    let path = |name: &str| cluster.path(name).display().to_string();
    let configuration = cluster.path("configuration/containerd.toml");
    // Machines without CAP_SYS_RESOURCE (many virtual ones) refuse lower OOM scores.
    let wanted = format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_programs}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{runc}"
"#,
        root = path("containerd/root"),
        state = path("containerd/state"),
        socket = cluster.containerd_socket().display(),
        cni_programs = path("cni/bin"),
        cni = path("cni/net.d"),
        runc = path("containerd/runc"),
    );
    write_if_changed(&configuration, &wanted)?;
    let loopback = cluster.path("cni/bin/loopback");
    if fs::symlink_metadata(&loopback).is_err() {
        symlink("/usr/lib/cni/loopback", loopback)?;
    }
    Daemon {
        name: "containerd",
        program: "containerd".into(),
        arguments: vec![
            "--config".into(),
            configuration.display().to_string(),
            "--log-level".into(),
            "warn".into(),
        ],
        // cilium-cni finds its agent by this.
        environment: vec![("CILIUM_SOCK", path("cilium/cilium.sock"))],
        on_node: true,
        configuration: vec![configuration],
    }
    .ensure(cluster)?;
    wait_ready(cluster, &["containerd"], Duration::from_secs(30), || {
        cluster.containerd_socket().exists() && run(ctr(cluster).arg("version")).is_ok()
    })
}

/// Starts kubelet and kube-proxy.
pub fn start_kubelet(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let path = |name: &str| cluster.path(name).display().to_string();
    let pki = |file: &str| cluster.pki().join(file).display().to_string();
    let cgroup = residue::make_cgroup(cluster)?;
    let configuration = cluster.path("configuration/kubelet.json");
    let wanted = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki("kubelet.crt"),
        "tlsPrivateKeyFile": pki("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", cluster.containerd_socket().display()),
        "cgroupDriver": "cgroupfs",
        // All pods' processes are below one cgroup, which finds them when the cluster goes.
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": path("configuration/resolv.conf"),
        "podLogsDir": path("logs/pods"),
        "volumePluginDir": path("kubelet/volume-plugins"),
        "maxPods": 500,
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "kubeAPIQPS": 1000,
        "kubeAPIBurst": 2000,
        "eventRecordQPS": 0,
        "syncFrequency": "10s",
        "fileCheckFrequency": "0s",
        "httpCheckFrequency": "0s",
        // A developer's disk may be rather full; images cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        "shutdownGracePeriod": "0s",
        "logging": {"verbosity": 1},
    });
    write_if_changed(&configuration, &serde_json::to_string_pretty(&wanted)?)?;
    // Pods with the node's DNS settings know no name server outside of the cluster.
    write_if_changed(&cluster.path("configuration/resolv.conf"), "")?;
    Daemon {
        name: "kubelet",
        program: tools.kubernetes("kubelet")?,
        arguments: vec![
            format!("--config={}", configuration.display()),
            format!("--kubeconfig={}", pki("kubelet.kubeconfig")),
            format!("--root-dir={}", path("kubelet")),
            format!("--cert-dir={}", path("kubelet/pki")),
            format!("--hostname-override={}", cluster.name),
            format!("--node-ip={NODE_ADDRESS}"),
        ],
        environment: Vec::new(),
        on_node: true,
        configuration: vec![configuration],
    }
    .ensure(cluster)?;

    let configuration = cluster.path("configuration/kube-proxy.json");
    let wanted = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": pki("kube-proxy.kubeconfig"), "qps": 1000, "burst": 2000},
        "mode": "nftables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": cluster.name,
        "nftables": {"minSyncPeriod": "20ms", "syncPeriod": "30s"},
        // These settings would reach beyond the node's network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    write_if_changed(&configuration, &serde_json::to_string_pretty(&wanted)?)?;
    Daemon {
        name: "kube-proxy",
        program: tools.kubernetes("kube-proxy")?,
        arguments: vec![format!("--config={}", configuration.display())],
        environment: Vec::new(),
        on_node: true,
        configuration: vec![configuration],
    }
    .ensure(cluster)
    .map(drop)
}
