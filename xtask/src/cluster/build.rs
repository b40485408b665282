//! Builds the cluster's components from their pinned Go modules, once: each
//! result lies in the cache under a hash of everything that went into it.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};

use super::components::{Component, Patch, components};
use crate::command::run;
use crate::paths;
use crate::progress::Progress;

/// The programs `kubernetes` is called as.
pub const KUBERNETES_PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// How many builds run side by side; each uses all cores by itself for most of
/// its time, but links on one.
const SIDE_BY_SIDE: usize = 2;

/// The folder of each built component.
pub struct Tools {
    folders: Vec<(&'static str, PathBuf)>,
}

impl Tools {
    /// The program of a component.
    pub fn program(&self, component: &str) -> Result<PathBuf> {
        Ok(self.folder(component)?.join(component))
    }

    /// One of the programs of the multi-call binary.
    pub fn kubernetes(&self, program: &str) -> Result<PathBuf> {
        Ok(self.folder("kubernetes")?.join(program))
    }

    /// A folder of run-time files of a component.
    pub fn assets(&self, component: &str, name: &str) -> Result<PathBuf> {
        Ok(self.folder(component)?.join(name))
    }

    fn folder(&self, component: &str) -> Result<&Path> {
        self.folders
            .iter()
            .find_map(|(name, folder)| (*name == component).then_some(folder.as_path()))
            .ok_or_else(|| anyhow!("{component} is no component of the cluster"))
    }
}

/// Where `kubectl`, `helm` and the rest lie for people: links to what is built.
pub fn links() -> Result<PathBuf> {
    Ok(paths::cache()?.join("bin"))
}

/// The built components, without building anything; `None` if one is missing.
pub fn built() -> Result<Option<Tools>> {
    let folders = keyed()?
        .into_iter()
        .map(|(component, folder)| (component.output, folder))
        .collect::<Vec<_>>();
    Ok(folders
        .iter()
        .all(|(_, folder)| folder.exists())
        .then_some(Tools { folders }))
}

/// Builds what is not in the cache yet.
pub fn build_all(progress: &Progress) -> Result<Tools> {
    build_those(|_| true, progress)
}

/// Builds these components, if they are not in the cache yet.
pub fn build_only(names: &[&str], progress: &Progress) -> Result<Tools> {
    build_those(|component| names.contains(&component.output), progress)
}

fn build_those(wanted: impl Fn(&Component) -> bool, progress: &Progress) -> Result<Tools> {
    let all: Vec<_> = keyed()?
        .into_iter()
        .filter(|(component, _)| wanted(component))
        .collect();
    let folders = all
        .iter()
        .map(|(component, folder)| (component.output, folder.clone()))
        .collect();
    let missing: VecDeque<_> = all
        .into_iter()
        .filter(|(_, folder)| !folder.exists())
        .collect();
    if !missing.is_empty() {
        crate::prerequisites::require_go()?;
        let names: Vec<_> = missing
            .iter()
            .map(|(component, _)| component.output)
            .collect();
        progress.line(&format!(
            "building {} (once; minutes when Go's cache is cold)",
            names.join(", ")
        ));
    }
    let queue = Mutex::new(missing);
    let work = || -> Result<()> {
        loop {
            let next = queue
                .lock()
                .map_err(|_| anyhow!("another build panicked"))?
                .pop_front();
            let Some((component, folder)) = next else {
                return Ok(());
            };
            progress.step(&format!("built {}", component.output), || {
                build(&component, &folder)
            })?;
        }
    };
    thread::scope(|scope| {
        let builders: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
        builders
            .into_iter()
            .try_for_each(|builder| builder.join().map_err(|_| anyhow!("a build panicked"))?)
    })?;
    let tools = Tools { folders };
    link_for_people(&tools)?;
    Ok(tools)
}

fn keyed() -> Result<Vec<(Component, PathBuf)>> {
    let bin = links()?;
    components()
        .into_iter()
        .map(|component| {
            let folder = bin.join(format!("{}-{}", component.output, key(&component)?));
            Ok((component, folder))
        })
        .collect()
}

/// A hash of the sources, the pinned versions and the flags.
fn key(component: &Component) -> Result<String> {
    let folder = paths::cluster_sources().join(component.module);
    let mut sources: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "go" || end == "mod" || end == "sum")
        })
        .collect();
    sources.sort();
    let mut hash = Sha256::new();
    for source in sources {
        hash.update(
            fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?,
        );
    }
    hash.update([component.package, component.tags, &component.variables].join("\n"));
    for (module, folder, name) in component.assets {
        hash.update([*module, *folder, *name].join("\n"));
    }
    for patch in component.patches.iter().flat_map(|(_, patches)| *patches) {
        hash.update([patch.file, patch.text, patch.instead].join("\n"));
    }
    Ok(hex(&hash.finalize())[..12].to_owned())
}

fn build(component: &Component, folder: &Path) -> Result<()> {
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(paths::cluster_sources().join(component.module))
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-buildvcs=false");
        go
    };
    let module_folder = |module: &str| -> Result<PathBuf> {
        run(go().args(["mod", "download", module]))?;
        Ok(run(go().args(["list", "-m", "-f", "{{.Dir}}", module]))?
            .trim()
            .into())
    };
    let mut build = go();
    build.args(["build", "-trimpath", "-tags", component.tags]);
    build.args(["-ldflags", format!("-s -w {}", component.variables).trim()]);
    if let Some((module, patches)) = component.patches {
        let modules = patched(
            component,
            module,
            patches,
            &module_folder(module)?,
            &unfinished,
        )?;
        build.arg("-modfile").arg(modules);
    }
    run(build
        .arg("-o")
        .arg(unfinished.join(component.output))
        .arg(component.package))?;
    for (module, path, name) in component.assets {
        copy_folder(&module_folder(module)?.join(path), &unfinished.join(name))?;
    }
    if component.patches.is_some() {
        fs::remove_dir_all(unfinished.join("source"))?;
    }
    if component.output == "kubernetes" {
        for program in KUBERNETES_PROGRAMS {
            symlink("kubernetes", unfinished.join(program))?;
        }
    }
    fs::rename(&unfinished, folder)?;
    Ok(())
}

/// Makes a patched copy of the module, and a `go.mod` that names it. (Go allows no
/// overlay for files in its module cache.)
fn patched(
    component: &Component,
    name: &str,
    patches: &[Patch],
    module: &Path,
    folder: &Path,
) -> Result<PathBuf> {
    let copy = folder.join("source");
    copy_folder(module, &copy)?;
    for patch in patches {
        let file = copy.join(patch.file);
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let (before, rest) = text
            .split_once(patch.text)
            .with_context(|| format!("{} does not have {:?}", file.display(), patch.text))?;
        fs::write(&file, [before, patch.instead, rest].concat())?;
    }
    let pinned = paths::cluster_sources().join(component.module);
    let modules = fs::read_to_string(pinned.join("go.mod"))?;
    let replaced = folder.join("patched.mod");
    fs::write(
        &replaced,
        format!("{modules}\nreplace {name} => {}\n", copy.display()),
    )?;
    fs::copy(pinned.join("go.sum"), folder.join("patched.sum"))?;
    Ok(replaced)
}

/// Copies a module's folder, whose files are read-only, to writable ones.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp")
        .arg("-rL")
        .arg("--no-preserve=mode,ownership")
        .arg(from)
        .arg(to))
    .map(drop)
}

fn link_for_people(tools: &Tools) -> Result<()> {
    let links = links()?;
    for (name, component) in [
        ("kubectl", "kubernetes"),
        ("helm", "helm"),
        ("cilium-dbg", "cilium-dbg"),
    ] {
        let Ok(target) = tools.folder(component).map(|folder| folder.join(name)) else {
            continue;
        };
        let link = links.join(name);
        if fs::read_link(&link).is_ok_and(|current| current == target) {
            continue;
        }
        // Another run may make the same link at the same time.
        let fresh = links.join(format!("{name}.{}", std::process::id()));
        symlink(&target, &fresh)?;
        fs::rename(&fresh, &link)?;
    }
    Ok(())
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_flags() {
        let all = components();
        let keys: std::collections::BTreeSet<_> = all
            .iter()
            .map(|component| key(component).unwrap())
            .collect();
        assert_eq!(keys.len(), all.len());
    }
}
