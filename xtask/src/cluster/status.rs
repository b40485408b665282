//! What runs, and how to reach it.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anyhow::Result;

use super::Choice;
use super::forward;
use super::layout::Cluster;
use super::pki::{BASE_DOMAIN, api_server};
use super::versions::{CILIUM, COREDNS, ETCD, KUBERNETES, TRAEFIK};
use super::{build, control_plane, process};
use crate::command::run;

/// The processes and their versions, in the order they start.
const PROCESSES: [(&str, &str); 10] = [
    ("etcd", ETCD),
    ("kube-apiserver", KUBERNETES),
    ("kube-controller-manager", KUBERNETES),
    ("kube-scheduler", KUBERNETES),
    ("containerd", "Debian's"),
    ("cilium-operator", CILIUM),
    ("cilium-agent", CILIUM),
    ("kubelet", KUBERNETES),
    ("kube-proxy", KUBERNETES),
    ("volumes", "this repository's"),
];

/// Prints the cluster's state on stdout.
pub fn print(cluster: &Cluster, choice: &Choice) -> Result<()> {
    let text = describe(cluster, choice)?;
    // Whoever reads it may have seen enough.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn describe(cluster: &Cluster, choice: &Choice) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "cluster {}", cluster.name)?;
    for (name, version) in PROCESSES
        .into_iter()
        .chain([(forward::NAME, "this repository's")])
    {
        let state = process::pid(cluster, name).map_or_else(
            || "not running".to_owned(),
            |pid| format!("running, process {pid}"),
        );
        writeln!(text, "  {name:<24} {version:<18} {state}")?;
    }
    let Some(tools) = build::built()? else {
        writeln!(
            text,
            "  its components are not all built: run `{}`",
            choice.up_command()
        )?;
        return Ok(text);
    };
    if process::pid(cluster, "kube-apiserver").is_none()
        || !control_plane::api_answers(cluster, &tools)
    {
        writeln!(
            text,
            "  the API server does not answer: run `{}`",
            choice.up_command()
        )?;
        return Ok(text);
    }
    for (namespace, name, version) in [
        ("kube-system", "coredns", COREDNS),
        ("traefik", "traefik", TRAEFIK),
    ] {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Available")].status}"#;
        let available = run(control_plane::kubectl(cluster, &tools)?.args([
            "get",
            "deployment",
            "-n",
            namespace,
            name,
            "-o",
            path,
        ]))
        .is_ok_and(|status| status == "True");
        writeln!(
            text,
            "  {name:<24} {version:<18} {}",
            if available {
                "available"
            } else {
                "not available"
            }
        )?;
    }
    writeln!(text)?;
    writeln!(text, "  API server   {}", api_server())?;
    writeln!(
        text,
        "  kubectl      export KUBECONFIG={}",
        cluster.kubeconfig().display()
    )?;
    writeln!(
        text,
        "               {}/kubectl get pods -A",
        build::links()?.display()
    )?;
    writeln!(
        text,
        "  tenants      https://NAME.{BASE_DOMAIN}:{} (HTTP: {})",
        choice.https_port, choice.http_port
    )?;
    writeln!(text, "  gateway CA   {}", cluster.gateway_ca().display())?;
    writeln!(text, "  audit log    {}", cluster.audit_log().display())?;
    writeln!(text, "  logs         {}", cluster.logs().display())?;
    Ok(text)
}
