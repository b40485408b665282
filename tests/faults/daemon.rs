//! Programs beside the test, which end when it does, however it ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A shell that holds a program as long as our end of its standard input is open. It is not asked to end: an API server
/// whose etcd went a moment before never does.
const HOLD: &str = "\"$@\" & program=$!; read line; kill -KILL $program; wait $program; [ -z \"$REMOVE\" ] || rm -rf \"$REMOVE\"";

/// A running program.
pub struct Daemon {
    name: String,
    log: PathBuf,
    shell: Child,
}

impl Daemon {
    /// Starts a program whose log goes into this folder.
    pub fn start(program: &Path, arguments: &[String], folder: &Path) -> Self {
        Self::hold(program, arguments, folder, "")
    }

    /// Starts a program, and removes the folder when it has ended.
    pub fn start_last(program: &Path, arguments: &[String], folder: &Path) -> Self {
        Self::hold(program, arguments, folder, folder.to_str().unwrap())
    }

    fn hold(program: &Path, arguments: &[String], folder: &Path, remove: &str) -> Self {
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let shell = Command::new("sh")
            .args(["-c", HOLD, "sh"])
            .arg(program)
            .args(arguments)
            .env("REMOVE", remove)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("a shell can be started");
        Self { name, log, shell }
    }

    /// Waits until it is ready.
    pub async fn wait(&mut self, ready: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(2);
        while !ready().await {
            let ended = self.shell.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{} does not come up ({ended:?}):\n{}",
                self.name,
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned()
    }
}
