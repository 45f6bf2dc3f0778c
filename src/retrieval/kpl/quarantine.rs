//! Records held back, and who keeps them.

use async_trait::async_trait;

use crate::{
    stream::StreamReference,
    types::{Record, ShardId},
};

/// What is wrong with a record that begins as an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// It ends before its digest does.
    #[error("it is too short to be an aggregate")]
    TooShort,
    /// The digest is not that of the message: it is damaged, or only looks like an aggregate.
    #[error("its digest does not match")]
    Digest,
    /// The message ends early, is no protocol buffer, or lacks a required field.
    #[error("its message is no aggregate")]
    Message,
    /// A partition key is not UTF-8.
    #[error("a partition key is not UTF-8")]
    PartitionKey,
    /// It holds more than [`MAX_USER_RECORDS`](super::MAX_USER_RECORDS) records or keys.
    #[error("it has more records or keys than any producer writes")]
    TooMany,
    /// It holds no records.
    #[error("it holds no records")]
    NoRecords,
    /// A record refers to a key that is not there.
    #[error("a record refers to a key that is not there")]
    KeyIndex,
    /// An explicit hash key that a record uses is no decimal number from 0 to 2^128-1.
    #[error("an explicit hash key is no number from 0 to 2^128-1")]
    ExplicitHashKey,
}

/// Why a record is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum QuarantineReason {
    /// It is the whole record as it was fetched, and could not be taken apart.
    #[error("an aggregate cannot be taken apart: {0}")]
    Malformed(Defect),
    /// It is a user record whose hash key does not belong to the shard.
    #[error("the hash key of a user record lies outside of the shard")]
    OutsideShard,
}

/// A record that was held back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Quarantined {
    /// The record: the fetched one as it is on the wire, or a user record.
    pub record: Record,
    /// Why.
    pub reason: QuarantineReason,
}

/// What [`Quarantine::keep`] gets.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuarantineInput<'a> {
    /// The stream.
    pub stream: &'a StreamReference,
    /// The shard.
    pub shard_id: &'a ShardId,
    /// The records, at least one, in the order of their positions.
    pub records: &'a [Quarantined],
}

/// Where records go that [`Policy::Quarantine`](super::Policy::Quarantine) holds back: a dead-letter queue, a bucket, a log.
///
/// Records are kept here before anything that follows them is delivered, so that no checkpoint passes a record that is
/// in neither place. A record is kept again when its shard is read again from an earlier checkpoint: key what you store
/// by stream, shard and [`position`](Record::position).
#[async_trait]
pub trait Quarantine: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps the records; on `Ok` they are durable.
    ///
    /// # Errors
    /// Any: the call is repeated, with growing waits of up to ten seconds, and the shard waits.
    ///
    /// # Cancel safety
    /// The future is dropped when the shard leaves this worker; the next one keeps the records again.
    async fn keep(&self, input: QuarantineInput<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}
