//! Cilium, run on the node: gives pods their network and enforces network policies.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::build::Tools;
use super::layout::{Cluster, write_if_changed};
use super::network::POD_RANGE;
use super::process::{Daemon, wait_ready};
use super::residue;
use crate::command::run;

/// What operator and agent must agree on.
const SHARED: [&str; 5] = [
    "--enable-ipv4=true",
    "--enable-ipv6=false",
    "--identity-allocation-mode=crd",
    "--cluster-id=0",
    "--cluster-name=default",
];

/// Starts operator and agent. The resource definitions must be there.
pub fn start(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let path = |name: &str| cluster.path(name).display().to_string();
    let kubeconfig = format!(
        "--k8s-kubeconfig-path={}",
        cluster.pki().join("cilium.kubeconfig").display()
    );
    prepare(cluster, tools)?;
    let environment = || {
        vec![
            ("K8S_NODE_NAME", cluster.name.clone()),
            ("CILIUM_K8S_NAMESPACE", "kube-system".to_owned()),
        ]
    };

    let mut arguments = vec![
        kubeconfig.clone(),
        "--ipam=kubernetes".into(),
        "--enable-metrics=false".into(),
        "--skip-crd-creation=true".into(),
        "--operator-api-serve-addr=127.0.0.1:9234".into(),
    ];
    arguments.extend(SHARED.map(String::from));
    Daemon {
        name: "cilium-operator",
        program: tools.program("cilium-operator-generic")?,
        arguments,
        environment: environment(),
        on_node: true,
        configuration: Vec::new(),
    }
    .ensure(cluster)?;

    let mut arguments = vec![
        kubeconfig,
        format!("--lib-dir={}", path("cilium/lib")),
        format!("--state-dir={}", path("cilium")),
        format!("--socket-path={}", path("cilium/cilium.sock")),
        format!("--bpf-root={}", path("bpf")),
        format!("--cgroup-root={}", path("cgroup2")),
        format!("--ipv4-native-routing-cidr={POD_RANGE}"),
    ];
    arguments.extend(
        [
            "--ipam=kubernetes",
            "--routing-mode=native",
            "--auto-direct-node-routes=false",
            "--kube-proxy-replacement=false",
            "--bpf-lb-sock=false",
            "--enable-l7-proxy=false",
            "--enable-hubble=false",
            "--enable-policy=default",
            "--devices=eth0",
            // Pods reach nothing beyond the host, and the host has a route to them.
            "--enable-ipv4-masquerade=false",
            "--enable-health-checking=false",
            "--enable-endpoint-health-checking=false",
            "--agent-health-port=9879",
            "--datapath-mode=veth",
            // Lets an ipBlock name the node's own address, where the API server is.
            "--policy-cidr-match-mode=nodes",
            // An agent that was killed right after a policy came repairs what it missed.
            "--bpf-policy-map-full-reconciliation-interval=30s",
            // Relabelled pods get their new policy at once.
            "--identity-change-grace-period=0s",
        ]
        .map(String::from),
    );
    arguments.extend(SHARED.map(String::from));
    Daemon {
        name: "cilium-agent",
        program: tools.program("cilium-agent")?,
        arguments,
        environment: environment(),
        on_node: true,
        configuration: Vec::new(),
    }
    .ensure(cluster)
    .map(drop)
}

/// Waits until the agent enforces policies.
pub fn wait(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let program = tools.program("cilium-dbg")?;
    let socket = format!("unix://{}", cluster.path("cilium/cilium.sock").display());
    wait_ready(
        cluster,
        &["cilium-agent", "cilium-operator", "kubelet"],
        Duration::from_mins(1),
        || run(Command::new(&program).args(["status", "--brief", "--host", &socket])).is_ok(),
    )
}

fn prepare(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let library = cluster.path("cilium/lib");
    if !library.join("bpf").exists() {
        fs::create_dir_all(&library)?;
        run(Command::new("cp")
            .arg("-r")
            .arg(tools.assets("cilium-agent", "bpf")?)
            .arg(&library))?;
    }
    // Cilium calls the compiler by its plain name.
    let programs = cluster.path("tools");
    fs::create_dir_all(&programs)?;
    for (name, program) in [("clang", "/usr/bin/clang-19"), ("llc", "/usr/bin/llc-19")] {
        let link = programs.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(program, link)?;
        }
    }
    let plugin = cluster.path("cni/bin/cilium-cni");
    let built = tools.program("cilium-cni")?;
    if !fs::read_link(&plugin).is_ok_and(|current| current == built) {
        let _ = fs::remove_file(&plugin);
        symlink(built, plugin)?;
    }
    // Written plainly: containerd 1.6 does not notice a file that is renamed into place.
    let plugin = serde_json::json!({
        "cniVersion": "0.3.1",
        "name": "cilium",
        "plugins": [{"type": "cilium-cni", "log-file": cluster.logs().join("cilium-cni.log")}],
    });
    write_if_changed(
        &cluster.path("cni/net.d/05-cilium.conflist"),
        &plugin.to_string(),
    )?;
    mount("bpf", &cluster.path("bpf"))?;
    mount("cgroup2", &cluster.path("cgroup2"))
}

fn mount(kind: &str, place: &Path) -> Result<()> {
    if residue::mounts_below(place)?.is_empty() {
        run(Command::new("mount").args(["-t", kind, kind]).arg(place))
            .with_context(|| format!("this kernel must offer {kind}"))?;
    }
    Ok(())
}
