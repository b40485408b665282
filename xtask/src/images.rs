//! Builds Granary's images on a machine without an image registry.
//!
//! ```text
//! Debian packages ─mmdebstrap→ core base ──────────────────────────→ granary.Containerfile, tenant-template.Containerfile
//!                              build base ─→ postgres.Containerfile ─→ granary-postgres.Containerfile
//! ```
//!
//! Every arrow's result is in the cache under a hash of what went in, so nothing is built twice. The Containerfiles are
//! the truth about the images: each also builds with `podman build --build-arg BASE=…` on a public base.
//!
//! Bases are made once and kept: delete the cache's `images` folder to take in Debian's security updates.

mod base;
mod oci;
mod programs;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use programs::Profile;

use crate::command::{cargo, run, run_visibly};
use crate::paths;
use crate::prerequisites::{FOR_IMAGES, ensure_packages};
use crate::progress::Progress;

/// Archives kept of each image; older ones are removed when a new one was built.
const KEPT: usize = 4;

/// An image in an archive that containerd imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Without tag or digest: `localhost/granary`.
    pub name: String,
    /// `sha256:…` of the manifest: what containerd and pods call it.
    pub digest: String,
    /// The OCI archive.
    pub archive: PathBuf,
    /// Its size in bytes, layers compressed.
    pub size: u64,
}

/// Builds the images `granary`, `granary-postgres` and `tenant-template`, in this order.
pub fn build_all(cache: &Path, profile: Profile, progress: &Progress) -> Result<Vec<Image>> {
    let images = cache.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    let core = base::core(&images, progress)?;
    let postgres = postgres(&images, progress)?;
    let [granary, template] = progress.step("programs", || programs::build(profile))?;
    [
        ("granary", &core, &granary),
        ("granary-postgres", &postgres, &granary),
        ("tenant-template", &core, &template),
    ]
    .into_iter()
    .map(|(name, base, program)| image(&images, name, base, program, progress))
    .collect()
}

/// The root file system of the database image without the agent, for tests that run PostgreSQL without a cluster.
fn postgres_rootfs(cache: &Path, progress: &Progress) -> Result<PathBuf> {
    let images = cache.join("images");
    let layout = postgres(&images, progress)?;
    let folder = layout.with_extension("rootfs");
    if !folder.exists() {
        let draft = tempfile::tempdir_in(&images)?;
        let root = draft.path().join("root");
        fs::create_dir(&root)?;
        for layer in oci::layers(&layout)? {
            run(Command::new("tar")
                .arg("-C")
                .arg(&root)
                .args(["--numeric-owner", "-xpf"])
                .arg(layer))?;
        }
        // The place where tests mount the agent.
        fs::write(root.join("usr/bin/granary"), "")?;
        fs::rename(root, &folder)?;
    }
    Ok(folder)
}

/// Tests the database agent with a real PostgreSQL, in the database image's files and without a cluster.
pub fn test_agent(progress: &Progress) -> Result<()> {
    ensure_packages(FOR_IMAGES, progress)?;
    let rootfs = postgres_rootfs(&paths::cache()?, progress)?;
    let arguments = [
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "agent",
        "--",
        "--ignored",
    ];
    run_visibly(
        cargo()
            .args(arguments)
            .env("GRANARY_POSTGRES_ROOTFS", rootfs),
    )
}

/// `cargo xtask images`: builds all and prints name, digest and size of each.
pub fn print_all(release: bool) -> Result<()> {
    let progress = Progress::start();
    ensure_packages(FOR_IMAGES, &progress)?;
    let profile = if release {
        Profile::Release
    } else {
        Profile::Dev
    };
    for image in build_all(&paths::cache()?, profile, &progress)? {
        println!(
            "{}\t{}\t{:.1} MB",
            image.name,
            image.digest,
            mega(image.size)
        );
    }
    Ok(())
}

/// PostgreSQL with its template cluster, as an OCI layout.
fn postgres(images: &Path, progress: &Progress) -> Result<PathBuf> {
    fs::create_dir_all(images).with_context(|| format!("cannot make {}", images.display()))?;
    let base = base::build(images, progress)?;
    let scripts = sources().join("postgres");
    let mut context = Vec::new();
    for entry in
        fs::read_dir(&scripts).with_context(|| format!("cannot read {}", scripts.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        context.push((path, format!("postgres/{name}")));
    }
    context.sort();
    let recipe = Recipe {
        name: "postgres",
        base: &base,
        context,
    };
    recipe.layout(images, progress)
}

/// One of Granary's images: a program on a base.
fn image(
    images: &Path,
    name: &str,
    base: &Path,
    program: &Path,
    progress: &Progress,
) -> Result<Image> {
    let file = if name == "tenant-template" {
        "tenant-template"
    } else {
        "granary"
    };
    let recipe = Recipe {
        name,
        base,
        context: vec![(program.to_owned(), file.to_owned())],
    };
    let key = recipe.key()?;
    let (archive, card) = (
        images.join(format!("{name}-{key}.tar")),
        images.join(format!("{name}-{key}.json")),
    );
    if archive.exists()
        && let Ok(text) = fs::read(&card)
    {
        return serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged: delete it", card.display()));
    }
    progress.step(&format!("image {name}"), || {
        let draft = tempfile::tempdir_in(images)?;
        let (layout, unfinished) = (draft.path().join("layout"), draft.path().join("archive"));
        recipe.build(draft.path(), &layout)?;
        let name = format!("localhost/{name}");
        let digest = oci::archive(&layout, &format!("{name}:{key}"), &unfinished)?;
        let image = Image {
            name,
            digest,
            archive: archive.clone(),
            size: fs::metadata(&unfinished)?.len(),
        };
        fs::write(&card, serde_json::to_string(&image)?)?;
        fs::rename(unfinished, &archive)?;
        remove_old(images, recipe.name)?;
        Ok(image)
    })
}

/// A Containerfile and all that goes into it.
struct Recipe<'a> {
    /// Of the image and of the Containerfile.
    name: &'a str,
    /// OCI layout of the base.
    base: &'a Path,
    /// Files of the build's context, by their path in it.
    context: Vec<(PathBuf, String)>,
}

impl Recipe<'_> {
    fn containerfile(&self) -> PathBuf {
        sources().join(format!("{}.Containerfile", self.name))
    }

    /// A hash of everything that the image is made from.
    fn key(&self) -> Result<String> {
        let mut key = Sha256::new();
        key.update(hash(&self.base.join("index.json"))?);
        key.update(hash(&self.containerfile())?);
        for (source, target) in &self.context {
            key.update(target);
            key.update(hash(source)?);
        }
        Ok(short(&key.finalize()))
    }

    /// The image as an OCI layout in the cache.
    fn layout(&self, images: &Path, progress: &Progress) -> Result<PathBuf> {
        let layout = images.join(format!("{}-{}.oci", self.name, self.key()?));
        if !layout.exists() {
            progress.step(&format!("image {}", self.name), || {
                let draft = tempfile::tempdir_in(images)?;
                let unfinished = draft.path().join("layout");
                self.build(draft.path(), &unfinished)?;
                fs::rename(unfinished, &layout).map_err(Into::into)
            })?;
        }
        Ok(layout)
    }

    /// Runs the build in `work`, which holds all of buildah's state, and writes the OCI layout `target`.
    fn build(&self, work: &Path, target: &Path) -> Result<()> {
        let context = work.join("context");
        for (source, file) in &self.context {
            let file = context.join(file);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(source, &file).with_context(|| format!("cannot copy {}", source.display()))?;
        }
        let buildah = |command: &str| {
            let mut buildah = Command::new("buildah");
            buildah
                .current_dir(work)
                .env("STORAGE_DRIVER", "vfs")
                .env("BUILDAH_ISOLATION", "chroot")
                .arg(command);
            buildah
                .arg("--root")
                .arg(work.join("storage"))
                .arg("--runroot")
                .arg(work.join("run"));
            buildah
        };
        // By a plain relative name: buildah makes an image reference of it, in which not every path is allowed.
        std::os::unix::fs::symlink(self.base, work.join("base"))?;
        run(buildah("build")
            .args([
                "--layers=false",
                "--timestamp=0",
                "--build-arg=BASE=oci:base",
                "--tag=localhost/built",
            ])
            .arg("--file")
            .arg(self.containerfile())
            .arg(&context))?;
        run(buildah("push")
            .args(["--format=oci", "localhost/built"])
            .arg(format!("oci:{}", target.display())))?;
        Ok(())
    }
}

/// Removes all but the newest archives of an image.
fn remove_old(images: &Path, name: &str) -> Result<()> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let key = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar"));
        if key.is_some_and(|key| {
            key.len() == SHORT && key.bytes().all(|byte| byte.is_ascii_hexdigit())
        }) {
            archives.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    archives.sort();
    archives.reverse();
    for (_, archive) in archives.into_iter().skip(KEPT) {
        // Another run may have removed it.
        let _ = fs::remove_file(archive.with_extension("json"));
        let _ = fs::remove_file(archive);
    }
    Ok(())
}

fn sources() -> PathBuf {
    paths::repository().join("xtask/images")
}

/// Digits of a hash in a file's name.
const SHORT: usize = 12;

fn short(hash: &[u8]) -> String {
    hex(hash)[..SHORT].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// SHA-256 of a file.
fn hash(path: &Path) -> Result<[u8; 32]> {
    let read = || -> std::io::Result<_> {
        let (mut file, mut hash, mut buffer) =
            (fs::File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize().into()),
                length => hash.update(&buffer[..length]),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[expect(clippy::cast_precision_loss, reason = "for people, with one decimal")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_images_own_old_archives_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for number in 0..KEPT + 2 {
            let path = file(&format!("granary-00000000000{number}.tar"));
            fs::write(&path, "").unwrap();
            fs::write(path.with_extension("json"), "").unwrap();
            let age = std::time::Duration::from_secs(100 - u64::try_from(number).unwrap());
            fs::File::open(&path)
                .unwrap()
                .set_modified(std::time::SystemTime::now() - age)
                .unwrap();
        }
        fs::write(file("granary-postgres-000000000000.tar"), "").unwrap();
        remove_old(folder.path(), "granary").unwrap();
        assert!(
            !file("granary-000000000000.tar").exists()
                && !file("granary-000000000001.json").exists()
        );
        assert!(
            file("granary-000000000002.tar").exists()
                && file("granary-postgres-000000000000.tar").exists()
        );
    }

    #[test]
    fn a_key_follows_every_input() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.json"), "base").unwrap();
        fs::write(folder.path().join("program"), "one").unwrap();
        let key = |name| {
            let context = vec![(folder.path().join("program"), "program".to_owned())];
            Recipe {
                name,
                base: folder.path(),
                context,
            }
            .key()
            .unwrap()
        };
        let first = key("granary");
        assert_eq!(first, key("granary"));
        assert_ne!(first, key("tenant-template"), "another Containerfile");
        fs::write(folder.path().join("program"), "two").unwrap();
        let second = key("granary");
        assert_ne!(first, second, "another program");
        fs::write(folder.path().join("index.json"), "other base").unwrap();
        assert_ne!(second, key("granary"), "another base");
    }
}
