//! The local cluster: a real Kubernetes in a network namespace of its own, from
//! components built here.

mod addons;
pub mod build;
mod cilium;
mod components;
mod control_plane;
pub mod forward;
pub mod image;
mod kernel;
pub mod layout;
mod network;
mod node;
pub mod pki;
mod process;
mod residue;
mod status;
pub mod up;
mod versions;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

pub use forward::Ports;
pub use layout::Cluster;

use crate::progress::Progress;

/// The cluster's name, where none is given.
const NAME: &str = "granary";
/// The host's ports, where none are given.
const PORTS: Ports = Ports {
    http: 8080,
    https: 8443,
};

/// Which cluster, and where it is reached.
#[derive(Debug, Clone, Args)]
pub struct Choice {
    /// The cluster's name.
    #[arg(long, env = "GRANARY_CLUSTER", default_value = NAME, global = true)]
    pub name: String,
    /// The host's port that leads to the gateway's HTTP listener.
    #[arg(long, env = "GRANARY_HTTP_PORT", default_value_t = PORTS.http, global = true)]
    pub http_port: u16,
    /// The host's port that leads to the gateway's HTTPS listener.
    #[arg(
        long,
        env = "GRANARY_HTTPS_PORT",
        default_value_t = PORTS.https,
        global = true
    )]
    pub https_port: u16,
}

impl Choice {
    /// The cluster of that name.
    pub fn cluster(&self) -> Result<Cluster> {
        Cluster::named(&self.name)
    }

    /// The host's ports.
    pub fn ports(&self) -> Ports {
        Ports {
            http: self.http_port,
            https: self.https_port,
        }
    }

    /// The command that brings this cluster up, to copy.
    pub fn up_command(&self) -> String {
        let mut command = self.command("up");
        if self.http_port != PORTS.http {
            let _ = write!(command, " --http-port {}", self.http_port);
        }
        if self.https_port != PORTS.https {
            let _ = write!(command, " --https-port {}", self.https_port);
        }
        command
    }

    /// The command that takes this cluster down, to copy.
    pub fn down_command(&self) -> String {
        self.command("down")
    }

    /// Names the cluster wherever another one would be meant without.
    fn command(&self, verb: &str) -> String {
        if self.name == NAME {
            format!("cargo xtask cluster {verb}")
        } else {
            format!("cargo xtask cluster {verb} --name {}", self.name)
        }
    }
}

/// `cargo xtask cluster …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build what is missing and start the cluster; starts again what has died
    Up,
    /// Stop the cluster and remove all of it, with all data
    Down,
    /// Say what runs, and how to reach it
    Status,
    /// Import image archives into the cluster, and print their names by digest
    Load {
        /// Archives as `buildah push … docker-archive:FILE` writes them, or OCI layouts.
        #[arg(required = true)]
        archives: Vec<std::path::PathBuf>,
    },
    /// Forward the host's ports to the gateway (started by `up`)
    #[command(hide = true)]
    Forward {
        /// For HTTP.
        http: u16,
        /// For HTTPS.
        https: u16,
    },
}

/// Runs a subcommand.
pub fn run(choice: &Choice, command: Command) -> Result<()> {
    let cluster = choice.cluster()?;
    match command {
        Command::Up => {
            let progress = Progress::start();
            up::up(&cluster, choice.ports(), &progress)?;
            progress.line("the cluster is up");
            status::print(&cluster, choice)
        }
        Command::Down => down(&cluster, &Progress::start()),
        Command::Status => status::print(&cluster, choice),
        Command::Load { archives } => {
            for archive in archives {
                for loaded in image::load_image(&cluster, &archive)? {
                    println!("{}", loaded.reference());
                }
            }
            Ok(())
        }
        Command::Forward { http, https } => forward::forward(Ports { http, https }),
    }
}

/// Ends all processes and removes everything but the gateway's certificates and the logs.
pub fn down(cluster: &Cluster, progress: &Progress) -> Result<()> {
    crate::prerequisites::require_root()?;
    let known = process::known(cluster);
    let processes: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "containerd")
        .collect();
    progress.step("processes ended", || {
        process::stop(cluster, &processes, Duration::from_secs(3))
    })?;
    progress.step("pods ended", || {
        residue::kill_pods(cluster)?;
        process::stop(cluster, &["containerd"], Duration::from_secs(5))?;
        residue::kill_pods(cluster)
    })?;
    progress.step("mounts, network and files removed", || {
        residue::remove(cluster)?;
        kernel::restore(cluster)?;
        cluster.remove_network()?;
        remove_data(cluster)
    })
}

fn remove_data(cluster: &Cluster) -> Result<()> {
    let Ok(entries) = fs::read_dir(cluster.folder()) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == "gateway" || entry.file_name() == "logs" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, ports: Ports) -> Choice {
        Choice {
            name: name.to_owned(),
            http_port: ports.http,
            https_port: ports.https,
        }
    }

    #[test]
    fn a_command_to_copy_means_this_cluster_and_no_other() {
        let usual = choice(NAME, PORTS);
        assert_eq!(usual.up_command(), "cargo xtask cluster up");
        assert_eq!(usual.down_command(), "cargo xtask cluster down");
        let other = choice(
            "breaker",
            Ports {
                http: 8081,
                ..PORTS
            },
        );
        assert_eq!(
            other.up_command(),
            "cargo xtask cluster up --name breaker --http-port 8081"
        );
        assert_eq!(
            other.down_command(),
            "cargo xtask cluster down --name breaker"
        );
    }
}
