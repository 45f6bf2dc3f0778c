//! The conformance suite passes a table behind a wrapper, and notices each way in which one can be broken.

use std::{fmt, future::Future, panic::AssertUnwindSafe};

use async_trait::async_trait;
use futures::FutureExt;
use shardkeeper::{
    Result,
    lease::{
        Lease, LeaseKey, LeaseTable, MemoryLeaseTable, Signal, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome, conformance,
    },
    types::WorkerId,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    CreatesOver,
    UpdatesBlindly,
    UpdatesMissingRows,
    ForgetsWriteIds,
    ForgetsChildren,
    DeletesBlindly,
    ScansOnePage,
    PutsWorkersBlindly,
    HeartbeatsLoseSignals,
    HeartbeatsIgnoreInstance,
    SignalsMakeRows,
    SignalsReplaceSignals,
    SignalsCountAsHeartbeat,
    BuriesTheLiving,
    ReadsHundredWorkers,
}

#[derive(Debug)]
struct Broken(Bug, MemoryLeaseTable);

impl Broken {
    fn has(&self, bug: Bug) -> bool {
        self.0 == bug
    }

    fn worker(&self, id: &WorkerId) -> Option<WorkerRow> {
        self.1.snapshot().workers.into_iter().find(|row| row.id == *id)
    }

    fn lease(&self, key: &LeaseKey) -> Option<Lease> {
        self.1.snapshot().leases.into_iter().find(|row| row.key == *key)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken {}", self.1)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LeaseTable for Broken {
    async fn initialize(&self) -> Result<()> {
        self.1.initialize().await
    }

    async fn scan(&self) -> Result<TableScan> {
        let mut scan = self.1.scan().await?;
        if self.has(Bug::ScansOnePage) {
            scan.leases.truncate(300);
        }
        Ok(scan)
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        self.1.get_lease(key).await
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        if self.has(Bug::CreatesOver)
            && let Some(row) = self.lease(&lease.key)
        {
            assert_eq!(self.1.delete_lease(&row).await?, WriteOutcome::Applied);
        }
        self.1.create_lease(lease).await
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        let mut next = next.clone();
        match self.0 {
            Bug::UpdatesBlindly => {
                if let Some(row) = self.lease(&current.key) {
                    assert_eq!(self.1.delete_lease(&row).await?, WriteOutcome::Applied);
                    return self.1.create_lease(&next).await;
                }
            }
            Bug::UpdatesMissingRows if self.lease(&current.key).is_none() => return self.1.create_lease(&next).await,
            Bug::ForgetsWriteIds => next.write_id = Some(shardkeeper::lease::WriteId(next.counter)),
            Bug::ForgetsChildren => next.children.clear(),
            _ => {}
        }
        self.1.update_lease(current, &next).await
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        let row = self.lease(&current.key).filter(|_| self.has(Bug::DeletesBlindly));
        self.1.delete_lease(row.as_ref().unwrap_or(current)).await
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        let limit = if self.has(Bug::ReadsHundredWorkers) { ids.len().min(100) } else { ids.len() };
        self.1.get_workers(&ids[..limit]).await
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        let there = self.worker(&row.id).filter(|_| self.has(Bug::PutsWorkersBlindly));
        self.1.put_worker(row, there.map(|row| row.version).or(expected)).await
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        let (mut expected, mut update) = (expected, update.clone());
        if let Some(row) = self.worker(id) {
            match self.0 {
                Bug::HeartbeatsLoseSignals => update.handled = row.signals,
                Bug::HeartbeatsIgnoreInstance => expected.instance = row.version.instance,
                _ => {}
            }
        }
        self.1.heartbeat(id, expected, &update).await
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        match (self.0, self.worker(to)) {
            (Bug::SignalsMakeRows, None) => {
                let row = conformance::worker_row(to, shardkeeper::types::InstanceId(0));
                assert_eq!(self.1.put_worker(&row, None).await?, WriteOutcome::Applied);
            }
            (Bug::SignalsReplaceSignals, Some(row)) => {
                let new = WorkerRow { signals: signals.iter().cloned().collect(), ..row };
                return self.1.put_worker(&new, Some(new.version)).await;
            }
            (Bug::SignalsCountAsHeartbeat, Some(row)) => {
                let update = conformance::worker_update(&row);
                assert_eq!(self.1.heartbeat(to, row.version, &update).await?, WriteOutcome::Applied);
            }
            _ => {}
        }
        self.1.signal(to, signals).await
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        let there = self.worker(id).filter(|_| self.has(Bug::BuriesTheLiving));
        self.1.delete_worker(id, there.map_or(expected, |row| row.version)).await
    }
}

fn run(bug: Bug) -> impl Future<Output = ()> {
    conformance::run(move || async move { Box::new(Broken(bug, MemoryLeaseTable::new())) as Box<dyn LeaseTable> })
}

#[tokio::test]
async fn a_wrapper_conforms() {
    run(Bug::None).await;
}

#[tokio::test]
async fn every_bug_is_noticed() {
    let bugs = [
        Bug::CreatesOver,
        Bug::UpdatesBlindly,
        Bug::UpdatesMissingRows,
        Bug::ForgetsWriteIds,
        Bug::ForgetsChildren,
        Bug::DeletesBlindly,
        Bug::ScansOnePage,
        Bug::PutsWorkersBlindly,
        Bug::HeartbeatsLoseSignals,
        Bug::HeartbeatsIgnoreInstance,
        Bug::SignalsMakeRows,
        Bug::SignalsReplaceSignals,
        Bug::SignalsCountAsHeartbeat,
        Bug::BuriesTheLiving,
        Bug::ReadsHundredWorkers,
    ];
    for bug in bugs {
        let noticed = AssertUnwindSafe(run(bug)).catch_unwind().await.is_err();
        assert!(noticed, "{bug:?} goes unnoticed");
    }
}

#[tokio::test]
#[should_panic(expected = "is no successor of")]
async fn an_update_that_is_no_transition_is_a_bug_of_the_caller() {
    let lease = conformance::Samples::seeded(1).lease();
    let _never = MemoryLeaseTable::new().update_lease(&lease, &lease).await;
}
