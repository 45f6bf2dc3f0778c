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
            quirks: Quirks::default(),
        }
    }
}

/// Rates and quotas; `None` lifts one. Numbers and sources are in [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::enforced()
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
    /// `UPDATING`, before a split, merge or new shard count takes effect. Producers and readers go on meanwhile.
    pub update: Duration,
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
