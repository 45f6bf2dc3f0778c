//! A lease table in the memory of one process: for tests, simulations and programs whose workers share a process.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    ForeignWorker, LeaderLock, Lease, LeaseKey, LeaseTable, Signal, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome,
};
use crate::{error::Result, types::WorkerId};

/// How often each operation of a table was called, whatever its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OperationCounts {
    /// Calls of [`LeaseTable::scan`].
    pub scan: u64,
    /// Calls of [`LeaseTable::get_lease`].
    pub get_lease: u64,
    /// Calls of [`LeaseTable::create_lease`].
    pub create_lease: u64,
    /// Calls of [`LeaseTable::update_lease`].
    pub update_lease: u64,
    /// Calls of [`LeaseTable::delete_lease`].
    pub delete_lease: u64,
    /// Calls of [`LeaseTable::get_workers`].
    pub get_workers: u64,
    /// Calls of [`LeaseTable::put_worker`].
    pub put_worker: u64,
    /// Calls of [`LeaseTable::heartbeat`].
    pub heartbeat: u64,
    /// Calls of [`LeaseTable::signal`].
    pub signal: u64,
    /// Calls of [`LeaseTable::delete_worker`].
    pub delete_worker: u64,
}

impl OperationCounts {
    /// Calls that read.
    #[must_use]
    pub const fn reads(&self) -> u64 {
        self.scan + self.get_lease + self.get_workers
    }

    /// Calls that write, conflicts included.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.create_lease + self.update_lease + self.delete_lease + self.put_worker + self.heartbeat + self.signal + self.delete_worker
    }

    /// The calls since `earlier`, a value of the same table.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            scan: self.scan - earlier.scan,
            get_lease: self.get_lease - earlier.get_lease,
            create_lease: self.create_lease - earlier.create_lease,
            update_lease: self.update_lease - earlier.update_lease,
            delete_lease: self.delete_lease - earlier.delete_lease,
            get_workers: self.get_workers - earlier.get_workers,
            put_worker: self.put_worker - earlier.put_worker,
            heartbeat: self.heartbeat - earlier.heartbeat,
            signal: self.signal - earlier.signal,
            delete_worker: self.delete_worker - earlier.delete_worker,
        }
    }
}

#[derive(Debug, Default)]
struct Rows {
    leases: BTreeMap<LeaseKey, Lease>,
    workers: BTreeMap<WorkerId, WorkerRow>,
    foreign_workers: BTreeMap<String, ForeignWorker>,
    leader_lock: Option<LeaderLock>,
    counts: OperationCounts,
}

impl Rows {
    fn scan(&self) -> TableScan {
        TableScan {
            leases: self.leases.values().cloned().collect(),
            workers: self.workers.values().cloned().collect(),
            foreign_workers: self.foreign_workers.values().cloned().collect(),
            leader_lock: self.leader_lock.clone(),
            skipped: Vec::new(),
        }
    }

    fn has_worker(&self, id: &WorkerId, version: WorkerVersion) -> bool {
        self.workers.get(id).is_some_and(|row| row.version == version)
    }
}

/// A lease table in memory. Clones share the rows; they are gone with the last clone.
///
/// Every call is answered at once, without waiting, and never fails. It counts its calls, see
/// [`MemoryLeaseTable::counts`].
#[derive(Debug, Clone, Default)]
pub struct MemoryLeaseTable(Arc<Mutex<Rows>>);

impl MemoryLeaseTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // A panic leaves the rows whole, since each change is a single insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls made so far through all clones.
    #[must_use]
    pub fn counts(&self) -> OperationCounts {
        self.rows().counts
    }

    /// All rows at one moment; not counted as a call.
    #[must_use]
    pub fn snapshot(&self) -> TableScan {
        self.rows().scan()
    }

    /// Pretends that a worker of another library has a row, as the Java KCL would; replaces one of the same id.
    pub fn put_foreign_worker(&self, worker: ForeignWorker) {
        self.rows().foreign_workers.insert(worker.id.clone(), worker);
    }

    /// Pretends that a Java worker holds the leader lock, or that none does.
    pub fn set_leader_lock(&self, lock: Option<LeaderLock>) {
        self.rows().leader_lock = lock;
    }

    fn read<T>(&self, counter: fn(&mut OperationCounts) -> &mut u64, f: impl FnOnce(&Rows) -> T) -> Result<T> {
        let mut rows = self.rows();
        *counter(&mut rows.counts) += 1;
        Ok(f(&rows))
    }

    /// Runs a write; `f` says whether its condition held.
    fn write(&self, counter: fn(&mut OperationCounts) -> &mut u64, f: impl FnOnce(&mut Rows) -> bool) -> Result<WriteOutcome> {
        let mut rows = self.rows();
        *counter(&mut rows.counts) += 1;
        Ok(if f(&mut rows) { WriteOutcome::Applied } else { WriteOutcome::Conflict })
    }
}

impl fmt::Display for MemoryLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lease table in memory")
    }
}

#[async_trait]
impl LeaseTable for MemoryLeaseTable {
    async fn initialize(&self) -> Result<()> {
        Ok(())
    }

    async fn scan(&self) -> Result<TableScan> {
        self.read(|c| &mut c.scan, Rows::scan)
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        self.read(|c| &mut c.get_lease, |rows| rows.leases.get(key).cloned())
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        self.write(
            |c| &mut c.create_lease,
            |rows| {
                let free = !rows.leases.contains_key(&lease.key);
                if free {
                    rows.leases.insert(lease.key.clone(), lease.clone());
                }
                free
            },
        )
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        next.assert_succeeds(current);
        self.write(
            |c| &mut c.update_lease,
            |rows| match rows.leases.get_mut(&current.key) {
                Some(row) if row.counter == current.counter => {
                    *row = next.clone();
                    true
                }
                _ => false,
            },
        )
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        self.write(
            |c| &mut c.delete_lease,
            |rows| {
                let there = rows.leases.get(&current.key).is_some_and(|row| row.counter == current.counter);
                there && rows.leases.remove(&current.key).is_some()
            },
        )
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        self.read(
            |c| &mut c.get_workers,
            |rows| {
                let found: BTreeMap<_, _> = ids.iter().filter_map(|id| rows.workers.get_key_value(id)).collect();
                found.into_values().cloned().collect()
            },
        )
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        self.write(
            |c| &mut c.put_worker,
            |rows| {
                let as_expected = match expected {
                    None => !rows.workers.contains_key(&row.id) && !rows.foreign_workers.contains_key(row.id.as_str()),
                    Some(version) => rows.has_worker(&row.id, version),
                };
                if as_expected {
                    rows.workers.insert(row.id.clone(), row.clone());
                }
                as_expected
            },
        )
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        self.write(
            |c| &mut c.heartbeat,
            |rows| match rows.workers.get_mut(id) {
                Some(row) if row.version == expected => {
                    *row = row.renewed(update);
                    true
                }
                _ => false,
            },
        )
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        self.write(
            |c| &mut c.signal,
            |rows| {
                let row = rows.workers.get_mut(to);
                row.map(|row| row.signals.extend(signals.iter().cloned())).is_some()
            },
        )
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        self.write(|c| &mut c.delete_worker, |rows| rows.has_worker(id, expected) && rows.workers.remove(id).is_some())
    }
}
