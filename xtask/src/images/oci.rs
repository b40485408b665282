//! The OCI image layout, as much of it as is needed: one layer in, names out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{hash, hex};
use crate::command::{run, tar};

/// Moves an uncompressed tar file into a new layout whose image is just that.
pub fn layout(layer: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target.join("blobs/sha256"))?;
    let (hash, size) = (hex(&hash(layer)?), fs::metadata(layer)?.len());
    fs::rename(layer, target.join("blobs/sha256").join(&hash))?;
    let digest = format!("sha256:{hash}");
    let config = blob(
        target,
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }),
    )?;
    let manifest = blob(
        target,
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}],
        }),
    )?;
    fs::write(
        target.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )?;
    fs::write(
        target.join("oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"}).to_string(),
    )?;
    Ok(())
}

/// Packs a layout into an archive whose image containerd will know as `name`, and returns the manifest's digest.
pub fn archive(layout: &Path, name: &str, target: &Path) -> Result<String> {
    let index = layout.join("index.json");
    let mut content = read(&index)?;
    let manifest = &mut content["manifests"][0];
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let digest = manifest["digest"]
        .as_str()
        .context("the layout has no manifest")?
        .to_owned();
    fs::write(&index, content.to_string())?;
    run(tar(layout, target).args(["oci-layout", "index.json", "blobs"]))?;
    Ok(digest)
}

/// Files of an image's layers, lowest first.
pub fn layers(layout: &Path) -> Result<Vec<PathBuf>> {
    let index = read(&layout.join("index.json"))?;
    let manifest = read(&blob_path(layout, &index["manifests"][0])?)?;
    manifest["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|layer| blob_path(layout, layer))
        .collect()
}

fn blob_path(layout: &Path, descriptor: &Value) -> Result<PathBuf> {
    let digest = descriptor["digest"]
        .as_str()
        .and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(layout
        .join("blobs/sha256")
        .join(digest.with_context(|| format!("{} is damaged: delete it", layout.display()))?))
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged: delete its folder", path.display()))
}

/// Writes a document into the layout and returns its descriptor.
fn blob(layout: &Path, media_type: &str, content: &Value) -> Result<Value> {
    let text = content.to_string();
    let hash = hex(&Sha256::digest(&text));
    fs::write(layout.join("blobs/sha256").join(&hash), &text)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": text.len()}))
}

/// This machine's, in the words of OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_layer_becomes_a_named_image_with_a_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (layer, layout_path) = (folder.path().join("layer"), folder.path().join("layout"));
        fs::write(&layer, "content").unwrap();
        layout(&layer, &layout_path).unwrap();
        let [stored] = &layers(&layout_path).unwrap()[..] else {
            panic!("one layer")
        };
        assert_eq!(fs::read_to_string(stored).unwrap(), "content");

        let target = folder.path().join("image.tar");
        let digest = archive(&layout_path, "localhost/granary:1", &target).unwrap();
        let index = read(&layout_path.join("index.json")).unwrap();
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "localhost/granary:1"
        );
        let manifest = layout_path
            .join("blobs/sha256")
            .join(digest.strip_prefix("sha256:").unwrap());
        assert_eq!(hex(&hash(&manifest).unwrap()), digest["sha256:".len()..]);
        let listed = run(Command::new("tar").arg("-tf").arg(&target)).unwrap();
        assert!(listed.lines().any(|line| line == "index.json"), "{listed}");
    }
}
