//! A lease table in a SQLite file, shared by the processes of one machine.
//!
//! ```text
//! LeaseTable calls ──bounded channel──▶ one thread per table, one connection ──▶ file (WAL) ◀── other processes
//! ```
//!
//! SQLite blocks its caller, mostly for well under a millisecond, but for as long as the disk or another process
//! likes. So a thread of its own talks to it, and the runtime only waits for the answer, with a time limit.

mod row;
mod schema;
mod thread;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use self::thread::FileThread;
use super::{Lease, LeaseKey, LeaseTable, Signal, SkippedRow, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome};
use crate::{
    error::{Error, ErrorKind, Result},
    types::WorkerId,
};

/// Time limit of one call, unless [`SqliteLeaseTable::with_timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// A call that waited for others must still have time to run.
const BUSY_SHARE: f64 = 0.75;

/// A lease table in a SQLite file: shared by all processes of a machine that name the same path. Clones share one
/// connection. The file has to be on a local disk; network file systems do not lock reliably.
///
/// A process that is stopped in the middle of a write (SIGSTOP, a debugger, a suspended container) keeps the file's write
/// lock. Until it goes on or ends, writes of all others fail with `ResourceInUse`, and their heartbeats with them: then
/// processing halts, nothing is lost, and it goes on when the lock is free. The window is the sync of one write to disk.
///
/// A write that was answered is on disk (`synchronous = FULL`), so that a fencing token never goes back, not even
/// when the power fails.
///
/// # Cancel safety
/// A call whose future is dropped is not carried out if it has not begun; else its outcome is unknown, as after a
/// timeout.
///
/// Calls wait for a thread, which tokio does not see: under paused time they may time out at once.
#[derive(Clone)]
pub struct SqliteLeaseTable(FileThread);

impl SqliteLeaseTable {
    /// A table in this file. It is opened by the first call, and created by [`LeaseTable::initialize`].
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(FileThread::new(path.into(), DEFAULT_TIMEOUT, DEFAULT_TIMEOUT.mul_f64(BUSY_SHARE)))
    }

    /// Sets the time limit of one call; keep it well below the lease duration. Three quarters of it may pass in waiting
    /// for other processes that write to the file.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self(FileThread::new(self.path().to_owned(), timeout, timeout.mul_f64(BUSY_SHARE)))
    }

    /// Sets how long a write waits for other processes that write to the file, before it fails with `ResourceInUse`.
    #[must_use]
    pub fn with_busy_timeout(self, busy_timeout: Duration) -> Self {
        Self(FileThread::new(self.path().to_owned(), self.0.timeout(), busy_timeout))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs one statement whose condition may not hold.
    async fn write(&self, f: impl FnOnce(&mut Connection) -> Result<usize, row::RowError> + Send + 'static) -> Result<WriteOutcome> {
        let changed = self.0.call(f).await?;
        Ok(if changed == 0 { WriteOutcome::Conflict } else { WriteOutcome::Applied })
    }
}

impl fmt::Debug for SqliteLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteLeaseTable").field(&self.path()).finish()
    }
}

impl fmt::Display for SqliteLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite lease table {}", self.path().display())
    }
}

#[async_trait]
impl LeaseTable for SqliteLeaseTable {
    async fn initialize(&self) -> Result<()> {
        self.0.initialize().await
    }

    async fn scan(&self) -> Result<TableScan> {
        self.0
            .call(|connection| {
                let mut scan = TableScan::default();
                // One transaction, so that signals belong to the rows they are read with.
                let tx = connection.transaction()?;
                {
                    let mut statement = tx.prepare_cached(row::SELECT_LEASES)?;
                    let mut rows = statement.query([])?;
                    while let Some(row) = rows.next()? {
                        match row::to_lease(row) {
                            Ok(lease) => scan.leases.push(lease),
                            Err(error) => scan.skipped.push(SkippedRow { key: row.get("lease_key")?, reason: error.reason()? }),
                        }
                    }
                    let mut signals: BTreeMap<String, Vec<String>> = BTreeMap::new();
                    let mut statement = tx.prepare_cached("SELECT worker_id, signal FROM signals")?;
                    let mut rows = statement.query([])?;
                    while let Some(row) = rows.next()? {
                        signals.entry(row.get(0)?).or_default().push(row.get(1)?);
                    }
                    let mut statement = tx.prepare_cached(row::SELECT_WORKERS)?;
                    let mut rows = statement.query([])?;
                    while let Some(row) = rows.next()? {
                        let id: String = row.get("worker_id")?;
                        let (worker, reason) = row::to_worker_or_reason(row, &id, &signals.remove(&id).unwrap_or_default())?;
                        scan.workers.extend(worker);
                        scan.skipped.extend(reason.map(|reason| SkippedRow { key: id, reason }));
                    }
                }
                tx.commit()?;
                Ok(scan)
            })
            .await
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        let wanted = key.clone();
        let found: Option<Result<Lease, String>> = self
            .0
            .call(move |connection| {
                let mut statement = connection.prepare_cached(row::SELECT_LEASE)?;
                let mut rows = statement.query([wanted.as_str()])?;
                let Some(row) = rows.next()? else { return Ok(None) };
                match row::to_lease(row) {
                    Ok(lease) => Ok(Some(Ok(lease))),
                    Err(error) => Ok(Some(Err(error.reason()?))),
                }
            })
            .await?;
        found.transpose().map_err(|reason| Error::new(ErrorKind::InvalidData, format!("lease row {key} of {self}: {reason}")))
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        let lease = lease.clone();
        self.write(move |connection| row::insert_lease(connection, &lease)).await
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        next.assert_succeeds(current);
        let next = next.clone();
        self.write(move |connection| row::update_lease(connection, &next)).await
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        let (key, counter) = (current.key.clone(), current.counter);
        self.write(move |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM leases WHERE lease_key = ?1 AND lease_counter = ?2")?;
            Ok(delete.execute(params![key.as_str(), row::integer("lease counter", counter)?])?)
        })
        .await
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        let ids: std::collections::BTreeSet<WorkerId> = ids.iter().cloned().collect();
        self.0
            .call(move |connection| {
                let tx = connection.transaction()?;
                let mut found = Vec::with_capacity(ids.len());
                for id in ids {
                    found.extend(row::find_worker(&tx, &id)?);
                }
                Ok(found)
            })
            .await
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        let row = row.clone();
        self.write(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = row::put_worker(&tx, &row, expected)?;
            if changed > 0 {
                tx.prepare_cached("DELETE FROM signals WHERE worker_id = ?1")?.execute([row.id.as_str()])?;
                row::add_signals(&tx, &row.id, &row.signals)?;
            }
            tx.commit()?;
            Ok(changed)
        })
        .await
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        let (id, update) = (id.clone(), update.clone());
        self.write(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = row::renew_worker(&tx, &id, expected, &update)?;
            if changed > 0 {
                let mut delete = tx.prepare_cached("DELETE FROM signals WHERE worker_id = ?1 AND signal = ?2")?;
                for signal in &update.handled {
                    delete.execute(params![id.as_str(), signal.to_text()])?;
                }
            }
            tx.commit()?;
            Ok(changed)
        })
        .await
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        let (to, signals) = (to.clone(), signals.to_vec());
        self.write(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let there = tx.query_row("SELECT 1 FROM workers WHERE worker_id = ?1", [to.as_str()], |_| Ok(())).optional()?;
            if there.is_some() {
                row::add_signals(&tx, &to, &signals)?;
            }
            tx.commit()?;
            Ok(usize::from(there.is_some()))
        })
        .await
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        let id = id.clone();
        // The foreign key takes the signals along.
        self.write(move |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM workers WHERE worker_id = ?1 AND instance = ?2 AND heartbeat = ?3")?;
            Ok(delete.execute(params![id.as_str(), expected.instance.to_string(), row::integer("heartbeat", expected.heartbeat)?])?)
        })
        .await
    }
}
