//! How often operations may be called: one table, as the API reference of each operation has it, and what is left.

use std::collections::BTreeMap;

use super::{Config, Model, ServiceError, ServiceErrorCode, throttle::Budget};
use crate::{
    limits,
    types::{StreamName, Timestamp},
};

/// An operation whose calls are counted, named as the service names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "named as the operations of the service")]
pub enum RatedCall {
    AddTagsToStream,
    CreateStream,
    DeleteStream,
    DeregisterStreamConsumer,
    DescribeLimits,
    DescribeStream,
    DescribeStreamConsumer,
    DescribeStreamSummary,
    GetRecords,
    GetShardIterator,
    ListShards,
    ListStreamConsumers,
    ListStreams,
    ListTagsForStream,
    MergeShards,
    RegisterStreamConsumer,
    RemoveTagsFromStream,
    SplitShard,
    SubscribeToShard,
    UpdateShardCount,
}

/// What the calls of an operation are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateScope {
    /// All calls of the account in the region.
    Account,
    /// Those about one stream.
    Stream,
    /// Those about one shard.
    Shard,
    /// Those of one stream consumer about one shard.
    ConsumerAndShard,
}

/// Calls a second. What is not here has no rate in its API reference.
const TABLE: [(RatedCall, RateScope, u32); 20] = [
    (RatedCall::AddTagsToStream, RateScope::Account, 5),
    (RatedCall::CreateStream, RateScope::Account, 5),
    (RatedCall::DeleteStream, RateScope::Account, 5),
    (RatedCall::DeregisterStreamConsumer, RateScope::Stream, 5),
    (RatedCall::DescribeLimits, RateScope::Account, 1),
    (RatedCall::DescribeStream, RateScope::Account, 10),
    (RatedCall::DescribeStreamConsumer, RateScope::Stream, 20),
    (RatedCall::DescribeStreamSummary, RateScope::Account, 20),
    (RatedCall::GetRecords, RateScope::Shard, limits::GET_RECORDS_CALLS_PER_SECOND),
    (RatedCall::GetShardIterator, RateScope::Shard, limits::GET_SHARD_ITERATOR_CALLS_PER_SECOND),
    (RatedCall::ListShards, RateScope::Stream, limits::LIST_SHARDS_CALLS_PER_SECOND),
    (RatedCall::ListStreamConsumers, RateScope::Stream, 5),
    (RatedCall::ListStreams, RateScope::Account, 5),
    (RatedCall::ListTagsForStream, RateScope::Account, 5),
    (RatedCall::MergeShards, RateScope::Account, 5),
    (RatedCall::RegisterStreamConsumer, RateScope::Account, limits::REGISTER_CONSUMER_CALLS_PER_SECOND),
    (RatedCall::RemoveTagsFromStream, RateScope::Account, 5),
    (RatedCall::SplitShard, RateScope::Account, 5),
    (RatedCall::SubscribeToShard, RateScope::ConsumerAndShard, 1),
    (RatedCall::UpdateShardCount, RateScope::Account, 10),
];

impl RatedCall {
    /// All of them, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(call, ..)| *call)
    }

    /// What its calls are counted for.
    #[must_use]
    pub const fn scope(self) -> RateScope {
        TABLE[self as usize].1
    }

    /// How many calls the service takes a second.
    #[must_use]
    pub const fn enforced(self) -> u32 {
        TABLE[self as usize].2
    }
}

/// Calls a second of each operation; `None` lifts a rate. As data a map from the names of operations, in which what is
/// absent is as the service has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "BTreeMap<RatedCall, Option<u32>>", into = "BTreeMap<RatedCall, Option<u32>>")]
pub struct CallRates([Option<u32>; TABLE.len()]);

impl CallRates {
    /// As the service has them.
    #[must_use]
    pub const fn enforced() -> Self {
        let mut rates = [None; TABLE.len()];
        let mut i = 0;
        while i < rates.len() {
            rates[i] = Some(TABLE[i].2);
            i += 1;
        }
        Self(rates)
    }

    /// None.
    #[must_use]
    pub const fn off() -> Self {
        Self([None; TABLE.len()])
    }

    /// The rate of an operation.
    #[must_use]
    pub const fn of(&self, call: RatedCall) -> Option<u32> {
        self.0[call as usize]
    }

    /// These, but for one operation.
    #[must_use]
    pub const fn with(mut self, call: RatedCall, per_second: Option<u32>) -> Self {
        self.0[call as usize] = per_second;
        self
    }
}

impl From<BTreeMap<RatedCall, Option<u32>>> for CallRates {
    fn from(rates: BTreeMap<RatedCall, Option<u32>>) -> Self {
        rates.into_iter().fold(Self::enforced(), |all, (call, rate)| all.with(call, rate))
    }
}

impl From<CallRates> for BTreeMap<RatedCall, Option<u32>> {
    fn from(rates: CallRates) -> Self {
        RatedCall::all().map(|call| (call, rates.of(call))).collect()
    }
}

/// What is left of the rates of an account, a stream or a shard.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<RatedCall, Budget>);

impl Calls {
    /// Counts a call, or says that there were too many. Calls that are refused for it do not count.
    pub(super) fn admit(&mut self, now: Timestamp, call: RatedCall, config: &Config) -> bool {
        let rate = config.limits.calls.of(call);
        rate.is_none() || self.0.entry(call).or_default().call(now, rate)
    }

    /// Whether a call would be admitted.
    pub(super) fn has_room(&self, now: Timestamp, call: RatedCall, config: &Config) -> bool {
        self.0.get(&call).is_none_or(|budget| budget.has_room(now, config.limits.calls.of(call).map(u64::from)))
    }

    /// The same for a call about a stream that is refused with `LimitExceeded`.
    pub(super) fn count(&mut self, now: Timestamp, call: RatedCall, stream: &StreamName, config: &Config) -> Result<(), ServiceError> {
        if self.admit(now, call, config) {
            return Ok(());
        }
        let message = format!("Rate exceeded for stream {stream} under account {}.", config.account_id);
        Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
    }
}

impl Model {
    /// Counts a call for the account; the stream is the one it is about, if any.
    pub(super) fn count(&mut self, now: Timestamp, call: RatedCall, stream: Option<&StreamName>) -> Result<(), ServiceError> {
        let Self { calls, config, .. } = self;
        match stream {
            Some(stream) => calls.count(now, call, stream, config),
            None if calls.admit(now, call, config) => Ok(()),
            None => {
                let message = format!("Rate exceeded for account {}.", config.account_id);
                Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
            }
        }
    }
}

#[cfg(test)]
#[path = "rates_test.rs"]
mod tests;
