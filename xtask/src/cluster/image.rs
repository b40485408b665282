//! Container images without a registry: images made of nothing but a program,
//! and the import of image archives into the cluster's containerd.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::build::{Tools, hex};
use super::layout::Cluster;
use crate::command::{run, tar};
use crate::paths;

/// The image that holds a pod's namespaces, by the name in containerd's configuration.
pub const PAUSE: &str = "localhost/pause:1";

/// An image in the cluster's containerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Without tag or digest: `localhost/granary`.
    pub name: String,
    /// `sha256:…`
    pub digest: String,
}

impl Loaded {
    /// What a pod names as its image: `localhost/granary@sha256:…`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }
}

/// Imports an archive (`docker save` or OCI layout) into the cluster's containerd, and
/// makes its images known by digest. An archive that was loaded before is not read again.
pub fn load_image(cluster: &Cluster, archive: &Path) -> Result<Vec<Loaded>> {
    let archive =
        fs::canonicalize(archive).with_context(|| format!("no archive {}", archive.display()))?;
    let memory = cluster.path("containerd/loaded").join(identity(&archive)?);
    if let Some(loaded) = fs::read(&memory)
        .ok()
        .and_then(|text| serde_json::from_slice::<Vec<Loaded>>(&text).ok())
    {
        return Ok(loaded);
    }
    let said = run(ctr(cluster).args(["images", "import"]).arg(&archive))?;
    let loaded = imported(&said);
    if loaded.is_empty() {
        bail!("{} holds no image with a name: {said}", archive.display());
    }
    for (tag, image) in &loaded {
        run(ctr(cluster).args(["images", "tag", "--force", tag, &image.reference()]))?;
    }
    let loaded: Vec<_> = loaded.into_iter().map(|(_, image)| image).collect();
    fs::create_dir_all(cluster.path("containerd/loaded"))?;
    fs::write(memory, serde_json::to_string(&loaded)?)?;
    Ok(loaded)
}

/// `ctr`, talking to the cluster's containerd about the kubelet's images.
pub fn ctr(cluster: &Cluster) -> Command {
    let mut command = Command::new("ctr");
    command
        .arg("--address")
        .arg(cluster.containerd_socket())
        .args(["--namespace", "k8s.io"]);
    command
}

/// What `ctr images import` says: `unpacking NAME:TAG (DIGEST)...done`, with tags.
fn imported(said: &str) -> Vec<(String, Loaded)> {
    said.lines()
        .filter_map(|line| {
            let (tag, rest) = line.strip_prefix("unpacking ")?.split_once(" (")?;
            let digest = rest.split_once(')')?.0;
            let (name, _) = tag.rsplit_once(':')?;
            Some((
                tag.to_owned(),
                Loaded {
                    name: name.to_owned(),
                    digest: digest.to_owned(),
                },
            ))
        })
        .collect()
}

/// Tells archives apart without reading them.
fn identity(archive: &Path) -> Result<String> {
    let file = fs::metadata(archive)?;
    let changed = file
        .modified()?
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_nanos();
    let text = format!("{}\n{}\n{changed}", archive.display(), file.len());
    Ok(hex(&Sha256::digest(text))[..16].to_owned())
}

/// Builds the archives of the cluster's own images: pause, CoreDNS, Traefik.
pub fn own_images(tools: &Tools) -> Result<[PathBuf; 3]> {
    let sources = paths::cluster_sources();
    let pause = paths::cache()?.join("images/pause");
    let source = sources.join("pause/pause.c");
    if !pause.exists() || fs::metadata(&pause)?.modified()? < fs::metadata(&source)?.modified()? {
        fs::create_dir_all(paths::cache()?.join("images"))?;
        run(Command::new("cc")
            .args(["-static", "-Os", "-s", "-o"])
            .arg(&pause)
            .arg(&source))?;
    }
    let plugin = "plugins-local/src/granary.dev/cluster/traefik/plugin";
    Ok([
        scratch_image("pause", &[(pause, "pause")])?,
        scratch_image("coredns", &[(tools.program("coredns")?, "coredns")])?,
        scratch_image(
            "traefik",
            &[
                (tools.program("traefik")?, "traefik"),
                (
                    sources.join("traefik/plugin/misdirected.go"),
                    &format!("{plugin}/misdirected.go"),
                ),
                (
                    sources.join("traefik/plugin/go.mod"),
                    &format!("{plugin}/go.mod"),
                ),
                (
                    sources.join("traefik/plugin/.traefik.yml"),
                    &format!("{plugin}/.traefik.yml"),
                ),
            ],
        )?,
    ])
}

/// An OCI archive of an image `localhost/NAME:1` that holds these files and starts the first.
fn scratch_image(name: &str, files: &[(PathBuf, &str)]) -> Result<PathBuf> {
    let images = paths::cache()?.join("images");
    let mut key = Sha256::new();
    for (source, target) in files {
        key.update(format!("{target}\n{}\n", identity(source)?));
    }
    let archive = images.join(format!("{name}-{}.tar", &hex(&key.finalize())[..12]));
    if archive.exists() {
        return Ok(archive);
    }
    let work = tempfile::tempdir_in(&images)?;
    let root = work.path().join("root");
    for (source, target) in files {
        let target = root.join(target);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(source, &target)?;
        fs::set_permissions(
            &target,
            fs::Permissions::from_mode(if target.parent() == Some(&root) {
                0o755
            } else {
                0o644
            }),
        )?;
    }
    let layout = work.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let layer = work.path().join("layer");
    run(tar(&root, &layer).arg("."))?;
    let layer = blob(&layout, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let program = files.first().map_or(name, |(_, target)| *target);
    let configuration = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": [format!("/{program}")], "User": "10001:10001", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let configuration = json_blob(
        work.path(),
        &layout,
        "application/vnd.oci.image.config.v1+json",
        &configuration,
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration,
        "layers": [layer],
    });
    let mut manifest = json_blob(
        work.path(),
        &layout,
        "application/vnd.oci.image.manifest.v1+json",
        &manifest,
    )?;
    manifest["annotations"] = json!({"io.containerd.image.name": format!("localhost/{name}:1")});
    fs::write(
        layout.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )?;
    fs::write(
        layout.join("oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"}).to_string(),
    )?;
    let unfinished = work.path().join("archive");
    run(tar(&layout, &unfinished).arg("."))?;
    remove_older(&images, name)?;
    fs::rename(unfinished, &archive)?;
    Ok(archive)
}

/// Archives of an image's earlier content: nothing needs them once it is in containerd.
fn remove_older(images: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let key = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar"));
        if key
            .is_some_and(|key| key.len() == 12 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn json_blob(
    work: &Path,
    layout: &Path,
    media_type: &str,
    content: &serde_json::Value,
) -> Result<serde_json::Value> {
    let file = work.join("blob");
    File::create(&file)?.write_all(content.to_string().as_bytes())?;
    blob(layout, media_type, &file)
}

/// Moves a file to its place in the layout and returns its descriptor.
fn blob(layout: &Path, media_type: &str, file: &Path) -> Result<serde_json::Value> {
    let mut hash = Sha256::new();
    let mut reader = File::open(file)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let digest = hex(&hash.finalize());
    let size = fs::metadata(file)?.len();
    fs::rename(file, layout.join("blobs/sha256").join(&digest))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_read_from_what_ctr_says() {
        let said = "unpacking localhost/granary:dev (sha256:0a1b)...done\nelapsed: 1.2 s\n";
        let loaded = Loaded {
            name: "localhost/granary".into(),
            digest: "sha256:0a1b".into(),
        };
        assert_eq!(
            imported(said),
            [("localhost/granary:dev".to_owned(), loaded.clone())]
        );
        assert_eq!(loaded.reference(), "localhost/granary@sha256:0a1b");
        assert!(imported("elapsed: 1 s").is_empty());
    }
}
