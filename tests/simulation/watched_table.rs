//! The lease table as it is seen from both ends: what leaves a worker, and what takes effect.

use std::{
    fmt::{self, Display},
    sync::Arc,
};

use async_trait::async_trait;
use shardkeeper::{
    Result,
    lease::{Lease, LeaseKey, LeaseTable, Signal, SkippedRow, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome},
    types::WorkerId,
};

use crate::{
    event::{Event, NodeId},
    world::World,
};

/// Which end of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At the worker: requests leave, answers arrive.
    Worker,
    /// At the table: requests take effect.
    Table,
}

/// Reports writes to the world.
pub(crate) struct WatchedTable {
    table: Arc<dyn LeaseTable>,
    world: Arc<World>,
    node: NodeId,
    end: End,
    unreadable_rows: bool,
}

impl WatchedTable {
    pub(crate) fn new(table: Arc<dyn LeaseTable>, world: &Arc<World>, node: NodeId, end: End) -> Self {
        Self { table, world: Arc::clone(world), node, end, unreadable_rows: false }
    }

    /// Scans find rows that are none.
    pub(crate) fn with_unreadable_rows(self) -> Self {
        Self { unreadable_rows: true, ..self }
    }

    fn at_worker(&self, event: impl FnOnce() -> Event) {
        if self.end == End::Worker {
            self.world.record(&event());
        }
    }

    fn at_table(&self, outcome: &Result<WriteOutcome>, event: impl FnOnce() -> Event) {
        match outcome {
            Ok(WriteOutcome::Applied) if self.end == End::Table => self.world.record(&event()),
            Ok(WriteOutcome::Conflict) if self.end == End::Table => self.world.probe("write refused"),
            _ => {}
        }
    }
}

impl fmt::Debug for WatchedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.table, f)
    }
}

impl Display for WatchedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.table, f)
    }
}

#[async_trait]
impl LeaseTable for WatchedTable {
    async fn initialize(&self) -> Result<()> {
        self.table.initialize().await
    }

    async fn scan(&self) -> Result<TableScan> {
        let mut scan = self.table.scan().await?;
        if self.unreadable_rows {
            let reasons = ["leaseCounter is -1", "checkpoint is 10 MiB of spaces"];
            scan.skipped = reasons.map(|reason| SkippedRow { key: "shardId-\u{0}".to_owned(), reason: reason.to_owned() }).into();
        }
        Ok(scan)
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        self.table.get_lease(key).await
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        let outcome = self.table.create_lease(lease).await;
        self.at_table(&outcome, || Event::LeaseCreated { node: self.node, lease: lease.clone() });
        outcome
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        self.at_worker(|| Event::LeaseSent { node: self.node, from: current.clone(), to: next.clone() });
        let outcome = self.table.update_lease(current, next).await;
        self.at_table(&outcome, || Event::LeaseUpdated { node: self.node, from: current.clone(), to: next.clone() });
        outcome
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        let outcome = self.table.delete_lease(current).await;
        self.at_table(&outcome, || Event::LeaseDeleted { node: self.node, from: current.clone() });
        outcome
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        self.table.get_workers(ids).await
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        self.at_worker(|| Event::HeartbeatSent { node: self.node, version: row.version, stamp: row.updated });
        let outcome = self.table.put_worker(row, expected).await;
        self.at_table(&outcome, || Event::WorkerPut { node: self.node, row: row.clone() });
        outcome
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        let version = WorkerVersion { heartbeat: expected.heartbeat + 1, ..expected };
        self.at_worker(|| Event::HeartbeatSent { node: self.node, version, stamp: update.updated });
        let outcome = self.table.heartbeat(id, expected, update).await;
        self.at_table(&outcome, || Event::WorkerRenewed { node: self.node, worker: id.clone(), version, stamp: update.updated });
        outcome
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        let outcome = self.table.signal(to, signals).await;
        self.at_table(&outcome, || Event::Signalled { node: self.node, to: to.clone(), signals: signals.to_vec() });
        outcome
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        let outcome = self.table.delete_worker(id, expected).await;
        self.at_table(&outcome, || Event::WorkerDeleted { node: self.node, worker: id.clone(), version: expected });
        outcome
    }
}
