//! The service as a pure state machine: every operation takes the time and returns at once.
//!
//! [`Model`] is one account in one region. It has no clock, does no I/O and starts nothing: what happens later (a stream
//! becoming active, a split taking effect, a record leaving retention) happens at the next call that looks. The same
//! calls with the same times and the same seed give the same answers.
//!
//! What it keeps to is the API reference of each operation; where that is silent, what other people measured against
//! the service. Errors carry the service's names and words.

mod account;
mod api;
pub(super) mod change;
mod config;
mod consumers;
mod encryption;
mod error;
mod get_records;
mod iterator;
mod list_shards;
mod monitoring;
mod on_demand;
mod policy;
mod put;
mod rates;
mod reshard;
mod retention;
pub mod routing;
mod sequence;
mod settings;
pub(super) mod shard;
pub(super) mod stream;
mod streams;
mod subscription;
mod tags;
mod throttle;
mod token;
mod utc;

use std::collections::{BTreeMap, BTreeSet};

pub use account::{CommitmentStatus, ThroughputCommitment};
pub use api::{
    CreateStream, ListShards, ListStreams, PutEntry, PutOutcome, PutReceipt, StreamMode, StreamPage, StreamSummary, StreamsPage,
    UpdatedShardCount,
};
pub use config::{Config, Delays, FanOut, Limits, Quirks};
pub use consumers::{ConsumerReference, ConsumersPage, ListStreamConsumers, StreamConsumer};
pub use error::{ServiceError, ServiceErrorCode};
pub use monitoring::{MonitoringChange, ShardLevelMetric};
pub use on_demand::{RecordDistributionStrategy, UpdatedWarmThroughput, WarmThroughput};
pub use rates::{CallRates, RateScope, RatedCall};
pub use settings::AccountLimits;
pub use subscription::{SubscriptionId, SubscriptionStep};
pub use tags::{ResourceArn, TagsPage};

pub(super) use self::account::AccountFacts;
use self::{
    change::{Change, Journal},
    rates::Calls,
    stream::{Context, Stream, stream_not_found},
    subscription::Subscription,
};
use crate::{
    random::Randomness,
    stream::StreamReference,
    types::{StreamName, Timestamp},
};

/// All streams of one account in one region.
#[derive(Debug)]
pub struct Model {
    config: Config,
    randomness: Randomness,
    journal: Journal,
    account: AccountFacts,
    streams: BTreeMap<StreamName, Stream>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    next_subscription: u64,
    woken: BTreeSet<SubscriptionId>,
    /// What the rates of the account have left.
    calls: Calls,
}

impl Model {
    /// An account without streams.
    #[must_use]
    pub fn new(config: Config, randomness: Randomness) -> Self {
        Self {
            config,
            randomness,
            journal: Journal::default(),
            account: AccountFacts::default(),
            streams: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            next_subscription: 0,
            woken: BTreeSet::new(),
            calls: Calls::default(),
        }
    }

    /// The account as it was kept, from now on with its changes noted for [`Model::take_changes`].
    #[cfg(feature = "sqlite")]
    pub(super) fn restored(config: Config, randomness: Randomness, account: AccountFacts, streams: Vec<Stream>) -> Self {
        let streams = streams.into_iter().map(|mut stream| {
            // The region and account of the settings hold, whatever they were before.
            stream.facts.arn = streams::arn(&config, &stream.facts.name).unwrap_or(stream.facts.arn);
            (stream.facts.name.clone(), stream)
        });
        let mut model = Self { account, streams: streams.collect(), ..Self::new(config.clone(), randomness) };
        model.journal.keep();
        model
    }

    /// What changed since this was last asked, in order; nothing unless somebody keeps the model.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.journal.take()
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn kept_stream(&self, name: &StreamName) -> Option<&Stream> {
        self.streams.get(name)
    }

    #[cfg(feature = "sqlite")]
    pub(super) const fn kept_account(&self) -> &AccountFacts {
        &self.account
    }

    /// Its settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the settings from the next call on.
    pub const fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Runs an operation on a stream, after the steps that are due.
    fn on<T>(
        &mut self,
        now: Timestamp,
        reference: &StreamReference,
        operation: impl FnOnce(&mut Stream, &mut Context<'_>) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let Self { config, randomness, journal, streams, woken, .. } = self;
        let name = reference.name();
        let ours = match reference {
            StreamReference::Name(_) => true,
            StreamReference::Arn(arn) => arn.account_id() == config.account_id && arn.region() == config.region,
        };
        let mut cx = Context { now, config, randomness, journal, woken };
        let stream = streams.get_mut(&name).filter(|_| ours).ok_or_else(|| stream_not_found(&name, cx.config))?;
        if stream.settle(&mut cx) {
            return operation(stream, &mut cx);
        }
        cx.journal.note(|| Change::StreamRemoved(name.clone()));
        let gone = stream_not_found(&name, cx.config);
        streams.remove(&name);
        Err(gone)
    }

    /// Open shards of all streams, those in the making included.
    fn open_shards(&self) -> u32 {
        self.streams.values().map(|stream| u32::try_from(stream.open.len()).unwrap_or(u32::MAX)).fold(0, u32::saturating_add)
    }
}

#[cfg(test)]
#[path = "properties_test.rs"]
mod properties;
#[cfg(test)]
#[path = "rules_test.rs"]
mod rules;
#[cfg(test)]
#[path = "settings_test.rs"]
mod settings_rules;
