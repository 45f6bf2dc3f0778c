//! A lease table behind a faulty network.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};

use super::network::{Call, Carrier, Network, Operation};
use crate::{
    error::Result,
    lease::{Lease, LeaseKey, LeaseTable, Signal, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome},
    task::Spawner,
    types::WorkerId,
};

/// A [`LeaseTable`] whose requests go through a [`Network`].
#[derive(Clone)]
pub struct FaultyLeaseTable {
    table: Arc<dyn LeaseTable>,
    carrier: Carrier,
    calls: Arc<AtomicU64>,
}

impl FaultyLeaseTable {
    /// Requests to `table` go through `network`, run where `spawner` says, and are given up after `timeout`. The
    /// spawner is the network's: with that of a [`Process`](super::Process), requests would die with it.
    #[must_use]
    pub fn new(table: Arc<dyn LeaseTable>, network: Arc<dyn Network>, spawner: Spawner, timeout: Duration) -> Self {
        Self { table, carrier: Carrier { network, spawner, timeout }, calls: Arc::default() }
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        apply: impl Fn(Arc<dyn LeaseTable>) -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let table = Arc::clone(&self.table);
        self.carrier.carry(Call { number, operation }, move || apply(Arc::clone(&table))).await
    }
}

impl fmt::Debug for FaultyLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyLeaseTable").field("table", &self.table).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} behind a faulty network", self.table)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LeaseTable for FaultyLeaseTable {
    async fn initialize(&self) -> Result<()> {
        self.call(Operation::Initialize, |table| async move { table.initialize().await }.boxed()).await
    }

    async fn scan(&self) -> Result<TableScan> {
        self.call(Operation::Scan, |table| async move { table.scan().await }.boxed()).await
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        let key = key.clone();
        self.call(Operation::GetLease, move |table| {
            let key = key.clone();
            async move { table.get_lease(&key).await }.boxed()
        })
        .await
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        let lease = lease.clone();
        self.call(Operation::CreateLease, move |table| {
            let lease = lease.clone();
            async move { table.create_lease(&lease).await }.boxed()
        })
        .await
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        let leases = Arc::new((current.clone(), next.clone()));
        self.call(Operation::UpdateLease, move |table| {
            let leases = Arc::clone(&leases);
            async move { table.update_lease(&leases.0, &leases.1).await }.boxed()
        })
        .await
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        let current = current.clone();
        self.call(Operation::DeleteLease, move |table| {
            let current = current.clone();
            async move { table.delete_lease(&current).await }.boxed()
        })
        .await
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        let ids = ids.to_vec();
        self.call(Operation::GetWorkers, move |table| {
            let ids = ids.clone();
            async move { table.get_workers(&ids).await }.boxed()
        })
        .await
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        let row = row.clone();
        self.call(Operation::PutWorker, move |table| {
            let row = row.clone();
            async move { table.put_worker(&row, expected).await }.boxed()
        })
        .await
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        let write = Arc::new((id.clone(), update.clone()));
        self.call(Operation::Heartbeat, move |table| {
            let write = Arc::clone(&write);
            async move { table.heartbeat(&write.0, expected, &write.1).await }.boxed()
        })
        .await
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        let write = Arc::new((to.clone(), signals.to_vec()));
        self.call(Operation::Signal, move |table| {
            let write = Arc::clone(&write);
            async move { table.signal(&write.0, &write.1).await }.boxed()
        })
        .await
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        let id = id.clone();
        self.call(Operation::DeleteWorker, move |table| {
            let id = id.clone();
            async move { table.delete_worker(&id, expected).await }.boxed()
        })
        .await
    }
}
