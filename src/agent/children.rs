//! Children besides the server. The agent reaps every process that ends, as a process with id 1 must, so nobody else can
//! wait for one: whoever starts it here is told how it ended.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::Pid;
use tokio::sync::oneshot;

/// Those whose end somebody waits for.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<HashMap<Pid, oneshot::Sender<ExitStatus>>>>);

impl Children {
    /// Starts one; the receiver hears how it ended. Its `wait` must not be called.
    pub fn spawn(
        &self,
        command: &mut Command,
    ) -> io::Result<(Child, oneshot::Receiver<ExitStatus>)> {
        // Held until it is known, so that it cannot be reaped before.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (ended, end) = oneshot::channel();
        waiting.insert(pid, ended);
        Ok((child, end))
    }

    /// This process was reaped.
    pub fn ended(&self, pid: Pid, status: ExitStatus) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = waiting.remove(&pid) {
            // Whoever waited may have given up.
            let _ = ended.send(status);
        }
    }
}
