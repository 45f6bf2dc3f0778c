//! A child process that does not outlive its experiment.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use super::{Result, until};

/// A running child; killed when dropped. Output goes into files next to its events.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a process left when it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `command` with its output in `dir`.
    pub(crate) fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        // The child sees the end of its stdin when this process dies, however it dies.
        command.stdin(Stdio::piped()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let child = command.spawn().map_err(|e| format!("cannot start {name}: {e}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.stdout)?)
    }

    pub(crate) fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stderr)?).into_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result {
        kill_process(Pid::from_child(&self.child), signal).map_err(|e| format!("cannot signal {}: {e}", self.name).into())
    }

    /// What it left, if it has ended.
    pub(crate) fn finished(&mut self) -> Result<Option<Finished>> {
        match self.child.try_wait()? {
            Some(status) => Ok(Some(Finished { status, stderr: self.stderr()? })),
            None => Ok(None),
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> Result<Finished> {
        let what = format!("{} ends", self.name);
        until(&what, || self.finished()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; a stopped process dies of this as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
