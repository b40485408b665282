//! Waits until a pod's keys are there, so that the app is started with them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::args::KeysReadyArgs;
use super::folder::KeyFolder;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs `granary agent keys-ready`.
///
/// # Errors
/// Where the keys do not come in time.
pub async fn wait(args: KeysReadyArgs) -> anyhow::Result<()> {
    let folder = KeyFolder::new(&args.dir, args.purpose);
    let deadline = Instant::now() + Duration::from_secs(args.timeout_seconds);
    while folder.active().is_none() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "no keys of purpose {} in {} after {} s; the log of `granary agent keys` says why",
            args.purpose,
            args.dir.display(),
            args.timeout_seconds
        );
        sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Purpose;

    #[tokio::test]
    async fn it_waits_for_the_whole_set_and_gives_up_in_time() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let args = KeysReadyArgs {
            purpose: Purpose::App,
            dir: dir.path().to_owned(),
            timeout_seconds: 0,
        };
        let error = wait(args.clone()).await.unwrap_err().to_string();
        assert!(error.contains("after 0 s"), "{error}");
        std::fs::create_dir(dir.path().join("app")).unwrap();
        std::fs::write(dir.path().join("app/active"), "1").unwrap();
        assert!(
            wait(args.clone()).await.is_err(),
            "the key itself is missing"
        );
        std::fs::write(dir.path().join("app/1"), [1; 32]).unwrap();
        wait(args).await.unwrap();
    }
}
