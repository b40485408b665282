//! Running programs to their end, with errors that say which program failed and
//! what it said last.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How many of a failed program's last lines its error shows.
const SHOWN_LINES: usize = 25;

/// Runs a program and returns its stdout; what it said is in the error when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        bail!(
            "`{shown}` failed ({}):\n{}",
            output.status,
            last_lines(&said, SHOWN_LINES)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program whose output the user sees as it comes.
pub fn run_visibly(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// The `cargo` that runs this program, at the repository's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::paths::repository());
    cargo
}

/// Whether a program is found in `PATH` or the system's own folders.
pub fn exists(program: &str) -> bool {
    [
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/usr/local/bin",
        "/usr/local/sbin",
    ]
    .into_iter()
    .map(String::from)
    .chain(
        std::env::var("PATH")
            .unwrap_or_default()
            .split(':')
            .map(String::from),
    )
    .any(|folder| Path::new(&folder).join(program).exists())
}

/// Asks every 50 ms until `done` says yes or the deadline passes.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if done()? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(anyhow!("{what}: not within {} s", limit.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The command as a person would type it, cut when it is long.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    let line = words.join(" ");
    if line.chars().count() > 160 {
        line.chars().take(160).chain("…".chars()).collect()
    } else {
        line
    }
}

/// `tar` of entries of a folder, which the caller names, that depends on nothing but their content.
pub fn tar(folder: &Path, archive: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-C",
    ])
    .arg(folder)
    .arg("-cf")
    .arg(archive);
    tar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_program_and_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("one") && error.contains("two"),
            "{error}"
        );
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let error = wait_until("the moon", Duration::from_millis(1), || Ok(false)).unwrap_err();
        assert!(error.to_string().contains("the moon"));
        assert!(wait_until("now", Duration::ZERO, || Ok(true)).is_ok());
    }
}
