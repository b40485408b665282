//! Bases made of Debian packages: just their files, unpacked without running anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{oci, short};
use crate::command::run;
use crate::progress::Progress;

/// Debian 13, whose PostgreSQL is 17.
const SUITE: &str = "trixie";

/// What neither needs: documentation, translations, character sets beyond UTF-8, package lists.
const TRIM: &str = "cd \"$1\" && rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/i18n \
                    usr/share/lintian usr/share/bug usr/lib/*/gconv var/lib/dpkg var/lib/apt var/cache";

/// The compiler of PostgreSQL's JIT, Perl and what else its package only suggests to a server without them.
const TRIM_SERVER: &str = "cd \"$1\" && rm -rf usr/lib/*/libLLVM* usr/lib/*/libz3* usr/lib/llvm* usr/lib/postgresql/17/lib/bitcode \
                           usr/bin/perl* usr/share/perl* usr/lib/*/perl* usr/lib/*/libperl*";

/// Name resolution in glibc's images needs to be told to read the hosts file first.
const RESOLVE: &str = "echo 'hosts: files dns' > \"$1/etc/nsswitch.conf\"";

/// A base for one program linked with glibc: no shell, no package manager.
pub fn core(images: &Path, progress: &Progress) -> Result<PathBuf> {
    base(
        images,
        "base-core",
        &["base-files", "libc6", "libgcc-s1"],
        &[TRIM, RESOLVE],
        progress,
    )
}

/// A base that has what `postgres.Containerfile` runs: PostgreSQL, a shell and its tools.
pub fn build(images: &Path, progress: &Progress) -> Result<PathBuf> {
    let packages = [
        "base-files",
        "bash",
        "coreutils",
        "dash",
        "findutils",
        "grep",
        "libc-bin",
        "libc6",
        "libgcc-s1",
        "postgresql-17",
        "sed",
        "tar",
        "tzdata",
        "util-linux",
    ];
    base(
        images,
        "base-postgres",
        &packages,
        &[TRIM, TRIM_SERVER],
        progress,
    )
}

/// Makes an OCI layout with the packages' files as its only layer.
fn base(
    images: &Path,
    name: &str,
    packages: &[&str],
    hooks: &[&str],
    progress: &Progress,
) -> Result<PathBuf> {
    let packages = packages.join(",");
    let mut key = Sha256::new();
    for part in [SUITE, &packages].iter().chain(hooks) {
        key.update(part);
        key.update([0]);
    }
    let layout = images.join(format!("{name}-{}.oci", short(&key.finalize())));
    if layout.exists() {
        return Ok(layout);
    }
    progress.step(&format!("{name} from Debian's packages"), || {
        let draft = tempfile::tempdir_in(images)?;
        let (layer, unfinished) = (draft.path().join("layer.tar"), draft.path().join("layout"));
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--variant=extract", &format!("--include={packages}")]);
        mmdebstrap.args(hooks.iter().map(|hook| format!("--extract-hook={hook}")));
        run(mmdebstrap
            .arg(SUITE)
            .arg(&layer)
            .args(sources()?)
            .env("SOURCE_DATE_EPOCH", "0"))?;
        oci::layout(&layer, &unfinished)?;
        fs::rename(unfinished, &layout).map_err(Into::into)
    })?;
    Ok(layout)
}

/// APT sources of the suite, from the mirrors that this machine is set up with.
fn sources() -> Result<Vec<String>> {
    let configured = run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))
    .context("cannot ask apt-get for this machine's Debian mirror")?;
    sources_from(&configured)
}

fn sources_from(configured: &str) -> Result<Vec<String>> {
    let mirror = |folder: &str| {
        configured
            .lines()
            .find(|uri| uri.trim_end_matches('/').ends_with(folder))
    };
    let Some(main) = mirror("/debian") else {
        bail!(
            "no Debian mirror (a URI that ends in /debian) in this machine's APT sources: add one, and install debian-archive-keyring"
        );
    };
    let mut sources = vec![format!("deb {main} {SUITE} main")];
    sources
        .extend(mirror("/debian-security").map(|uri| format!("deb {uri} {SUITE}-security main")));
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirrors_are_used() {
        let configured = "http://mirror.example/node\nhttp://mirror.example/debian-security/\nhttp://mirror.example/debian/\n";
        assert_eq!(
            sources_from(configured).unwrap(),
            [
                "deb http://mirror.example/debian/ trixie main",
                "deb http://mirror.example/debian-security/ trixie-security main",
            ]
        );
    }

    #[test]
    fn a_machine_without_debian_is_told_what_to_do() {
        let error = sources_from("http://mirror.example/ubuntu/")
            .unwrap_err()
            .to_string();
        assert!(error.contains("debian-archive-keyring"), "{error}");
    }
}
