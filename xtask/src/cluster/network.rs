//! The node's own network namespace, and the one way in: a veth pair.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::layout::Cluster;
use crate::command::run;

/// The host's end of the pair.
pub const HOST_ADDRESS: &str = "10.245.0.1";
/// The node's end, where the API server and the node ports answer.
pub const NODE_ADDRESS: &str = "10.245.0.2";
/// Pods' addresses.
pub const POD_RANGE: &str = "10.244.0.0/16";
/// Services' addresses.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The API server's service address: the first of the range.
pub const API_SERVICE_ADDRESS: &str = "10.96.0.1";
/// The DNS service's address, as CoreDNS' manifest has it.
pub const DNS_ADDRESS: &str = "10.96.0.10";

impl Cluster {
    /// The network namespace's file, as `ip netns` names it.
    pub fn namespace_file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The host's end of the veth pair (at most 15 characters).
    fn link(&self) -> String {
        self.name.chars().take(13).chain("-0".chars()).collect()
    }

    /// A command that runs inside the node's network namespace. Not `ip netns
    /// exec`, which remounts /sys and so hides the cgroups.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace_file().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Makes the namespace and the pair, unless they are there.
    pub fn make_network(&self) -> Result<()> {
        if !self.network_exists() {
            self.remove_network()?;
            let link = self.link();
            run(Command::new("ip").args(["netns", "add", &self.name]))?;
            run(Command::new("ip").args([
                "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &self.name,
            ]))?;
            run(Command::new("ip").args([
                "address",
                "add",
                &format!("{HOST_ADDRESS}/30"),
                "dev",
                &link,
            ]))?;
            run(Command::new("ip").args(["link", "set", &link, "up"]))?;
            run(Command::new("ip").args(["route", "replace", POD_RANGE, "via", NODE_ADDRESS]))?;
            for arguments in [
                &[
                    "address",
                    "add",
                    &format!("{NODE_ADDRESS}/30"),
                    "dev",
                    "eth0",
                ][..],
                &["link", "set", "lo", "up"],
                &["link", "set", "eth0", "up"],
            ] {
                run(self.inside("ip").args(arguments))?;
            }
        }
        run(self
            .inside("sh")
            .args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
        .map(drop)
    }

    /// Whether namespace and link are both there.
    pub fn network_exists(&self) -> bool {
        self.namespace_file().exists()
            && fs::exists(format!("/sys/class/net/{}", self.link())).unwrap_or(false)
    }

    /// Removes namespace and link, if they are there.
    pub fn remove_network(&self) -> Result<()> {
        if fs::exists(format!("/sys/class/net/{}", self.link()))? {
            run(Command::new("ip").args(["link", "delete", &self.link()]))?;
        }
        if self.namespace_file().exists() {
            run(Command::new("ip").args(["netns", "delete", &self.name]))?;
        }
        Ok(())
    }
}
