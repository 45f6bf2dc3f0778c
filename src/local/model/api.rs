//! What goes into the model's operations and what comes out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{RecordDistributionStrategy, ServiceError, ShardLevelMetric, WarmThroughput};
use crate::{
    limits,
    stream::{PageToken, ShardFilter, StreamDescription, StreamReference},
    types::{EncryptionType, PartitionKey, SequenceNumber, Shard, ShardId, StreamArn, StreamName, Timestamp},
};

/// Who sets the number of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamMode {
    /// The user.
    Provisioned,
    /// The service; such a stream has 4 shards unless it is given warm throughput.
    OnDemand,
}

impl StreamMode {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// Input of `CreateStream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStream {
    /// The new stream's name.
    pub name: StreamName,
    /// Who sets the number of shards.
    pub mode: StreamMode,
    /// Shards to begin with, at least 1 for [`StreamMode::Provisioned`]; must be absent for [`StreamMode::OnDemand`].
    pub shard_count: Option<u32>,
    /// Largest payload a record may have, 1 MiB to 10 MiB; 1 MiB when absent.
    pub max_record_bytes: Option<usize>,
    /// Up to 50 tags.
    pub tags: BTreeMap<String, String>,
    /// Write throughput in MiB per second that an on-demand stream has shards for from the beginning, up to 10,240; needs an
    /// account with commitment. Must be absent for [`StreamMode::Provisioned`].
    pub warm_throughput_mibps: Option<u32>,
}

impl CreateStream {
    /// A stream with this number of shards.
    #[must_use]
    pub const fn provisioned(name: StreamName, shard_count: u32) -> Self {
        Self {
            name,
            mode: StreamMode::Provisioned,
            shard_count: Some(shard_count),
            max_record_bytes: None,
            tags: BTreeMap::new(),
            warm_throughput_mibps: None,
        }
    }

    /// A stream whose shards are the service's business.
    #[must_use]
    pub const fn on_demand(name: StreamName) -> Self {
        Self {
            name,
            mode: StreamMode::OnDemand,
            shard_count: None,
            max_record_bytes: None,
            tags: BTreeMap::new(),
            warm_throughput_mibps: None,
        }
    }

    pub(super) fn max_record_bytes(&self) -> usize {
        self.max_record_bytes.unwrap_or(limits::RECORD_DEFAULT_MAX_BYTES)
    }
}

/// What `DescribeStreamSummary` says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSummary {
    /// Name, ARN, status, creation time, retention, and how many open shards and stream consumers it has.
    pub description: StreamDescription,
    /// Who sets the number of shards.
    pub mode: StreamMode,
    /// Largest record, payload and partition key.
    pub max_record_bytes: usize,
    /// The KMS key that encrypts new records; `None` when they are not encrypted.
    pub encryption_key: Option<String>,
    /// Metrics that are kept for each shard.
    pub shard_level_metrics: BTreeSet<ShardLevelMetric>,
    /// How records come to their shards, of on-demand streams.
    pub record_distribution: Option<RecordDistributionStrategy>,
    /// Of on-demand streams in accounts with commitment; only `DescribeStreamSummary` tells it.
    pub warm_throughput: Option<WarmThroughput>,
}

/// What `DescribeStream` says: the summary and a page of shards in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamPage {
    /// The stream.
    pub summary: StreamSummary,
    /// Shards in retention, open and closed.
    pub shards: Vec<Shard>,
    /// Whether there are shards after the last of these.
    pub has_more_shards: bool,
}

/// Input of `ListStreams`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListStreams {
    /// Streams after this name; excludes `next_token`.
    pub exclusive_start_stream_name: Option<String>,
    /// Most streams in the answer, 1 to 10,000; 100 when absent.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
}

/// A page of `ListStreams`, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsPage {
    /// The streams.
    pub streams: Vec<StreamSummary>,
    /// Where the next page begins; `None` on the last (`HasMoreStreams` is whether it is there).
    pub next_token: Option<String>,
}

/// Input of `ListShards`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListShards {
    /// The stream; must be absent beside `next_token`.
    pub stream: Option<StreamReference>,
    /// Where the page before ended; carries the stream and the filter.
    pub next_token: Option<PageToken>,
    /// Shards after this id; must be absent beside `next_token`.
    pub exclusive_start_shard_id: Option<ShardId>,
    /// Most shards in the answer, 1 to 10,000; 1,000 when absent.
    pub max_results: Option<u32>,
    /// Which shards; all in retention when absent. `FROM_TRIM_HORIZON` is [`ShardFilter::All`].
    pub filter: Option<ShardFilter>,
    /// Tells a stream from its predecessor of the same name; must be absent beside `next_token`.
    pub stream_creation_timestamp: Option<Timestamp>,
}

/// One record to put.
#[derive(Clone)]
pub struct PutEntry {
    /// The payload.
    pub data: Bytes,
    /// 1 to 256 characters; its MD5 chooses the shard.
    pub partition_key: PartitionKey,
    /// Chooses the shard in place of the partition key.
    pub explicit_hash_key: Option<u128>,
}

impl PutEntry {
    /// A record whose partition key chooses the shard.
    #[must_use]
    pub fn new(partition_key: impl Into<PartitionKey>, data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), partition_key: partition_key.into(), explicit_hash_key: None }
    }

    /// Chooses the shard by this hash key.
    #[must_use]
    pub const fn with_explicit_hash_key(mut self, key: u128) -> Self {
        self.explicit_hash_key = Some(key);
        self
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.data.len() + self.partition_key.as_str().len()
    }
}

/// Redacted: sizes only.
impl std::fmt::Debug for PutEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PutEntry({} bytes)", self.size_bytes())
    }
}

/// Where a record went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReceipt {
    /// The shard.
    pub shard_id: ShardId,
    /// Its place in the shard.
    pub sequence_number: SequenceNumber,
    /// How the service encrypts it.
    pub encryption_type: EncryptionType,
}

/// Outcome of one entry of `PutRecords`; an `Err` is the entry's `ErrorCode` and `ErrorMessage`.
pub type PutOutcome = Result<PutReceipt, ServiceError>;

/// What `UpdateShardCount` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatedShardCount {
    /// The stream's name.
    pub stream_name: StreamName,
    /// The stream's ARN.
    pub stream_arn: StreamArn,
    /// Open shards when the call came.
    pub current_shard_count: u32,
    /// Open shards when it is done.
    pub target_shard_count: u32,
}
