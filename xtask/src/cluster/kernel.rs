//! The kernel's settings that the kubelet changes for the whole machine, put back
//! when the cluster goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::layout::Cluster;

/// What the kubelet sets, below `/proc/sys`.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

fn memory(cluster: &Cluster) -> PathBuf {
    cluster.path("kernel-settings.json")
}

/// Writes down the settings as they are before the first kubelet starts.
pub fn remember(cluster: &Cluster) -> Result<()> {
    let file = memory(cluster);
    if file.exists() {
        return Ok(());
    }
    let settings: BTreeMap<_, _> = SETTINGS
        .into_iter()
        .filter_map(|name| {
            Some((
                name,
                fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?,
            ))
        })
        .collect();
    fs::write(file, serde_json::to_string_pretty(&settings)?)?;
    Ok(())
}

/// Puts them back.
pub fn restore(cluster: &Cluster) -> Result<()> {
    let Ok(text) = fs::read_to_string(memory(cluster)) else {
        return Ok(());
    };
    let settings: BTreeMap<String, String> = serde_json::from_str(&text)?;
    for (name, value) in settings {
        let file = Path::new("/proc/sys").join(name);
        if fs::read_to_string(&file)? != value {
            fs::write(file, value)?;
        }
    }
    Ok(())
}
