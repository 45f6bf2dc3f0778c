//! Settings of the model.

use std::time::Duration;

use crate::limits;

/// Settings of a local account.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Account in ARNs and messages, 12 digits; `123456789012` unless set.
    pub account_id: String,
    /// Region in ARNs and messages; `us-east-1` unless set.
    pub region: String,
    /// Rates and quotas; enforced unless switched off.
    pub limits: Limits,
    /// How long changes of streams take; nothing unless set.
    pub delays: Delays,
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
            fan_out: FanOut::default(),
            quirks: Quirks::default(),
        }
    }
}

/// Rates and quotas; `None` lifts one. Numbers and sources are in [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Limits {
    /// GetRecords calls per second and shard.
    pub get_records_calls_per_second: Option<u32>,
    /// Bytes per second and shard that GetRecords returns.
    pub read_bytes_per_second: Option<u64>,
    /// GetShardIterator calls per second and shard.
    pub get_shard_iterator_calls_per_second: Option<u32>,
    /// Bytes per second and shard that producers write.
    pub write_bytes_per_second: Option<u64>,
    /// Records per second and shard that producers write.
    pub write_records_per_second: Option<u64>,
    /// ListShards calls per second and stream.
    pub list_shards_calls_per_second: Option<u32>,
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
    /// Stream consumers of a stream in creation at a time.
    pub consumers_in_creation: Option<u32>,
    /// DescribeStreamConsumer calls per second and stream.
    pub describe_consumer_calls_per_second: Option<u32>,
    /// Calls per second and stream of each of RegisterStreamConsumer, DeregisterStreamConsumer and ListStreamConsumers.
    pub consumer_calls_per_second: Option<u32>,
    /// Bytes per second that a stream consumer gets from a shard.
    pub fan_out_bytes_per_second: Option<u64>,
}

impl Limits {
    /// As the service enforces them.
    #[must_use]
    pub const fn enforced() -> Self {
        Self {
            get_records_calls_per_second: Some(limits::GET_RECORDS_CALLS_PER_SECOND),
            read_bytes_per_second: Some(limits::READ_BYTES_PER_SECOND),
            get_shard_iterator_calls_per_second: Some(limits::GET_SHARD_ITERATOR_CALLS_PER_SECOND),
            write_bytes_per_second: Some(limits::WRITE_BYTES_PER_SECOND),
            write_records_per_second: Some(limits::WRITE_RECORDS_PER_SECOND),
            list_shards_calls_per_second: Some(limits::LIST_SHARDS_CALLS_PER_SECOND),
            shards_per_account: Some(20_000),
            update_shard_count_calls_per_day: Some(10),
            update_stream_mode_calls_per_day: Some(2),
            encryption_calls_per_day: Some(25),
            consumers_per_stream: Some(limits::CONSUMERS_PER_STREAM),
            consumers_in_creation: Some(limits::CONSUMERS_IN_CREATION),
            describe_consumer_calls_per_second: Some(20),
            consumer_calls_per_second: Some(5),
            fan_out_bytes_per_second: Some(limits::FAN_OUT_BYTES_PER_SECOND),
        }
    }

    /// None: calls succeed as fast as they come. Sizes of requests and answers stay bounded.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            get_records_calls_per_second: None,
            read_bytes_per_second: None,
            get_shard_iterator_calls_per_second: None,
            write_bytes_per_second: None,
            write_records_per_second: None,
            list_shards_calls_per_second: None,
            shards_per_account: None,
            update_shard_count_calls_per_day: None,
            update_stream_mode_calls_per_day: None,
            encryption_calls_per_day: None,
            consumers_per_stream: None,
            consumers_in_creation: None,
            describe_consumer_calls_per_second: None,
            consumer_calls_per_second: None,
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
#[serde(default)]
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
#[serde(default)]
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
#[serde(default)]
pub struct Quirks {
    /// ListShards and DescribeStream show the shards as they were this long ago.
    pub list_shards_lag: Duration,
    /// Share of GetRecords answers, 0 to 1, that are empty with `MillisBehindLatest` above 0 although records wait.
    pub empty_answers: f64,
}
