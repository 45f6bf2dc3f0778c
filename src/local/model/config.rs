//! Settings of the model.

use std::time::Duration;

use super::CallRates;
use crate::limits;

/// Settings of a local account.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Account in ARNs and messages, 12 digits; `123456789012` unless set.
    pub account_id: String,
    /// Region in ARNs and messages; `us-east-1` unless set.
    pub region: String,
    /// Rates and quotas; enforced unless switched off.
    pub limits: Limits,
    /// How long changes of streams take; nothing unless set.
    pub delays: Delays,
    /// Life of a shard iterator; 5 minutes unless set. As times of subscriptions it holds without limits, too.
    pub iterator_life: Duration,
    /// Times of subscriptions; the service's unless set.
    pub fan_out: FanOut,
    /// Liberties that the real service takes and that readers must bear; none unless set.
    pub quirks: Quirks,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            account_id: "123456789012".to_owned(),
            region: "us-east-1".to_owned(),
            limits: Limits::enforced(),
            delays: Delays::default(),
            iterator_life: limits::SHARD_ITERATOR_TTL,
            fan_out: FanOut::default(),
            quirks: Quirks::default(),
        }
    }
}

/// Rates and quotas; `None` lifts one. Numbers and sources are in [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls per second, by operation.
    pub calls: CallRates,
    /// Bytes per second and shard that GetRecords returns.
    pub read_bytes_per_second: Option<u64>,
    /// Bytes per second and shard that producers write.
    pub write_bytes_per_second: Option<u64>,
    /// Records per second and shard that producers write.
    pub write_records_per_second: Option<u64>,
    /// Streams of the account in creation at a time.
    pub streams_in_creation: Option<u32>,
    /// On-demand streams of the account.
    pub on_demand_streams: Option<u32>,
    /// Shards of one stream that UpdateShardCount makes.
    pub shards_per_stream: Option<u32>,
    /// Open shards of the account.
    pub shards_per_account: Option<u32>,
    /// UpdateShardCount calls per stream in 24 hours.
    pub update_shard_count_calls_per_day: Option<u32>,
    /// UpdateStreamMode calls per stream in 24 hours.
    pub update_stream_mode_calls_per_day: Option<u32>,
    /// StartStreamEncryption calls, and StopStreamEncryption calls, per stream in 24 hours.
    pub encryption_calls_per_day: Option<u32>,
    /// Stream consumers of a stream.
    pub consumers_per_stream: Option<u32>,
    /// Stream consumers of the account in creation at a time.
    pub consumers_in_creation: Option<u32>,
    /// Bytes per second that a stream consumer gets from a shard.
    pub fan_out_bytes_per_second: Option<u64>,
}

impl Limits {
    /// As the service enforces them.
    #[must_use]
    pub const fn enforced() -> Self {
        Self {
            calls: CallRates::enforced(),
            read_bytes_per_second: Some(limits::READ_BYTES_PER_SECOND),
            write_bytes_per_second: Some(limits::WRITE_BYTES_PER_SECOND),
            write_records_per_second: Some(limits::WRITE_RECORDS_PER_SECOND),
            streams_in_creation: Some(5),
            on_demand_streams: Some(50),
            shards_per_stream: Some(10_000),
            shards_per_account: Some(20_000),
            update_shard_count_calls_per_day: Some(10),
            update_stream_mode_calls_per_day: Some(2),
            encryption_calls_per_day: Some(25),
            consumers_per_stream: Some(limits::CONSUMERS_PER_STREAM),
            consumers_in_creation: Some(limits::CONSUMERS_IN_CREATION),
            fan_out_bytes_per_second: Some(limits::FAN_OUT_BYTES_PER_SECOND),
        }
    }

    /// None: calls succeed as fast as they come. Sizes of requests and answers stay bounded.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            calls: CallRates::off(),
            read_bytes_per_second: None,
            write_bytes_per_second: None,
            write_records_per_second: None,
            streams_in_creation: None,
            on_demand_streams: None,
            shards_per_stream: None,
            shards_per_account: None,
            update_shard_count_calls_per_day: None,
            update_stream_mode_calls_per_day: None,
            encryption_calls_per_day: None,
            consumers_per_stream: None,
            consumers_in_creation: None,
            fan_out_bytes_per_second: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::enforced()
    }
}

/// Times of SubscribeToShard. They are what the service does to every caller, so they hold without limits, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FanOut {
    /// Life of a subscription; 5 minutes.
    pub subscription_life: Duration,
    /// Time after which a subscription with nothing to deliver gets an event without records; 5 seconds.
    pub idle_event_interval: Duration,
    /// Age from which a subscription is replaced by a new one of the same consumer and shard, which is refused until
    /// then; 5 seconds.
    pub takeover_after: Duration,
}

impl Default for FanOut {
    fn default() -> Self {
        Self {
            subscription_life: limits::SUBSCRIPTION_TTL,
            idle_event_interval: Duration::from_secs(5),
            takeover_after: limits::SUBSCRIBE_MIN_INTERVAL,
        }
    }
}

/// How long a stream stays in a passing state. The real service takes seconds to minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// `CREATING`, before the stream can be used.
    pub create: Duration,
    /// `DELETING`, before the name is free.
    pub delete: Duration,
    /// `UPDATING`, before a split, merge or new shard count takes effect, and after any other change. Producers and
    /// readers go on meanwhile.
    pub update: Duration,
    /// `CREATING` of a stream consumer, before it can subscribe, and `DELETING`, before its name is free.
    pub consumer: Duration,
}

/// What the service may do, seldom does, and a consumer must bear.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// ListShards and DescribeStream show the shards as they were this long ago.
    pub list_shards_lag: Duration,
    /// Share of GetRecords answers, 0 to 1, that are empty with `MillisBehindLatest` above 0 although records wait.
    pub empty_answers: f64,
}
