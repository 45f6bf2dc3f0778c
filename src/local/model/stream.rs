//! A stream: its settings, its shards, and the states it passes through.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Config, RecordDistributionStrategy, ServiceError, ServiceErrorCode, ShardLevelMetric, StreamMode, StreamSummary, SubscriptionId,
    change::{Change, Journal},
    consumers::ConsumerFacts,
    encryption::Encryption,
    rates::Calls,
    reshard::Reshape,
    routing::even_ranges,
    sequence::seconds,
    shard::{ShardFacts, ShardState},
    subscription::Seats,
};
use crate::{
    random::Randomness,
    stream::{StreamDescription, StreamStatus},
    types::{ChildShard, HashKeyRange, ShardId, StreamArn, StreamName, Timestamp},
};

/// What an operation on a stream may use.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Timestamp,
    pub(super) config: &'a Config,
    pub(super) randomness: &'a Randomness,
    pub(super) journal: &'a mut Journal,
    /// Subscriptions that may have something to deliver, or to end of.
    pub(super) woken: &'a mut BTreeSet<SubscriptionId>,
}

/// What the stream is going through.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Lifecycle {
    Creating {
        until: Timestamp,
    },
    Active,
    /// The shards change when it is over.
    Updating {
        until: Timestamp,
        change: Reshape,
    },
    /// A setting has changed.
    Changing {
        until: Timestamp,
    },
    Deleting {
        until: Timestamp,
    },
}

/// The lasting facts of a stream.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(in crate::local) struct StreamFacts {
    pub(in crate::local) name: StreamName,
    pub(super) arn: StreamArn,
    pub(super) created: Timestamp,
    pub(super) mode: StreamMode,
    pub(super) max_record_bytes: usize,
    pub(super) retention_hours: u32,
    pub(super) lifecycle: Lifecycle,
    /// Index of the next shard to be made.
    pub(super) next_shard: u32,
    /// Place of the next record; counts through all shards, so that places within a shard have gaps.
    pub(super) next_place: u64,
    /// UpdateShardCount calls of the last day.
    pub(super) scalings: Vec<Timestamp>,
    /// UpdateStreamMode calls of the last day.
    #[serde(default)]
    pub(super) mode_updates: Vec<Timestamp>,
    #[serde(default)]
    pub(super) encryption: Encryption,
    #[serde(default)]
    pub(super) metrics: BTreeSet<ShardLevelMetric>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) policy: Option<String>,
    #[serde(default)]
    pub(super) distribution: RecordDistributionStrategy,
    /// Warm throughput that was asked for.
    #[serde(default)]
    pub(super) warm_mibps: Option<u32>,
    #[serde(default)]
    pub(super) consumers: BTreeMap<String, ConsumerFacts>,
}

/// A stream.
#[derive(Debug)]
pub(in crate::local) struct Stream {
    pub(in crate::local) facts: StreamFacts,
    pub(super) shards: BTreeMap<u32, ShardState>,
    /// Open shards by their first hash key.
    pub(super) open: BTreeMap<u128, u32>,
    /// What the rates of the stream have left.
    pub(super) calls: Calls,
    pub(super) seats: Seats,
}

impl Stream {
    pub(super) fn new(cx: &mut Context<'_>, facts: StreamFacts, shard_count: u32) -> Self {
        let mut stream = Self::without_shards(facts);
        // First, since the rows of shards belong to it.
        stream.note(cx);
        for range in even_ranges(shard_count) {
            stream.make_shard(cx, Vec::new(), range, stream.facts.created);
        }
        stream
    }

    fn without_shards(facts: StreamFacts) -> Self {
        Self { facts, shards: BTreeMap::new(), open: BTreeMap::new(), calls: Calls::default(), seats: Seats::default() }
    }

    /// Puts a stream together from what was kept of it.
    pub(in crate::local) fn restored(facts: StreamFacts, shards: BTreeMap<u32, ShardState>) -> Self {
        let mut stream = Self { shards, ..Self::without_shards(facts) };
        let all: Vec<ShardFacts> = stream.shards.values().map(|shard| shard.facts.clone()).collect();
        for shard in all {
            if shard.is_open() {
                stream.open.insert(shard.range.start(), shard.index);
            }
            for parent in &shard.parents {
                if let Some(parent) = stream.shards.get_mut(parent) {
                    parent.children.push(shard.index);
                }
            }
        }
        let last_place = stream.shards.values().filter_map(|shard| shard.records().back()).map(|record| record.place).max();
        stream.facts.next_place = stream.facts.next_place.max(last_place.map_or(0, |place| place + 1));
        stream
    }

    pub(in crate::local) fn shard_facts(&self, index: u32) -> Option<&ShardFacts> {
        self.shards.get(&index).map(|shard| &shard.facts)
    }

    /// Notes that the stream's own row changed.
    pub(super) fn note(&self, cx: &mut Context<'_>) {
        cx.journal.note(|| Change::Stream(self.facts.name.clone()));
    }

    /// Makes a shard, open from `at`.
    pub(super) fn make_shard(&mut self, cx: &mut Context<'_>, parents: Vec<u32>, range: HashKeyRange, at: Timestamp) -> u32 {
        let index = self.facts.next_shard;
        self.facts.next_shard += 1;
        // A child made in the second of its parent would otherwise begin below the parent's end.
        let after_parents = parents.iter().filter_map(|p| self.shards.get(p)).map(|p| p.facts.created_secs + 1).max().unwrap_or(0);
        let created_secs = seconds(at).max(after_parents);
        for parent in &parents {
            if let Some(parent) = self.shards.get_mut(parent) {
                parent.children.push(index);
            }
        }
        let facts = ShardFacts { index, parents, range, created: at, created_secs, closed: None };
        self.open.insert(range.start(), index);
        self.shards.insert(index, ShardState::new(facts));
        cx.journal.note(|| Change::Shard(self.facts.name.clone(), index));
        index
    }

    /// Closes an open shard.
    pub(super) fn close_shard(&mut self, cx: &mut Context<'_>, index: u32, at: Timestamp) {
        if let Some(shard) = self.shards.get_mut(&index) {
            shard.facts.closed = Some(at);
            self.open.remove(&shard.facts.range.start());
            cx.journal.note(|| Change::Shard(self.facts.name.clone(), index));
            self.seats.wake_shard(cx, index);
        }
    }

    /// Takes the steps that are due; `false` when the stream is gone, and its subscriptions are woken to learn it.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        self.settle_consumers(cx);
        match &self.facts.lifecycle {
            Lifecycle::Creating { until } | Lifecycle::Changing { until } if *until <= cx.now => self.facts.lifecycle = Lifecycle::Active,
            Lifecycle::Updating { until, change } if *until <= cx.now => {
                let (at, change) = (*until, change.clone());
                self.facts.lifecycle = Lifecycle::Active;
                self.reshape(cx, &change, at);
            }
            Lifecycle::Deleting { until } if *until <= cx.now => {
                self.seats.wake_all(cx);
                return false;
            }
            Lifecycle::Creating { .. }
            | Lifecycle::Updating { .. }
            | Lifecycle::Changing { .. }
            | Lifecycle::Deleting { .. }
            | Lifecycle::Active => return true,
        }
        self.note(cx);
        true
    }

    pub(super) const fn status(&self) -> StreamStatus {
        match self.facts.lifecycle {
            Lifecycle::Creating { .. } => StreamStatus::Creating,
            Lifecycle::Active => StreamStatus::Active,
            Lifecycle::Updating { .. } | Lifecycle::Changing { .. } => StreamStatus::Updating,
            Lifecycle::Deleting { .. } => StreamStatus::Deleting,
        }
    }

    /// When the state that it is in is over, if it passes.
    pub(super) const fn passes_at(&self) -> Option<Timestamp> {
        match self.facts.lifecycle {
            Lifecycle::Active => None,
            Lifecycle::Creating { until }
            | Lifecycle::Updating { until, .. }
            | Lifecycle::Changing { until }
            | Lifecycle::Deleting { until } => Some(until),
        }
    }

    /// Notes a changed setting of an active stream, which is updating for a while.
    pub(super) fn changed(&mut self, cx: &mut Context<'_>) {
        self.facts.lifecycle = Lifecycle::Changing { until: cx.now.plus(cx.config.delays.update) };
        self.note(cx);
        self.settle(cx);
    }

    pub(super) fn summary(&self) -> StreamSummary {
        StreamSummary {
            description: StreamDescription {
                name: self.facts.name.clone(),
                arn: self.facts.arn.clone(),
                status: self.status(),
                created: self.facts.created,
                retention_hours: self.facts.retention_hours,
                open_shard_count: self.open_count(),
                consumer_count: u32::try_from(self.facts.consumers.len()).unwrap_or(u32::MAX),
            },
            mode: self.facts.mode,
            max_record_bytes: self.facts.max_record_bytes,
            encryption_key: self.facts.encryption.key_id.clone(),
            shard_level_metrics: self.facts.metrics.clone(),
            record_distribution: (self.facts.mode == StreamMode::OnDemand).then_some(self.facts.distribution),
            warm_throughput: None,
        }
    }

    pub(super) fn open_count(&self) -> u32 {
        // A stream in the making has its shards already, but nobody sees them.
        if self.status() == StreamStatus::Creating { 0 } else { u32::try_from(self.open.len()).unwrap_or(u32::MAX) }
    }

    /// Index of the open shard that takes the hash key.
    pub(super) fn route(&self, hash_key: u128) -> u32 {
        *self.open.range(..=hash_key).next_back().expect("open shards cover every hash key").1
    }

    /// Refuses changes while another is under way.
    pub(super) fn require_active(&self, cx: &Context<'_>) -> Result<(), ServiceError> {
        match self.status() {
            StreamStatus::Active => Ok(()),
            status @ (StreamStatus::Creating | StreamStatus::Deleting | StreamStatus::Updating) => {
                let state = match status {
                    StreamStatus::Creating => "CREATING",
                    StreamStatus::Deleting => "DELETING",
                    StreamStatus::Active | StreamStatus::Updating => "UPDATING",
                };
                let message =
                    format!("Stream {} under account {} not ACTIVE, instead in state {state}", self.facts.name, cx.config.account_id);
                Err(ServiceError::new(ServiceErrorCode::ResourceInUse, message))
            }
        }
    }

    /// Refuses a stream that is being made or deleted.
    pub(super) fn require_open(&self, cx: &Context<'_>) -> Result<(), ServiceError> {
        match self.status() {
            StreamStatus::Active | StreamStatus::Updating => Ok(()),
            StreamStatus::Creating | StreamStatus::Deleting => self.require_active(cx),
        }
    }

    /// Refuses reads and writes of a stream in the making.
    pub(super) fn require_data(&self, cx: &Context<'_>) -> Result<(), ServiceError> {
        if self.status() == StreamStatus::Creating { Err(stream_not_found(&self.facts.name, cx.config)) } else { Ok(()) }
    }

    /// The children of a shard.
    pub(super) fn children(&self, index: u32) -> Vec<ChildShard> {
        let children = self.shards.get(&index).map(|shard| shard.children.as_slice()).unwrap_or_default();
        children.iter().filter_map(|index| self.shards.get(index)).map(|child| child.facts.describe_as_child()).collect()
    }

    /// Finds a shard still in retention.
    pub(super) fn shard(&mut self, cx: &mut Context<'_>, id: &ShardId) -> Option<&mut ShardState> {
        let index = shard_index(id)?;
        self.retain(cx, index);
        self.shards.get_mut(&index)
    }
}

/// The index in a shard's id; `None` for an id that the service does not give.
pub(super) fn shard_index(id: &ShardId) -> Option<u32> {
    let index: u32 = id.as_str().strip_prefix("shardId-")?.parse().ok()?;
    (ShardId::from_index(u64::from(index)) == *id).then_some(index)
}

pub(super) fn stream_not_found(name: &StreamName, config: &Config) -> ServiceError {
    ServiceError::new(ServiceErrorCode::ResourceNotFound, format!("Stream {name} under account {} not found.", config.account_id))
}

pub(super) fn shard_not_found(shard: &ShardId, stream: &StreamName, config: &Config) -> ServiceError {
    let message = format!("Shard {shard} in stream {stream} under account {} does not exist", config.account_id);
    ServiceError::new(ServiceErrorCode::ResourceNotFound, message)
}

/// A shard's rate is used up.
pub(super) fn rate_exceeded(shard: &ShardId, stream: &StreamName, config: &Config) -> ServiceError {
    let message = format!("Rate exceeded for shard {shard} in stream {stream} under account {}.", config.account_id);
    ServiceError::new(ServiceErrorCode::ProvisionedThroughputExceeded, message)
}
