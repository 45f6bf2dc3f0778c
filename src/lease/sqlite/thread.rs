//! The thread that owns the connection.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    row::RowError,
    schema::{from_sqlite, open},
};
use crate::error::{Error, ErrorKind, Result};

/// Calls that wait for the thread; more callers wait for a place.
const QUEUE: usize = 64;

/// How often a new file is set up anew, when other processes do the same at that moment.
const SET_UP_ATTEMPTS: u32 = 20;

type Job = Box<dyn FnOnce(&mut File) + Send>;

/// Cheap handle to a thread that owns a connection to one file. The thread starts with the first call, and ends
/// with the last handle.
#[derive(Clone)]
pub(super) struct FileThread(Arc<Inner>);

struct Inner {
    path: PathBuf,
    timeout: Duration,
    busy_timeout: Duration,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl FileThread {
    pub(super) fn new(path: PathBuf, timeout: Duration, busy_timeout: Duration) -> Self {
        Self(Arc::new(Inner { path, timeout, busy_timeout, jobs: Mutex::new(None) }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("lease table file {} {what}", self.0.path.display()))
    }

    fn jobs(&self) -> Result<mpsc::Sender<Job>> {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic ends the thread; the next call starts another.
        if let Some(running) = jobs.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(running.clone());
        }
        let (sender, mut receiver) = mpsc::channel::<Job>(QUEUE);
        let mut file = File { path: self.0.path.clone(), busy_timeout: self.0.busy_timeout, open: None };
        let run = move || {
            while let Some(job) = receiver.blocking_recv() {
                job(&mut file);
            }
        };
        std::thread::Builder::new()
            .name("lease-table".to_owned())
            .spawn(run)
            .map_err(|error| self.error(ErrorKind::Unavailable, "gets no thread of its own").with_source(error))?;
        *jobs = Some(sender.clone());
        Ok(sender)
    }

    async fn run<T: Send + 'static>(&self, f: impl FnOnce(&mut File) -> Result<T> + Send + 'static) -> Result<T> {
        let jobs = self.jobs()?;
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            // Nobody waits any more: better not to write at all than late.
            if !reply.is_closed() {
                // The caller may still leave before the answer arrives.
                let _left = reply.send(f(file));
            }
        });
        let answered = tokio::time::timeout(self.0.timeout, async {
            jobs.send(job).await.ok()?;
            answer.await.ok()
        });
        match answered.await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(self.error(ErrorKind::Internal, "lost its thread to a panic")),
            Err(_) => Err(self.error(ErrorKind::Timeout, &format!("did not answer within {:?}", self.0.timeout))),
        }
    }

    /// Runs `f` with the connection to a file that was set up before.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Connection) -> Result<T, RowError> + Send + 'static,
    ) -> Result<T> {
        self.run(move |file| file.with(false, f)).await
    }

    /// Creates the file and brings it to the present version.
    pub(super) async fn initialize(&self) -> Result<()> {
        let mut attempt = 1;
        loop {
            match self.run(|file| file.with(true, |_| Ok(()))).await {
                // SQLite does not wait for others that switch a new file to WAL at the same time.
                Err(error) if error.kind() == ErrorKind::ResourceInUse && attempt < SET_UP_ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }
}

/// What tells a file from another that later has its name.
type FileId = (u64, u64);

struct File {
    path: PathBuf,
    busy_timeout: Duration,
    open: Option<(Connection, Option<FileId>)>,
}

impl File {
    fn with<T>(&mut self, create: bool, f: impl FnOnce(&mut Connection) -> Result<T, RowError>) -> Result<T> {
        if self.open.as_ref().is_some_and(|(_, id)| *id != file_id(&self.path)) {
            self.open = None;
            // Processes that go on with the old file and those that start with a new one would not see each other.
            let message =
                format!("lease table file {} was removed or replaced while in use: restart all workers that use it", self.path.display());
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        let (connection, _) = match &mut self.open {
            Some(open) => open,
            none => {
                let connection = open(&self.path, create, self.busy_timeout)?;
                none.insert((connection, file_id(&self.path)))
            }
        };
        f(connection).map_err(|error| match error {
            RowError::Sqlite(error) => from_sqlite(&self.path, error),
            RowError::Value(reason) => Error::new(ErrorKind::InvalidInput, reason),
        })
    }
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn file_id(_path: &Path) -> Option<FileId> {
    None
}
