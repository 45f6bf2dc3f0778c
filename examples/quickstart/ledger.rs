//! What was put, what was delivered to whom, and who held which shard when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shardkeeper::types::{Checkpoint, ExtendedSequenceNumber, SequenceNumber, ShardId};
use tokio::time::Instant;

/// One click of one user; `number` counts the clicks of that user.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Click {
    pub user: u32,
    pub number: u64,
    pub page: String,
}

/// How a tenure ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    HandedOver,
    ShardEnded,
    Lost,
    Crashed,
}

/// One worker's time with one shard.
#[derive(Debug, Clone)]
pub struct Tenure {
    pub worker: char,
    pub shard: ShardId,
    pub from: Duration,
    pub until: Option<(Duration, End)>,
    pub last_delivery: Option<Duration>,
    pub first_delivery: Option<Duration>,
}

#[derive(Debug, Default)]
pub struct Entries {
    /// Put records by shard.
    pub put: BTreeMap<ShardId, BTreeSet<SequenceNumber>>,
    /// Times each record was delivered.
    pub delivered: BTreeMap<(ShardId, SequenceNumber), u32>,
    pub per_worker: BTreeMap<char, u64>,
    pub tenures: Vec<Tenure>,
    /// Deliveries within one tenure that did not come in the order of their sequence numbers.
    pub out_of_order: u64,
    /// Clicks of a user that came before an earlier click of that user.
    pub user_order_broken: u64,
    users: BTreeMap<u32, u64>,
    /// Repeats that a planned move or a healthy worker caused: promised to be none.
    pub repeats_planned: u64,
    /// Repeats after the crash, of records past the last durable checkpoint: what a crash may cost.
    pub repeats_crash: u64,
    /// Durable checkpoints of the crashed worker's shards.
    pub crash_checkpoints: BTreeMap<ShardId, Checkpoint>,
    pub put_count: u64,
    pub delivered_count: u64,
    pub put_retries: u64,
}

/// Shared by the producer, all processors and the report.
#[derive(Debug, Clone)]
pub struct Ledger {
    started: Instant,
    entries: Arc<Mutex<Entries>>,
}

impl Ledger {
    pub fn new() -> Self {
        Self { started: Instant::now(), entries: Arc::default() }
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self, worker: char, shard: &ShardId) {
        let from = self.now();
        self.entries().tenures.push(Tenure { worker, shard: shard.clone(), from, until: None, last_delivery: None, first_delivery: None });
    }

    pub fn end(&self, worker: char, shard: &ShardId, how: End) {
        let now = self.now();
        let mut entries = self.entries();
        if let Some(tenure) = entries.tenures.iter_mut().rev().find(|t| t.worker == worker && t.shard == *shard && t.until.is_none()) {
            tenure.until = Some((now, how));
        }
    }

    /// Ends all tenures of a worker that can no longer say so itself.
    pub fn crashed(&self, worker: char, checkpoints: BTreeMap<ShardId, Checkpoint>) {
        let now = self.now();
        let mut entries = self.entries();
        for tenure in entries.tenures.iter_mut().filter(|t| t.worker == worker && t.until.is_none()) {
            tenure.until = Some((now, End::Crashed));
        }
        entries.crash_checkpoints = checkpoints;
    }

    /// Notes one delivery; `last` is the one before it in the same tenure.
    pub fn deliver(&self, worker: char, shard: &ShardId, sequence: SequenceNumber, last: Option<SequenceNumber>, click: &Click) {
        let now = self.now();
        let mut entries = self.entries();
        let entries = &mut *entries;
        if last.is_some_and(|last| last >= sequence) {
            entries.out_of_order += 1;
        }
        let times = entries.delivered.entry((shard.clone(), sequence)).or_default();
        *times += 1;
        let first_time = *times == 1;
        *entries.per_worker.entry(worker).or_default() += 1;
        if let Some(tenure) = entries.tenures.iter_mut().rev().find(|t| t.worker == worker && t.shard == *shard) {
            tenure.first_delivery.get_or_insert(now);
            tenure.last_delivery = Some(now);
        }
        if first_time {
            entries.delivered_count += 1;
            let seen = entries.users.entry(click.user).or_default();
            if click.number != *seen + 1 {
                entries.user_order_broken += 1;
            }
            *seen = click.number;
        } else {
            let position = Checkpoint::Sequence(ExtendedSequenceNumber::from(sequence));
            match entries.crash_checkpoints.get(shard) {
                Some(durable) if position > *durable => entries.repeats_crash += 1,
                _ => entries.repeats_planned += 1,
            }
        }
    }

    pub fn put(&self, shard: ShardId, sequence: SequenceNumber) {
        let mut entries = self.entries();
        entries.put.entry(shard).or_default().insert(sequence);
        entries.put_count += 1;
    }

    /// Put records that were never delivered.
    pub fn undelivered(&self) -> u64 {
        let entries = self.entries();
        let missing =
            entries.put.iter().map(|(shard, all)| all.iter().filter(|s| !entries.delivered.contains_key(&(shard.clone(), **s))).count());
        missing.sum::<usize>() as u64
    }
}
