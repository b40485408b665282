//! Where a cluster keeps its files: all below one folder of the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths;

/// A local cluster, by name. Holds no state of its own: all of it is in files.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Also the name of the node, the network namespace and the kubectl context.
    pub name: String,
    folder: PathBuf,
}

impl Cluster {
    /// The cluster of that name, whether it exists or not.
    pub fn named(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 13 || !name.chars().all(allowed) {
            bail!("{name:?} cannot name a cluster: 1 to 13 lower-case letters, digits and dashes");
        }
        let folder = paths::cache()?.join("clusters").join(name);
        // A Unix socket's path has at most 107 bytes; containerd's is the longest here.
        if folder.as_os_str().len() > 70 {
            bail!(
                "{} is too long a path: set XDG_CACHE_HOME to a shorter one",
                folder.display()
            );
        }
        Ok(Self {
            name: name.to_owned(),
            folder,
        })
    }

    /// The folder of everything below.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The kubeconfig of the cluster's administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// One JSON line per API request.
    pub fn audit_log(&self) -> PathBuf {
        self.path("audit.log")
    }

    /// The logs of the components, and below `pods` those of the pods.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Keys and certificates of the cluster itself.
    pub fn pki(&self) -> PathBuf {
        self.path("pki")
    }

    /// The gateway's certificate authority and wildcard certificate. They are
    /// kept when the cluster goes, so that a CA once trusted stays the CA.
    pub fn gateway_pki(&self) -> PathBuf {
        self.path("gateway")
    }

    /// What a browser or curl must trust to see tenants' pages.
    pub fn gateway_ca(&self) -> PathBuf {
        self.gateway_pki().join("ca.crt")
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.path("containerd/containerd.sock")
    }

    /// Makes the folders that components expect.
    pub fn make_folders(&self) -> Result<()> {
        for name in [
            "pki",
            "gateway",
            "pids",
            "logs/pods",
            "configuration",
            "containerd",
            "cni/bin",
            "cni/net.d",
            "cilium",
            "kubelet",
            "volumes",
            "bpf",
            "cgroup2",
        ] {
            fs::create_dir_all(self.path(name))?;
        }
        Ok(())
    }
}

/// Writes a file only if its content changes, and says whether it did.
pub fn write_if_changed(path: &Path, content: &str) -> Result<bool> {
    if fs::read_to_string(path).is_ok_and(|current| current == content) {
        return Ok(false);
    }
    fs::write(path, content)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for wrong in ["", "Granary", "a/b", "..", "much-too-long-a-name"] {
            assert!(Cluster::named(wrong).is_err(), "{wrong}");
        }
        assert!(Cluster::named("granary").is_ok());
    }
}
