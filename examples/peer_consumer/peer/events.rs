//! The event file: JSON lines, each written at once.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use shardkeeper::{
    Error, ErrorKind, Result,
    clock::{Clock as _, SystemClock},
    worker::WorkerHandle,
};

use super::calls::CallCounter;

/// Cheap handle to the file of this process.
#[derive(Debug, Clone)]
pub(super) struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    worker: String,
    file: Mutex<File>,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Events {
    /// Appends to a file, which is made if missing.
    ///
    /// # Errors
    /// `InvalidInput` when it cannot be opened.
    pub(super) fn append_to(path: &Path, worker: &str) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, format!("cannot write the event file {}: name another with --events", path.display()))
                .with_source(e)
        })?;
        Ok(Self(Arc::new(Inner {
            worker: worker.to_owned(),
            file: Mutex::new(file),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })))
    }

    /// Writes an event with the fields of an object.
    pub(super) fn write(&self, kind: &str, fields: Value) {
        let mut line = json!({ "t": SystemClock.now().as_millis(), "worker": self.0.worker, "ev": kind });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        let text = format!("{line}\n");
        let written = self.0.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
        if let Err(error) = written {
            tracing::error!(%error, "cannot write the event file");
        }
    }

    /// Counts records handed over.
    pub(super) fn handed_over(&self, records: u64, bytes: u64) {
        self.0.records.fetch_add(records, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Writes the counters, all cumulative.
    pub(super) fn calls(&self, counter: &CallCounter, handle: &WorkerHandle) {
        let counts = counter.snapshot();
        let status = handle.status();
        self.write(
            "calls",
            json!({
                "records": self.0.records.load(Ordering::Relaxed),
                "bytes": self.0.bytes.load(Ordering::Relaxed),
                "calls": counts.calls,
                "errors": counts.errors,
                "leading": status.coordination.leading,
                "held": status.coordination.leases_held,
                "expelled": status.coordination.times_expelled,
            }),
        );
    }
}
