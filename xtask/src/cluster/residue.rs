//! What a cluster leaves outside of its processes, and how it is found again, also
//! after a crash: cgroups, pods' processes and their shims, mounts, files.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::Cluster;
use crate::command::{run, wait_until};

/// Makes the cgroup all pods are below, in every hierarchy, and returns its name.
pub fn make_cgroup(cluster: &Cluster) -> Result<String> {
    for folder in cgroups(cluster)? {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(cgroup_name(cluster))
}

fn cgroup_name(cluster: &Cluster) -> String {
    format!("/granary-{}", cluster.name)
}

/// The pods' cgroup in each hierarchy of the machine.
fn cgroups(cluster: &Cluster) -> Result<Vec<PathBuf>> {
    let name = cgroup_name(cluster);
    Ok(mounts()?
        .into_iter()
        .filter(|mount| {
            mount.kind.starts_with("cgroup") && mount.place.starts_with("/sys/fs/cgroup")
        })
        .map(|mount| mount.place.join(name.trim_start_matches('/')))
        .collect())
}

/// Kills all pods' processes and then containerd's shims, which would otherwise
/// report and restart nothing but stay.
pub fn kill_pods(cluster: &Cluster) -> Result<()> {
    let limit = Duration::from_secs(20);
    wait_until("all pods' processes have ended", limit, || {
        let processes = pod_processes(cluster)?;
        kill_all(&processes);
        Ok(processes.is_empty())
    })?;
    wait_until("all of containerd's shims have ended", limit, || {
        let shims = shims(cluster)?;
        kill_all(&shims);
        Ok(shims.is_empty())
    })
}

/// Whether containers' shims of this cluster run.
pub fn shims(cluster: &Cluster) -> Result<Vec<i32>> {
    let socket = cluster.containerd_socket();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that has ended in between is none of ours any more.
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        let is_shim = words
            .next()
            .is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"));
        if is_shim && words.any(|word| word == socket.as_os_str().as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn pod_processes(cluster: &Cluster) -> Result<Vec<i32>> {
    let mut processes = Vec::new();
    for root in cgroups(cluster)? {
        for folder in folders_below(&root)? {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            processes.extend(
                text.lines()
                    .filter_map(|line| line.parse::<i32>().ok())
                    .filter(|pid| *pid > 1),
            );
        }
    }
    processes.sort_unstable();
    processes.dedup();
    Ok(processes)
}

fn kill_all(processes: &[i32]) {
    for pid in processes {
        // It may have ended in between.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// Removes mounts, cgroups and files that the cluster's parts made; all its
/// processes must have ended.
pub fn remove(cluster: &Cluster) -> Result<()> {
    let sockets = shim_sockets(cluster);
    unmount_below(cluster.folder())?;
    for root in cgroups(cluster)? {
        let mut folders = folders_below(&root)?;
        folders.reverse();
        for folder in folders {
            remove_cgroup(&folder)?;
        }
    }
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    // The kubelet and the network plug-ins write these outside of the cluster's folder.
    let own = cluster.folder().as_os_str().as_bytes();
    remove_files_in("/var/log/containers", |path| {
        fs::read_link(path).is_ok_and(|target| target.starts_with(cluster.folder()))
    });
    remove_files_in("/var/lib/cni/results", |path| {
        fs::read(path).is_ok_and(|text| text.windows(own.len()).any(|part| part == own))
    });
    remove_files_in("/var/lib/kubelet/device-plugins", |path| {
        path.ends_with("kubelet.sock")
    });
    remove_files_in("/run/cilium", |path| path.ends_with("monitor1_2.sock"));
    for empty in [
        "/run/cilium/deleteQueue",
        "/run/cilium",
        "/var/log/containers",
        "/var/lib/cni/results",
        "/var/lib/cni",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
    ] {
        // Only if nothing else is in it.
        let _ = fs::remove_dir(empty);
    }
    Ok(())
}

/// Removes what is only true while containers run, after they were cut off by a
/// crash or a restart of the machine.
pub fn remove_stale_runtime_state(cluster: &Cluster) -> Result<()> {
    if !shims(cluster)?.is_empty() {
        return Ok(());
    }
    for name in ["containerd/state", "containerd/runc"] {
        let folder = cluster.path(name);
        unmount_below(&folder)?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// Unmounts everything in a folder, the innermost first.
fn unmount_below(folder: &Path) -> Result<()> {
    for place in mounts_below(folder)?.iter().rev() {
        if run(Command::new("umount").arg(place)).is_err() {
            // Busy still: detach it now, the kernel ends it when it can.
            run(Command::new("umount").arg("--lazy").arg(place))?;
        }
    }
    Ok(())
}

/// All mounts at or below a folder, in the order they were made.
pub fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(mounts()?
        .into_iter()
        .map(|mount| mount.place)
        .filter(|place| place.starts_with(folder))
        .collect())
}

struct Mount {
    place: PathBuf,
    kind: String,
}

fn mounts() -> Result<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .filter_map(mount_from_line)
        .collect())
}

/// `36 35 98:0 /root /place options optional… - kind source options`
fn mount_from_line(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let place = head.split(' ').nth(4)?.replace("\\040", " ");
    Some(Mount {
        place: place.into(),
        kind: tail.split(' ').next()?.to_owned(),
    })
}

fn shim_sockets(cluster: &Cluster) -> Vec<PathBuf> {
    let tasks = cluster.path("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(tasks) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .filter(|socket| socket.starts_with("/run/containerd/s"))
        .collect()
}

/// A folder and all those in it, outer before inner. None, if it is not there.
fn folders_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        open.push(entry.path());
                    }
                }
                found.push(folder);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", folder.display()));
            }
        }
    }
    Ok(found)
}

/// The kernel takes a moment to notice that a cgroup's last process has gone.
fn remove_cgroup(folder: &Path) -> Result<()> {
    wait_until(
        &format!("{} is removed", folder.display()),
        Duration::from_secs(10),
        || match fs::remove_dir(folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(error) => Err(error.into()),
        },
    )
}

fn remove_files_in(folder: &str, ours: impl Fn(&Path) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| ours(path))
    {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_kind_and_place() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/root rw";
        let mount = mount_from_line(line).unwrap();
        assert_eq!(
            (mount.place.as_path(), mount.kind.as_str()),
            (Path::new("/mnt 2"), "ext3")
        );
        assert!(mount_from_line("nonsense").is_none());
    }

    #[test]
    fn folders_come_outer_before_inner() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let found = folders_below(root.path()).unwrap();
        assert_eq!(
            found,
            [root.path().to_path_buf(), root.path().join("a"), inner]
        );
        assert!(folders_below(&root.path().join("none")).unwrap().is_empty());
    }
}
