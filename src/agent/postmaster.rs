//! The PostgreSQL server as a child process, and the duties of a process with id 1.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::process::ChildStderr;

use super::children::Children;

/// A server that was started and not reaped yet.
#[derive(Debug)]
pub struct Postmaster {
    pid: Pid,
}

impl Postmaster {
    /// Starts the server with the given configuration; its log comes out of the returned pipe.
    pub fn start(bin_dir: &Path, config: &Path) -> io::Result<(Self, ChildStderr)> {
        // Not tokio's child: this process must reap every orphan itself, and two reapers would race.
        let mut child = Command::new(bin_dir.join("postgres"))
            .arg("-c")
            .arg(format!("config_file={}", config.display()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("the log pipe is missing"))?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok((
            Self {
                pid: Pid::from_raw(pid),
            },
            ChildStderr::from_std(stderr)?,
        ))
    }

    /// Reads configuration and certificates again.
    pub fn reload(&self) -> io::Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Fast shutdown: sessions are ended, everything is written, nothing has to be recovered.
    pub fn stop(&self) -> io::Result<()> {
        self.signal(Signal::SIGINT)
    }

    /// Immediate shutdown: recovers from the log at the next start.
    pub fn abort(&self) -> io::Result<()> {
        self.signal(Signal::SIGQUIT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        kill(self.pid, signal).map_err(io::Error::from)
    }

    /// Reaps every child that has ended, adopted orphans too, and returns the server's outcome once it is among them.
    pub fn reap(&self, children: &Children) -> Option<ExitStatus> {
        let mut outcome = None;
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ExitStatus::from_raw(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return outcome,
                Ok(_) | Err(_) => continue,
            };
            if pid == self.pid {
                outcome = Some(status);
            } else {
                children.ended(pid, status);
            }
        }
    }
}
