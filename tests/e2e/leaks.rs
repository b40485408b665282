//! Nothing of a tenant's keys lies anywhere but in memory: what the local cluster keeps on its disk is searched for the
//! very keys that a silo's pods use.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem::Finder;

use crate::keys::{KeyServer, pod_token};
use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique};

/// Read at once; two reads overlap by the longest needle.
const BLOCK: usize = 1 << 20;

/// What is looked for: bytes that must not be anywhere, or must be somewhere.
struct Needles(Vec<Vec<u8>>);

impl Needles {
    /// A key as it is, in base64 without padding, and in hexadecimal digits.
    fn of_keys(keys: &[Vec<u8>]) -> Self {
        let forms = keys.iter().flat_map(|key| {
            let base64 = STANDARD.encode(key);
            let hex: Vec<String> = key.iter().map(|byte| format!("{byte:02x}")).collect();
            [
                key.clone(),
                base64.trim_end_matches('=').as_bytes().to_vec(),
                hex.concat().into_bytes(),
            ]
        });
        Self(forms.collect())
    }

    fn are_in(&self, text: &[u8]) -> bool {
        self.0
            .iter()
            .any(|needle| Finder::new(needle).find(text).is_some())
    }

    /// Whether one of them is in this file. A file that goes meanwhile holds nothing any more.
    fn are_in_file(&self, path: &Path) -> bool {
        let longest = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let Ok(mut file) = File::open(path) else {
            return false;
        };
        let mut block = vec![0; BLOCK];
        let mut kept = 0;
        while let Ok(read) = file.read(&mut block[kept..]) {
            let end = kept + read;
            if read == 0 {
                return false;
            }
            if self.are_in(&block[..end]) {
                return true;
            }
            kept = longest.min(end);
            block.copy_within(end - kept..end, 0);
        }
        false
    }
}

/// Where the local cluster keeps everything.
fn cluster() -> PathBuf {
    let kubeconfig = std::env::var_os("KUBECONFIG").expect("KUBECONFIG");
    let kubeconfig = PathBuf::from(kubeconfig);
    kubeconfig.parent().expect("a folder").to_owned()
}

/// Files below a folder that are on the same disk as it, and so not in memory and in no running container's view.
fn files_on_disk(folder: &Path) -> Vec<PathBuf> {
    let device = fs::metadata(folder).expect("the folder").dev();
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            if metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}

/// What a file's path begins with below the cluster's folder.
fn part(cluster: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(cluster).unwrap_or(file);
    let first = inside.components().next();
    first.map_or_else(String::new, |part| {
        part.as_os_str().to_string_lossy().into_owned()
    })
}

/// Files that hold a needle. Of images only what was written since then is searched: layers are as they were pulled.
fn holding(needles: &Needles, since: SystemTime) -> Vec<PathBuf> {
    let cluster = cluster();
    let mut files = files_on_disk(&cluster);
    files.retain(|file| {
        let written = fs::metadata(file).and_then(|metadata| metadata.modified());
        part(&cluster, file) != "containerd" || written.is_ok_and(|written| written >= since)
    });
    files.retain(|file| needles.are_in_file(file));
    files
}

/// Processes in whose environment a needle is.
fn environments(needles: &Needles) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .map(|process| process.path().join("environ"))
        .filter(|environment| fs::read(environment).is_ok_and(|text| needles.are_in(&text)))
        .collect()
}

#[tokio::test]
async fn no_key_is_on_a_disk_in_etcd_in_a_log_or_in_an_environment() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("leaks");
    cleaning_up(&client, &test, async {
        let since = SystemTime::now();
        let silo = Silo::onboard(&client, &test, "leaks").await;
        let server = KeyServer::reach(&client).await;
        let mut keys = Vec::new();
        for (component, purpose) in [("app", "app"), ("database", "backup")] {
            let token = pod_token(&silo, component).await;
            let key = server.unwrap(&token, purpose).await.expect("a key");
            keys.push(STANDARD.decode(key).expect("base64"));
        }
        assert!(keys.iter().all(|key| key.len() == 32));
        let secret = Needles::of_keys(&keys);

        // The positive controls: the search sees what is there, in each of the places.
        let public = Needles(vec![silo.namespace.clone().into_bytes()]);
        eventually("the tenant is in etcd and in a log", async || {
            let parts: BTreeSet<String> = holding(&public, since)
                .iter()
                .map(|file| part(&cluster(), file))
                .collect();
            ["etcd", "logs", "audit.log"]
                .iter()
                .all(|place| parts.contains(*place))
        })
        .await;
        let database = Needles(vec![b"PGDATA=".to_vec(), b"GRANARY_TENANT_UID=".to_vec()]);
        assert_ne!(environments(&database), Vec::<PathBuf>::new());
        let memory = cluster().join("kubelet/pods");
        let in_memory = fs::read_dir(memory).expect("pods").flatten().any(|pod| {
            let folder = pod.path().join("volumes/kubernetes.io~empty-dir/keys/app");
            secret.are_in_file(&folder.join("1"))
        });
        assert!(in_memory, "the app's key is in its pod's memory volume");

        assert_eq!(holding(&secret, since), Vec::<PathBuf>::new());
        assert_eq!(environments(&secret), Vec::<PathBuf>::new());
    })
    .await;
}
