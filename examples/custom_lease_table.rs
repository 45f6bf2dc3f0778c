//! A lease table of one's own, here one that prints every change of owner: `cargo run --example custom_lease_table`.
//!
//! A table for another data base implements the same methods; `shardkeeper::lease::conformance` tests it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use shardkeeper::{
    Result,
    lease::{Lease, LeaseKey, LeaseTable, MemoryLeaseTable, Signal, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome},
    local::{CreateStream, LocalKinesis},
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    types::WorkerId,
    worker::Worker,
};

#[derive(Debug, Default)]
struct PrintingTable(MemoryLeaseTable);

impl fmt::Display for PrintingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "printing {}", self.0)
    }
}

#[async_trait]
impl LeaseTable for PrintingTable {
    async fn initialize(&self) -> Result<()> {
        self.0.initialize().await
    }
    async fn scan(&self) -> Result<TableScan> {
        self.0.scan().await
    }
    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        self.0.get_lease(key).await
    }
    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        self.0.create_lease(lease).await
    }
    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        let outcome = self.0.update_lease(current, next).await?;
        if outcome == WriteOutcome::Applied && current.owner != next.owner {
            println!("{}: {:?} -> {:?}", next.key, current.owner, next.owner);
        }
        Ok(outcome)
    }
    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        self.0.delete_lease(current).await
    }
    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        self.0.get_workers(ids).await
    }
    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        self.0.put_worker(row, expected).await
    }
    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        self.0.heartbeat(id, expected, update).await
    }
    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        self.0.signal(to, signals).await
    }
    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        self.0.delete_worker(id, expected).await
    }
}

struct Ignore;

#[async_trait]
impl RecordProcessor for Ignore {
    async fn process_records(&mut self, _input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kinesis = LocalKinesis::in_memory();
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 2))?;
    let worker = Worker::builder("custom", "clicks", || Ignore).local(&kinesis).lease_table(Arc::new(PrintingTable::default())).build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    while handle.status().shards.len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    handle.shutdown();
    running.await??;
    Ok(())
}
