//! The stream, seen from a consumer: the [`StreamClient`] trait and its implementations.
//!
//! A client makes one call per method and never retries: the caller knows whether a retry is worth it, and what
//! it may cost the shard's budget of five calls a second.

use std::fmt::{Debug, Display};

use async_trait::async_trait;

use crate::{
    error::Result,
    types::{ChildShard, ConsumerArn, ConsumerName, Record, SequenceNumber, Shard, ShardId, StreamArn, StreamName, Timestamp},
};

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "test-util")]
pub mod conformance;
mod limited;
mod subscription;

pub(crate) use limited::TimeLimited;
pub use subscription::{ConsumerDescription, ConsumerReference, ConsumerStatus, Heard, Subscription, SubscriptionEvent};

/// Which stream to call: by name within the client's account and region, or by ARN anywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamReference {
    /// In the account and region of the credentials.
    Name(StreamName),
    /// Also in another account.
    Arn(StreamArn),
}

impl StreamReference {
    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> StreamName {
        match self {
            Self::Name(name) => name.clone(),
            Self::Arn(arn) => arn.stream_name(),
        }
    }
}

impl Display for StreamReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => Display::fmt(name, f),
            Self::Arn(arn) => Display::fmt(arn, f),
        }
    }
}

impl std::str::FromStr for StreamReference {
    type Err = crate::types::InvalidText;
    /// A text that begins with `arn:` is an ARN, any other a name.
    fn from_str(s: &str) -> std::result::Result<Self, Self::Err> {
        if s.starts_with("arn:") { Ok(Self::Arn(s.parse()?)) } else { Ok(Self::Name(s.parse()?)) }
    }
}

/// Whether a stream can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StreamStatus {
    /// Being made: not readable yet.
    Creating,
    /// Being deleted.
    Deleting,
    /// In normal use.
    Active,
    /// Resharding or changing a setting: readable and writable.
    Updating,
}

/// What `DescribeStreamSummary` says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    /// Its name.
    pub name: StreamName,
    /// Its ARN.
    pub arn: StreamArn,
    /// Whether it can be read.
    pub status: StreamStatus,
    /// When it was made; a stream re-created under its name has another moment here.
    pub created: Timestamp,
    /// How long records are kept, in hours.
    pub retention_hours: u32,
    /// Shards that take records.
    pub open_shard_count: u32,
    /// Its stream consumers, in whatever state they are.
    pub consumer_count: u32,
}

/// Which shards `ListShards` returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardFilter {
    /// All shards in retention, open and closed.
    All,
    /// Shards after this one in the order of their ids.
    AfterShardId(ShardId),
    /// Shards open now.
    AtLatest,
    /// The oldest shards in retention: open at the trim horizon.
    AtTrimHorizon,
    /// Shards open at the moment.
    AtTimestamp(Timestamp),
    /// Shards open at the moment, and all made since.
    FromTimestamp(Timestamp),
}

/// Opaque token of the next `ListShards` page; lives five minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(pub String);

/// A page of `ListShards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPage {
    /// Shards in the order of their ids.
    pub shards: Vec<Shard>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<PageToken>,
}

/// Where reading a shard begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardPosition {
    /// The oldest record in retention.
    TrimHorizon,
    /// Just after the newest record.
    Latest,
    /// The first record that arrived at or after the moment.
    AtTimestamp(Timestamp),
    /// This record.
    AtSequenceNumber(SequenceNumber),
    /// The record after this one.
    AfterSequenceNumber(SequenceNumber),
}

/// Opaque place in a shard; lives five minutes.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardIterator(pub String);

impl Debug for ShardIterator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ShardIterator({} characters)", self.0.len())
    }
}

/// An answer of `GetRecords`.
#[derive(Debug, Clone)]
pub struct RecordsPage {
    /// Records in the order of their sequence numbers; may be empty while the shard has more.
    pub records: Vec<Record>,
    /// Where to read on; `None` at the end of a closed shard.
    pub next_iterator: Option<ShardIterator>,
    /// How far the answer is behind the tip of the shard, in milliseconds; 0 when caught up.
    pub millis_behind_latest: u64,
    /// The shards that follow, when `next_iterator` is `None`.
    pub child_shards: Vec<ChildShard>,
}

/// Calls to one Kinesis endpoint. Every implementation passes the suite in `stream::conformance`.
///
/// Implementations make a single attempt with an explicit time limit (a worker gives a call up after a minute, `GetRecords` after five), map each error of the service to the
/// [`ErrorKind`](crate::ErrorKind) that says what to do, and never log or format payloads and keys.
#[async_trait]
pub trait StreamClient: Debug + Display + Send + Sync + 'static {
    /// `DescribeStreamSummary`.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`, and the retryable kinds.
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription>;

    /// One page of `ListShards`: the first, or that of `page`, whose filter is part of the token.
    ///
    /// # Errors
    /// `NotFound`, `ResourceInUse` while the stream is being made, `ExpiredToken`, and the retryable kinds.
    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage>;

    /// `GetShardIterator`.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for a sequence number that is not of this shard, and the retryable kinds.
    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator>;

    /// `GetRecords`: at most `limit` records, 1 to 10,000.
    ///
    /// # Errors
    /// `ExpiredIterator`, `Throttled`, `NotFound`, `InvalidInput`, and the retryable kinds.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the iterator can be used again.
    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage>;

    /// `RegisterStreamConsumer`. The consumer cannot subscribe before it is `Active`, which takes seconds.
    ///
    /// # Errors
    /// `ResourceInUse` when the name is taken, or the stream is being made or deleted; `LimitExceeded` for more consumers
    /// than a stream may have, or more calls than a second may; `NotFound`, `AccessDenied`, and the retryable kinds.
    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription>;

    /// `DescribeStreamConsumer`.
    ///
    /// # Errors
    /// `NotFound` when the consumer or the stream is not there, `LimitExceeded` above 20 calls per second and stream,
    /// `AccessDenied`, and the retryable kinds.
    async fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription>;

    /// `ListStreamConsumers`: the first hundred, which are all that a stream may have.
    ///
    /// # Errors
    /// `NotFound`, `LimitExceeded` above 5 calls per second and stream, `AccessDenied`, and the retryable kinds.
    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>>;

    /// `DeregisterStreamConsumer`: ends its subscriptions.
    ///
    /// # Errors
    /// `NotFound`, `LimitExceeded`, `AccessDenied`, and the retryable kinds.
    async fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> Result<()>;

    /// `SubscribeToShard`: returns when the stream has accepted the subscription.
    ///
    /// A consumer has one subscription per shard. A new one takes the place of one that is older than five seconds.
    ///
    /// # Errors
    /// `ResourceInUse` within five seconds of the consumer's last subscription to the shard, and while the consumer is
    /// being made; `NotFound` for consumer, stream or shard; `InvalidInput` for a sequence number that is not of this
    /// shard; `LimitExceeded`, `AccessDenied`, and the retryable kinds.
    ///
    /// # Cancel safety
    /// A future that is dropped may leave a subscription behind, which counts for the five seconds.
    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>>;
}
