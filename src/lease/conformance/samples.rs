//! Random rows from a seed.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    lease::{Lease, LeaseKey, PendingCheckpoint, Signal, WorkerRow, WorkerState, WorkerUpdate, WorkerVersion, WriteId},
    random::Randomness,
    types::{
        Checkpoint, ExtendedSequenceNumber, HashKeyRange, InstanceId, SequenceNumber, ShardId, StreamIdentifier, StreamName, Timestamp,
        WorkerId,
    },
};

/// A source of rows: the same seed gives the same rows.
#[derive(Debug, Clone)]
pub struct Samples(Randomness);

impl Samples {
    /// Rows from this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Randomness::seeded(seed))
    }

    fn coin(&self) -> bool {
        self.0.in_range(0..2) == 1
    }

    fn maybe<T>(&self, f: impl FnOnce() -> T) -> Option<T> {
        self.coin().then(f)
    }

    /// A mark for a write.
    #[must_use]
    pub fn write_id(&self) -> WriteId {
        WriteId(self.0.next_u64())
    }

    /// A worker's id.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        WorkerId::new(format!("host-{}:{:x}", self.0.in_range(0..100), self.0.next_u64())).expect("printable and short")
    }

    fn shard_ids(&self) -> BTreeSet<ShardId> {
        (0..self.0.in_range(0..3)).map(|_| ShardId::from_index(self.0.in_range(0..1_000_000))).collect()
    }

    fn timestamp(&self) -> Timestamp {
        let millis = self.0.in_range(0..4_000_000_000_000);
        Timestamp::from_millis(i64::try_from(millis).expect("in range"))
    }

    /// Any checkpoint, sentinels included.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        match self.0.in_range(0..6) {
            0 => Checkpoint::TrimHorizon,
            1 => Checkpoint::Latest,
            2 => Checkpoint::AtTimestamp,
            3 => Checkpoint::ShardEnd,
            _ => {
                let half = || (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64());
                let number = SequenceNumber::from_parts(if self.coin() { half() } else { 0 }, half());
                Checkpoint::Sequence(ExtendedSequenceNumber::new(number, if self.coin() { self.0.in_range(0..100_000) } else { 0 }))
            }
        }
    }

    /// A lease of a table of many streams or of one, with every optional attribute there or not.
    #[must_use]
    pub fn lease(&self) -> Lease {
        let name = StreamName::new("clicks").expect("valid");
        let stream = if self.coin() {
            StreamIdentifier::Multi { account_id: "123456789012".to_owned(), name, epoch: self.0.in_range(1..2_000_000_000) }
        } else {
            StreamIdentifier::Single(name)
        };
        let new = Lease::new(&stream, ShardId::from_index(self.0.in_range(0..1_000_000_000)), self.checkpoint());
        self.state_of(&new)
    }

    /// Another state of the lease, without regard to what the last one was.
    #[must_use]
    pub fn state_of(&self, lease: &Lease) -> Lease {
        Lease {
            key: lease.key.clone(),
            stream: lease.stream.clone(),
            shard_id: lease.shard_id.clone(),
            counter: self.0.in_range(0..u64::from(u32::MAX)),
            owner: self.maybe(|| self.worker_id()),
            owner_instance: self.maybe(|| self.0.instance_id()),
            checkpoint_owner: self.maybe(|| self.worker_id()),
            owner_switches: self.0.in_range(0..1000),
            checkpoint: self.checkpoint(),
            pending: self.maybe(|| PendingCheckpoint {
                checkpoint: self.checkpoint(),
                state: self.maybe(|| Bytes::from((0..self.0.in_range(1..40)).map(|_| self.0.next_u64() as u8).collect::<Vec<_>>())),
            }),
            parents: self.shard_ids(),
            children: self.shard_ids(),
            hash_key_range: self.maybe(|| {
                let start = u128::from(self.0.next_u64());
                HashKeyRange::new(start, start + 1 + (u128::from(self.0.next_u64()) << 63)).expect("starts before its end")
            }),
            throughput_kbps: self.maybe(|| self.0.in_range(0..10_000_000) as f64 / 1000.0),
            start_at: self.maybe(|| self.timestamp()),
            stream_created: self.maybe(|| self.timestamp()),
            stream_arn: self.maybe(|| "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks".parse().expect("an ARN")),
            write_id: Some(self.write_id()),
        }
    }

    /// One of each signal.
    #[must_use]
    pub fn signals(&self) -> BTreeSet<Signal> {
        let counter = self.0.in_range(0..1000);
        let lease = || LeaseKey::new(ShardId::from_index(self.0.in_range(0..1000))).expect("a shard id is a key");
        BTreeSet::from([
            Signal::Plan { from: self.worker_id(), number: self.0.next_u64() },
            Signal::HandOver { lease: lease(), counter, to: self.worker_id() },
            Signal::Take { lease: lease(), counter },
            Signal::Accept { lease: lease(), counter },
            Signal::ParentEnded { lease: lease(), counter },
        ])
    }
}

/// A row of a worker that has just joined.
#[must_use]
pub fn worker_row(id: &WorkerId, instance: InstanceId) -> WorkerRow {
    WorkerRow {
        id: id.clone(),
        version: WorkerVersion { instance, heartbeat: 0 },
        state: WorkerState::Active,
        leading: false,
        roster: Vec::new(),
        max_leases: None,
        updated: Timestamp::from_millis(1_795_262_400_000),
        signals: BTreeSet::new(),
    }
}

/// A heartbeat that changes nothing but the heartbeat.
#[must_use]
pub fn worker_update(row: &WorkerRow) -> WorkerUpdate {
    WorkerUpdate {
        state: row.state,
        leading: row.leading,
        roster: row.roster.clone(),
        max_leases: row.max_leases,
        updated: row.updated,
        handled: BTreeSet::new(),
    }
}
