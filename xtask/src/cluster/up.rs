//! Brings the cluster up: what is independent starts side by side.

use std::fs;
use std::thread;

use anyhow::{Result, anyhow};

use super::build::{self, Tools};
use super::forward::{self, Ports};
use super::image::{self, Loaded};
use super::layout::Cluster;
use super::{addons, cilium, control_plane, kernel, node, pki, process, residue};
use crate::prerequisites::{self, FOR_CLUSTER};
use crate::progress::Progress;

/// Starts what does not run yet. May be called again at any time: after a crash or
/// a restart of the machine it goes on with the data that is there.
pub fn up(cluster: &Cluster, ports: Ports, progress: &Progress) -> Result<()> {
    prerequisites::require_root()?;
    prerequisites::ensure_packages(FOR_CLUSTER, progress)?;
    let tools = build::build_all(progress)?;
    let archives = image::own_images(&tools)?;
    progress.step("folders, certificates and network", || prepare(cluster))?;

    thread::scope(|scope| {
        let api = scope.spawn(|| -> Result<()> {
            progress.step("API server ready", || {
                control_plane::start_api_server(cluster, &tools)
            })?;
            control_plane::start_controllers(cluster, &tools)?;
            progress.step("resource definitions applied", || {
                addons::apply_foundation(cluster, &tools)
            })
        });
        let runtime = scope.spawn(|| -> Result<Vec<Loaded>> {
            progress.step("containerd ready", || node::start_containerd(cluster))?;
            progress.step("pause, CoreDNS and Traefik images loaded", || {
                archives
                    .iter()
                    .map(|archive| image::load_image(cluster, archive))
                    .collect::<Result<Vec<_>>>()
                    .map(|all| all.concat())
            })
        });
        joined(api)?;
        let images = joined(runtime)?;
        start_node(cluster, &tools, progress)?;
        start_addons(cluster, &tools, &images, progress)
    })?;
    progress.step("forwarder ready", || forward::start(cluster, ports))
}

fn prepare(cluster: &Cluster) -> Result<()> {
    if process::pid(cluster, "etcd").is_none()
        && !cluster.path("etcd").exists()
        && cluster.logs().exists()
    {
        // The logs of a cluster that is gone.
        fs::remove_dir_all(cluster.logs())?;
    }
    cluster.make_folders()?;
    if !cluster.network_exists() {
        // After a restart of the machine nothing runs; after a half-done `down` something may.
        let known = process::known(cluster);
        process::stop(
            cluster,
            &known.iter().map(String::as_str).collect::<Vec<_>>(),
            std::time::Duration::from_secs(5),
        )?;
    }
    if process::pid(cluster, "containerd").is_none() {
        residue::remove_stale_runtime_state(cluster)?;
    }
    kernel::remember(cluster)?;
    pki::ensure(cluster)?;
    cluster.make_network()
}

fn start_node(cluster: &Cluster, tools: &Tools, progress: &Progress) -> Result<()> {
    cilium::start(cluster, tools)?;
    node::start_kubelet(cluster, tools)?;
    addons::start_volumes(cluster, tools)?;
    progress.step("Cilium ready", || cilium::wait(cluster, tools))?;
    progress.step("node ready", || addons::wait_node(cluster, tools))
}

fn start_addons(
    cluster: &Cluster,
    tools: &Tools,
    images: &[Loaded],
    progress: &Progress,
) -> Result<()> {
    let image = |name: &str| {
        images
            .iter()
            .find(|image| image.name.ends_with(name))
            .ok_or_else(|| anyhow!("no image {name} was loaded"))
    };
    addons::apply_dns(cluster, tools, image("/coredns")?)?;
    addons::apply_gateway(cluster, tools, image("/traefik")?)?;
    progress.step("CoreDNS ready", || {
        addons::wait_available(cluster, tools, "kube-system", "coredns")
    })?;
    progress.step("Traefik ready", || {
        addons::wait_available(cluster, tools, "traefik", "traefik")
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("a part of the start-up panicked"))?
}
