//! Records put at a steady pace, each remembered with the shard and number that the service answered.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_kinesis::{Client, error::ProvideErrorMetadata as _, primitives::Blob, types::PutRecordsRequestEntry};
use shardkeeper::{
    limits::PUT_RECORDS_MAX_RECORDS,
    task::{Spawner, Task},
    types::{SequenceNumber, ShardId},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Result;

/// What to put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadPlan {
    /// Records of each round, spread evenly over the hash keys.
    pub(crate) records: u32,
    /// Time between rounds.
    pub(crate) period: Duration,
    /// Bytes of a record.
    pub(crate) size: usize,
}

/// A record that the service took.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PutRecord {
    pub(crate) shard: ShardId,
    pub(crate) sequence_number: SequenceNumber,
}

/// A producer in the background; ends when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    put: Arc<Mutex<Vec<PutRecord>>>,
    stopping: CancellationToken,
    task: Task<Result<(), String>>,
}

impl Load {
    pub(crate) fn start(client: Client, stream: &str, plan: LoadPlan) -> Self {
        let put = Arc::<Mutex<Vec<PutRecord>>>::default();
        let stopping = CancellationToken::new();
        let producer = Producer { client, stream: stream.to_owned(), plan, put: Arc::clone(&put) };
        let task = Spawner::current().spawn("load", producer.run(stopping.clone()));
        Self { put, stopping, task }
    }

    /// All records taken so far, in the order of their shards' numbers.
    pub(crate) fn put(&self) -> Vec<PutRecord> {
        let mut put = self.put.lock().unwrap_or_else(PoisonError::into_inner).clone();
        put.sort();
        put
    }

    /// Stops it, and waits for the answer of the last call.
    pub(crate) async fn stop(&mut self) -> Result {
        self.stopping.cancel();
        self.task.join().await?.map_err(Into::into)
    }
}

struct Producer {
    client: Client,
    stream: String,
    plan: LoadPlan,
    put: Arc<Mutex<Vec<PutRecord>>>,
}

impl Producer {
    async fn run(self, stopping: CancellationToken) -> Result<(), String> {
        let mut rounds = interval(self.plan.period);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                _ = rounds.tick() => {}
            }
            self.round().await?;
        }
    }

    /// Puts one record for each part of the hash space. What is refused is left out, and not counted as put: a stream
    /// that is being resharded refuses records for a moment.
    async fn round(&self) -> Result<(), String> {
        let part = u128::MAX / u128::from(self.plan.records);
        let entries = (0..self.plan.records).map(|i| {
            PutRecordsRequestEntry::builder()
                .partition_key("key")
                .explicit_hash_key((part * u128::from(i) + part / 2).to_string())
                .data(Blob::new(vec![0; self.plan.size]))
                .build()
                .expect("key and data are set")
        });
        let entries: Vec<_> = entries.collect();
        for entries in entries.chunks(PUT_RECORDS_MAX_RECORDS) {
            self.put(entries.to_vec()).await?;
        }
        Ok(())
    }

    async fn put(&self, entries: Vec<PutRecordsRequestEntry>) -> Result<(), String> {
        let request = self.client.put_records().stream_name(&self.stream).set_records(Some(entries));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("ResourceInUseException") => return Ok(()),
            Err(error) => return Err(format!("PutRecords: {}", aws_sdk_kinesis::error::DisplayErrorContext(error))),
        };
        let taken = answer.records().iter().filter_map(|r| Some((r.shard_id()?, r.sequence_number()?)));
        let taken =
            taken.map(|(shard, number)| Ok(PutRecord { shard: ShardId::new(shard)?, sequence_number: SequenceNumber::parse(number)? }));
        let taken = taken.collect::<Result<Vec<_>, shardkeeper::types::InvalidText>>().map_err(|e| e.to_string())?;
        self.put.lock().unwrap_or_else(PoisonError::into_inner).extend(taken);
        Ok(())
    }
}
