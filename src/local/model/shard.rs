//! A shard and its records.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    encryption::Encryption,
    rates::Calls,
    sequence::{Parts, seconds},
    throttle::Budget,
};
use crate::types::{
    ChildShard, EncryptionType, HashKeyRange, PartitionKey, Record, RecordParts, SequenceNumber, Shard, ShardId, Timestamp,
};

/// A record as the shard keeps it; its number follows from the shard and these.
#[derive(Clone)]
pub(in crate::local) struct StoredRecord {
    pub(in crate::local) place: u64,
    pub(in crate::local) arrival: Timestamp,
    pub(in crate::local) partition_key: PartitionKey,
    pub(in crate::local) data: Bytes,
}

impl StoredRecord {
    pub(super) fn size_bytes(&self) -> u64 {
        (self.data.len() + self.partition_key.as_str().len()) as u64
    }
}

/// Redacted: place and size only.
impl std::fmt::Debug for StoredRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredRecord({}, {} bytes)", self.place, self.size_bytes())
    }
}

/// The lasting facts of a shard.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::local) struct ShardFacts {
    pub(in crate::local) index: u32,
    /// None, one (split) or two (merge; the one that holds the lower hash keys need not be first).
    pub(super) parents: Vec<u32>,
    pub(super) range: HashKeyRange,
    pub(super) created: Timestamp,
    /// The second that its sequence numbers carry.
    pub(super) created_secs: u64,
    pub(super) closed: Option<Timestamp>,
}

impl ShardFacts {
    pub(super) fn id(&self) -> ShardId {
        ShardId::from_index(u64::from(self.index))
    }

    pub(super) const fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    fn parent_ids(&self) -> Vec<ShardId> {
        self.parents.iter().map(|index| ShardId::from_index(u64::from(*index))).collect()
    }

    pub(super) fn starting_sequence_number(&self) -> SequenceNumber {
        Parts::first(self.created_secs, self.index).compose()
    }

    pub(super) fn describe(&self) -> Shard {
        Shard {
            id: self.id(),
            parents: self.parent_ids(),
            hash_key_range: self.range,
            starting_sequence_number: self.starting_sequence_number(),
            ending_sequence_number: self.closed.map(|at| Parts::last(self.created_secs, self.index, at).compose()),
        }
    }

    pub(super) fn describe_as_child(&self) -> ChildShard {
        ChildShard { id: self.id(), parents: self.parent_ids(), hash_key_range: self.range }
    }
}

/// A shard: its facts, the records in retention in the order of their places, and what its rates have left.
#[derive(Debug)]
pub(in crate::local) struct ShardState {
    pub(in crate::local) facts: ShardFacts,
    pub(super) children: Vec<u32>,
    records: VecDeque<StoredRecord>,
    last_arrival: Timestamp,
    pub(super) rates: Rates,
}

/// What one read takes from a shard.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) bytes: u64,
    pub(super) millis_behind_latest: u64,
    /// The shard is closed, and nothing waits after these records.
    pub(super) ended: bool,
}

/// What the shard's rates have left.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) calls: Calls,
    pub(super) read_bytes: Budget,
    pub(super) write_bytes: Budget,
    pub(super) write_records: Budget,
}

impl ShardState {
    pub(super) fn new(facts: ShardFacts) -> Self {
        Self { last_arrival: facts.created, facts, children: Vec::new(), records: VecDeque::new(), rates: Rates::default() }
    }

    /// A shard as it was kept.
    pub(in crate::local) fn restored(facts: ShardFacts, records: VecDeque<StoredRecord>) -> Self {
        let last_arrival = records.back().map_or(facts.created, |record| record.arrival);
        Self { last_arrival, records, ..Self::new(facts) }
    }

    pub(super) fn records(&self) -> &VecDeque<StoredRecord> {
        &self.records
    }

    pub(super) fn sequence_number(&self, record: &StoredRecord) -> SequenceNumber {
        let time_secs = seconds(record.arrival);
        Parts { created_secs: self.facts.created_secs, shard_index: self.facts.index, place: record.place, time_secs }.compose()
    }

    /// The number just above every record before `place`.
    pub(super) fn position_of(&self, place: u64) -> SequenceNumber {
        Parts { created_secs: self.facts.created_secs, shard_index: self.facts.index, place, time_secs: 0 }.compose()
    }

    /// When a record put now arrives: never before an earlier one, though the clock be set back.
    pub(super) fn arrival(&self, now: Timestamp) -> Timestamp {
        now.max(self.last_arrival)
    }

    pub(super) fn append(&mut self, record: StoredRecord) {
        debug_assert!(self.records.back().is_none_or(|last| last.place < record.place && last.arrival <= record.arrival));
        self.last_arrival = record.arrival;
        self.records.push_back(record);
    }

    /// Index of the first record at or above the number.
    pub(super) fn at_or_above(&self, number: SequenceNumber) -> usize {
        self.records.partition_point(|record| self.sequence_number(record) < number)
    }

    /// Index of the first record that arrived at or after the moment.
    pub(super) fn arrived_since(&self, moment: Timestamp) -> usize {
        self.records.partition_point(|record| record.arrival < moment)
    }

    /// Drops the records that arrived before `horizon`; the place of the first that stays, if any went.
    pub(super) fn trim(&mut self, horizon: Timestamp) -> Option<u64> {
        let mut trimmed = None;
        while self.records.front().is_some_and(|record| record.arrival < horizon) {
            trimmed = self.records.pop_front().map(|record| record.place + 1);
        }
        trimmed
    }

    /// What waits at or above `next`: at most that many records and bytes, but one record though it be larger.
    pub(super) fn batch(&self, now: Timestamp, encryption: &Encryption, next: SequenceNumber, max_records: usize, max_bytes: u64) -> Batch {
        let from = self.at_or_above(next);
        let (mut to, mut bytes) = (from, 0);
        for record in self.records.range(from..).take(max_records) {
            let size = record.size_bytes();
            if to > from && bytes + size > max_bytes {
                break;
            }
            bytes += size;
            to += 1;
        }
        let waiting = self.records.get(to);
        // Zero says that nothing waits, so a record that waits counts a millisecond at least.
        let reached = to.checked_sub(1).filter(|_| to > from).and_then(|last| self.records.get(last)).or(waiting);
        let millis_behind_latest = match (waiting, reached) {
            (Some(_), Some(reached)) => u64::try_from(now.since(reached.arrival).as_millis()).unwrap_or(u64::MAX).max(1),
            _ => 0,
        };
        Batch {
            records: self.records.range(from..to).map(|record| self.record(record, encryption.of(record.place))).collect(),
            bytes,
            millis_behind_latest,
            ended: waiting.is_none() && !self.facts.is_open(),
        }
    }

    fn record(&self, stored: &StoredRecord, encryption_type: EncryptionType) -> Record {
        Record::from_parts(RecordParts {
            sequence_number: self.sequence_number(stored),
            sub_sequence_number: 0,
            partition_key: stored.partition_key.clone(),
            explicit_hash_key: None,
            data: stored.data.clone(),
            approximate_arrival: Some(stored.arrival),
            encryption_type,
            aggregated: false,
        })
    }
}
