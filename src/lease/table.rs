//! The lease table as a trait.

use std::fmt::{Debug, Display};

use async_trait::async_trait;

use super::{Lease, LeaseKey, Signal, WorkerRow, WorkerUpdate, WorkerVersion};
use crate::{
    error::Result,
    types::{Timestamp, WorkerId},
};

/// Outcome of a conditional write that was answered. A lost race is a value; an error means that the write was
/// wrong, or that its outcome is unknown (see [`Error::has_no_side_effects`](crate::Error::has_no_side_effects)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum WriteOutcome {
    /// The row is now what was asked for.
    Applied,
    /// The row was not in the expected state; nothing was written. After a retried or timed-out attempt this can
    /// also be the echo of an own write that did take effect: read back and compare the write id.
    Conflict,
}

/// A worker row written by another library, such as the Java KCL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignWorker {
    /// Its id.
    pub id: String,
    /// When it last wrote, by its own clock.
    pub last_update: Option<Timestamp>,
}

/// The lock item by which Java workers elect their leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderLock {
    /// Who holds it.
    pub owner: String,
    /// Changes with each heartbeat of the holder.
    pub version: String,
}

/// A row that could not be read as what it claims to be. It is left alone, and reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRow {
    /// Its primary key.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// All rows of the table.
#[derive(Debug, Clone, Default)]
pub struct TableScan {
    /// Leases, ordered by key.
    pub leases: Vec<Lease>,
    /// Workers of this library, ordered by id; those whose rows cannot be read among them, as
    /// [`WorkerRow::unreadable`].
    pub workers: Vec<WorkerRow>,
    /// Workers of other libraries.
    pub foreign_workers: Vec<ForeignWorker>,
    /// The Java leader's lock, if there is one.
    pub leader_lock: Option<LeaderLock>,
    /// Rows that could not be read.
    pub skipped: Vec<SkippedRow>,
}

/// Leases and workers of one application, shared by all of its workers.
///
/// All reads are consistent: they see every write answered before they were sent. Each write is atomic and
/// conditional on what its documentation names. Implementations make one attempt per call, with an explicit time
/// limit well below the lease duration; retries are the caller's. Every implementation and wrapper passes the
/// suite in `lease::conformance`.
///
/// `Display` names the table for logs and errors, such as `DynamoDB table clicks-app`.
#[async_trait]
pub trait LeaseTable: Debug + Display + Send + Sync + 'static {
    /// Makes the table if it does not exist, and waits until it can be used. Idempotent, safe to call from many
    /// workers at once.
    ///
    /// # Errors
    /// `Mismatch` when something else has that name; `AccessDenied`; the retryable kinds.
    async fn initialize(&self) -> Result<()>;

    /// Reads all rows. Not a snapshot: rows written meanwhile may show either state. Where it takes several requests, the
    /// time limit is that of each.
    async fn scan(&self) -> Result<TableScan>;

    /// Reads one lease.
    ///
    /// # Errors
    /// `InvalidData` for a row that cannot be read.
    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>>;

    /// Writes a new lease, if no row has its key.
    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome>;

    /// Replaces `current` by `next`, if the row still has the key and counter of `current`. `next` is a transition
    /// of `current` (see [`Lease`]): its counter is greater by one and its write id is new.
    ///
    /// # Panics
    /// When `next` is no successor of `current`.
    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome>;

    /// Deletes the row, if it still has the counter of `current`. A row already gone is a conflict.
    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome>;

    /// Reads the rows of these workers; those without one are left out. Rows that are there and cannot be read are
    /// returned as [`WorkerRow::unreadable`], since a worker without a row counts as dead. Ordered by id.
    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>>;

    /// Writes a whole worker row, if there is none with its id (`expected` is `None`), or if the one there has
    /// exactly the expected version.
    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome>;

    /// Renews: raises the heartbeat of the row by one and applies `update`, if the row has exactly the expected
    /// version. Signals that arrived meanwhile stay, except those that `update` names as handled.
    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome>;

    /// Adds to a worker's set of signals, if it has a row. Does not touch its heartbeat. Adding a signal that is
    /// there already is `Applied`.
    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome>;

    /// Deletes a worker's row, if it has exactly the expected version: to leave, or to declare it dead. A row already
    /// gone is a conflict.
    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome>;
}
