//! Where things lie: the repository, and the cache beside it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the repository this xtask was built from.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// The folder of the local cluster's sources (Go modules and manifests).
pub fn cluster_sources() -> PathBuf {
    repository().join("tests/cluster")
}

/// The cache outside of the repository: `$XDG_CACHE_HOME/granary`, by default
/// `~/.cache/granary`. Holds `bin/`, `images/` and `clusters/`.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(&env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("granary"))
}
