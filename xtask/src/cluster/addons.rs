//! What runs in the cluster itself: DNS, the gateway's controller, the storage class.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::build::{Tools, hex};
use super::control_plane::kubectl;
use super::image::Loaded;
use super::layout::Cluster;
use super::network::NODE_ADDRESS;
use super::process::{Daemon, wait_ready};
use crate::command::{last_lines, run, wait_until};
use crate::paths;

/// Starts the provisioner of node-local volumes and makes its class the default.
pub fn start_volumes(cluster: &Cluster, tools: &Tools) -> Result<()> {
    Daemon {
        name: "volumes",
        program: tools.program("volumes")?,
        arguments: vec![
            "-kubeconfig".into(),
            cluster
                .pki()
                .join("volumes.kubeconfig")
                .display()
                .to_string(),
            "-folder".into(),
            cluster.path("volumes").display().to_string(),
            "-node".into(),
            cluster.name.clone(),
        ],
        environment: Vec::new(),
        on_node: true,
        configuration: Vec::new(),
    }
    .ensure(cluster)
    .map(drop)
}

/// Applies what must be there before the node's components start: their rights, the
/// Gateway API's and Cilium's resources, the storage class.
pub fn apply_foundation(cluster: &Cluster, tools: &Tools) -> Result<()> {
    let sources = paths::cluster_sources();
    let mut apply = kubectl(cluster, tools)?;
    apply.args(["apply", "--server-side", "--force-conflicts", "--recursive"]);
    for file in [
        sources.join("kubernetes/node-components.yaml"),
        sources.join("volumes/storageclass.yaml"),
        tools.assets("traefik", "crds")?,
        tools.assets("cilium-agent", "crds")?,
    ] {
        apply.arg("-f").arg(file);
    }
    run(&mut apply).map(drop)
}

/// Applies CoreDNS.
pub fn apply_dns(cluster: &Cluster, tools: &Tools, image: &Loaded) -> Result<()> {
    apply(
        cluster,
        tools,
        "coredns/coredns.yaml",
        &[("COREDNS_IMAGE", &image.reference())],
    )
}

/// Applies Traefik.
pub fn apply_gateway(cluster: &Cluster, tools: &Tools, image: &Loaded) -> Result<()> {
    let values = [
        ("TRAEFIK_IMAGE", image.reference()),
        ("NODE_ADDRESS", NODE_ADDRESS.to_owned()),
    ];
    apply(
        cluster,
        tools,
        "traefik/traefik.yaml",
        &values
            .each_ref()
            .map(|(name, value)| (*name, value.as_str())),
    )
}

/// Waits until a deployment is available; the error says what its pods say.
pub fn wait_available(
    cluster: &Cluster,
    tools: &Tools,
    namespace: &str,
    deployment: &str,
) -> Result<()> {
    let deployment = format!("deployment/{deployment}");
    let wait = run(kubectl(cluster, tools)?.args([
        "rollout",
        "status",
        "--timeout=90s",
        "-n",
        namespace,
        &deployment,
    ]));
    wait.map(drop).map_err(|error| {
        let say = |arguments: &[&str]| {
            kubectl(cluster, tools)
                .and_then(|mut kubectl| run(kubectl.args(["-n", namespace]).args(arguments)))
                .unwrap_or_default()
        };
        let pods = say(&["get", "pods", "-o", "wide"]);
        let log = say(&["logs", &deployment, "--tail=15"]);
        let events = say(&["get", "events"]);
        error.context(format!(
            "{deployment} in {namespace} is not available:\n{pods}\n{log}\n{}",
            last_lines(&events, 8)
        ))
    })
}

/// Waits until the node is ready for pods.
pub fn wait_node(cluster: &Cluster, tools: &Tools) -> Result<()> {
    wait_ready(
        cluster,
        &["kubelet", "kube-controller-manager"],
        Duration::from_mins(1),
        || {
            let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            kubectl(cluster, tools)
                .and_then(|mut kubectl| {
                    run(kubectl.args(["get", "node", &cluster.name, "-o", path]))
                })
                .is_ok_and(|status| status == "True")
        },
    )?;
    // Pods are refused until the controller manager has made these.
    wait_until(
        "the default service account exists",
        Duration::from_secs(30),
        || {
            Ok(run(kubectl(cluster, tools)?.args([
                "get",
                "serviceaccount",
                "default",
                "-n",
                "default",
            ]))
            .is_ok())
        },
    )
}

/// Applies a manifest with its `${NAME}`s replaced.
fn apply(cluster: &Cluster, tools: &Tools, file: &str, values: &[(&str, &str)]) -> Result<()> {
    let file = paths::cluster_sources().join(file);
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let hash = hex(&Sha256::digest(&text));
    let values: Vec<_> = values
        .iter()
        .copied()
        .chain([("MANIFEST", hash.as_str())])
        .collect();
    let manifest = filled(&text, &values)?;
    let mut child = kubectl(cluster, tools)?
        .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(manifest.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "applying {} failed: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn filled(text: &str, values: &[(&str, &str)]) -> Result<String> {
    let text = values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    });
    if let Some((_, rest)) = text.split_once("${") {
        bail!(
            "no value for ${{{}",
            rest.chars().take(20).collect::<String>()
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_needs_a_value() {
        assert_eq!(filled("a ${X}", &[("X", "1")]).unwrap(), "a 1");
        assert!(
            filled("a ${Y}", &[("X", "1")])
                .unwrap_err()
                .to_string()
                .contains('Y')
        );
    }
}
