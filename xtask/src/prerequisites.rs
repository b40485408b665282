//! What the machine must have: Debian packages, which are installed when they
//! are missing, and Go, which is only checked.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{exists, run};
use crate::progress::Progress;

/// A Debian package, and the file or program that shows it is there.
pub type Needed = (&'static str, &'static str);

/// For the local cluster.
pub const FOR_CLUSTER: &[Needed] = &[
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("containernetworking-plugins", "/usr/lib/cni/loopback"),
    ("iptables", "iptables"),
    ("nftables", "nft"),
    ("conntrack", "conntrack"),
    ("clang-19", "clang-19"),
    ("llvm-19", "llc-19"),
    ("iproute2", "ip"),
    ("e2fsprogs", "mkfs.ext4"),
    ("util-linux", "nsenter"),
    ("mount", "mount"),
    ("gcc", "cc"),
    ("libc6-dev", "/usr/include/stdlib.h"),
    ("ca-certificates", "/etc/ssl/certs"),
];

/// For building the images.
pub const FOR_IMAGES: &[Needed] = &[
    ("buildah", "buildah"),
    ("mmdebstrap", "mmdebstrap"),
    ("tar", "tar"),
    ("binutils", "strip"),
    (
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
];

/// For tests that start a PostgreSQL server.
pub const FOR_POSTGRES: &[Needed] = &[("postgresql", "/usr/lib/postgresql")];

/// For tests that start moto, which plays AWS KMS. It comes from the Python package registry.
pub const FOR_KMS: &[Needed] = &[
    ("python3", "python3"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
];

/// Installs what is missing with apt-get, or says what has to be installed.
pub fn ensure_packages(needed: &[Needed], progress: &Progress) -> Result<()> {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !exists("apt-get") {
        bail!(
            "these programs are missing, and there is no apt-get to install them: {list}. Install them and try again"
        );
    }
    require_root()?;
    progress.long_step(&format!("installing {list}"), || {
        let apt = |arguments: &[&str]| {
            run(Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(arguments))
        };
        apt(&["update", "-q"])?;
        let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
        install.extend(&missing);
        apt(&install).map(drop)
    })?;
    let missing = self::missing(needed);
    if !missing.is_empty() {
        bail!("still missing after apt-get install: {}", missing.join(" "));
    }
    Ok(())
}

fn missing(needed: &[Needed]) -> Vec<&'static str> {
    needed
        .iter()
        .filter(|(_, sign)| {
            if sign.starts_with('/') {
                !Path::new(sign).exists()
            } else {
                !exists(sign)
            }
        })
        .map(|(package, _)| *package)
        .collect()
}

/// The cluster needs network namespaces, mounts and cgroups.
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "this must run as root: the local cluster makes network namespaces, mounts and cgroups. Try `sudo -E env PATH=\"$PATH\" cargo xtask …`"
    )
}

/// Go 1.26 or newer, which builds the cluster's components.
pub fn require_go() -> Result<()> {
    let version = run(Command::new("go").arg("version"))
        .context("Go is needed to build the cluster's components (1.26 or newer, from https://go.dev/dl or your distribution)")?;
    if go_is_new_enough(&version) {
        return Ok(());
    }
    bail!(
        "Go 1.26 or newer is needed to build the cluster's components; this is {}",
        version.trim()
    )
}

fn go_is_new_enough(version: &str) -> bool {
    let Some(number) = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."))
    else {
        return false;
    };
    let minor = number
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    minor.parse::<u32>().is_ok_and(|minor| minor >= 26)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_compared_as_numbers() {
        assert!(go_is_new_enough("go version go1.26.8 linux/amd64"));
        assert!(go_is_new_enough("go version go1.100rc1 linux/amd64"));
        assert!(!go_is_new_enough("go version go1.9 linux/amd64"));
        assert!(!go_is_new_enough("nonsense"));
    }
}
