//! The programs in the images, compiled and stripped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, run};

/// How the programs in the images are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Cargo's `dev` profile: quick to build.
    Dev,
    /// Cargo's `release` profile.
    Release,
}

/// Compiles `granary` and `tenant-template` and returns the stripped programs.
pub fn build(profile: Profile) -> Result<[PathBuf; 2]> {
    let mut cargo = cargo();
    cargo.args([
        "build",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    cargo.args([
        // Everything, as every other command does: another selection would compile the dependencies again.
        "--workspace",
        "--bins",
    ]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let output = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo build failed ({})", output.status);
    }
    let built = executables(&String::from_utf8_lossy(&output.stdout));
    let find = |name: &str| {
        let program = built
            .iter()
            .find(|path| path.file_name().is_some_and(|file| file == name));
        strip(program.with_context(|| format!("cargo built no program {name}"))?)
    };
    Ok([find("granary")?, find("tenant-template")?])
}

/// Paths of the programs that Cargo's messages name.
fn executables(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["executable"]
                .as_str()
                .map(PathBuf::from)
        })
        .collect()
}

/// Symbols and line tables out, into a copy beside the program, unless that is newer.
fn strip(program: &Path) -> Result<PathBuf> {
    let stripped = program.with_extension("stripped");
    let time = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    if !time(&stripped).is_ok_and(|stripped| time(program).is_ok_and(|program| stripped > program))
    {
        run(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
        fs::set_permissions(&stripped, fs::Permissions::from_mode(0o755))?;
    }
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnoise\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/granary\"}\n{\"reason\":\"build-finished\"}";
        assert_eq!(executables(messages), [PathBuf::from("/t/debug/granary")]);
    }
}
