//! Limits of the service, each with its unit and where it is documented.
//!
//! Sources: <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html> and the API reference of
//! each operation, <https://docs.aws.amazon.com/kinesis/latest/APIReference/Welcome.html>.

use std::time::Duration;

/// GetRecords calls per second and shard, shared by all applications that poll it (GetRecords).
pub const GET_RECORDS_CALLS_PER_SECOND: u32 = 5;
/// Bytes per second and shard that GetRecords returns, shared by all applications that poll it (GetRecords).
pub const READ_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// Records in one GetRecords answer (GetRecords, Limit).
pub const GET_RECORDS_MAX_RECORDS: u32 = 10_000;
/// Bytes in one GetRecords answer (GetRecords). An answer of this size uses up the shard's next five seconds.
pub const GET_RECORDS_MAX_BYTES: u64 = 10 * 1024 * 1024;
/// Life of a shard iterator (GetShardIterator).
pub const SHARD_ITERATOR_TTL: Duration = Duration::from_secs(300);
/// GetShardIterator calls per second and shard (GetShardIterator).
pub const GET_SHARD_ITERATOR_CALLS_PER_SECOND: u32 = 5;
/// ListShards calls per second and stream (ListShards).
pub const LIST_SHARDS_CALLS_PER_SECOND: u32 = 1000;
/// Shards in one ListShards answer (ListShards, MaxResults).
pub const LIST_SHARDS_MAX_RESULTS: u32 = 10_000;
/// Life of a ListShards page token (ListShards, NextToken).
pub const LIST_SHARDS_TOKEN_TTL: Duration = Duration::from_secs(300);
/// Bytes per second and shard that producers can write (PutRecord).
pub const WRITE_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// Records per second and shard that producers can write (PutRecord).
pub const WRITE_RECORDS_PER_SECOND: u64 = 1000;
/// Records in one PutRecords request (PutRecords).
pub const PUT_RECORDS_MAX_RECORDS: usize = 500;
/// Bytes in one PutRecords request, partition keys included (PutRecords).
pub const PUT_RECORDS_MAX_BYTES: usize = 10 * 1024 * 1024;
/// Largest record, payload and partition key, a stream can be set to take; 1 MiB unless raised by UpdateMaxRecordSize
/// (PutRecord).
pub const RECORD_MAX_BYTES: usize = 10 * 1024 * 1024;
/// Record, payload and partition key, that a stream takes unless told otherwise (UpdateMaxRecordSize).
pub const RECORD_DEFAULT_MAX_BYTES: usize = 1024 * 1024;
/// Characters of a partition key (PutRecord).
pub const PARTITION_KEY_MAX_CHARS: usize = 256;
/// Shortest retention, also the default (IncreaseStreamRetentionPeriod).
pub const RETENTION_MIN: Duration = Duration::from_secs(24 * 3600);
/// Longest retention, 365 days (IncreaseStreamRetentionPeriod).
pub const RETENTION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Shortest time between SubscribeToShard calls of one consumer to one shard (SubscribeToShard).
pub const SUBSCRIBE_CALL_INTERVAL: Duration = Duration::from_secs(1);
/// Stream consumers of one stream (RegisterStreamConsumer).
pub const CONSUMERS_PER_STREAM: u32 = 20;
/// RegisterStreamConsumer calls per second and account (RegisterStreamConsumer).
pub const REGISTER_CONSUMER_CALLS_PER_SECOND: u32 = 5;
/// Stream consumers of one account that may be in creation at a time (RegisterStreamConsumer).
pub const CONSUMERS_IN_CREATION: u32 = 5;
/// Bytes per second that one stream consumer gets from one shard (SubscribeToShard).
pub const FAN_OUT_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// Tags of a stream or a stream consumer (AddTagsToStream, TagResource).
pub const TAGS_MAX: usize = 50;
/// Life of one SubscribeToShard call (SubscribeToShard).
pub const SUBSCRIPTION_TTL: Duration = Duration::from_secs(300);
/// Time in which a second SubscribeToShard of the same consumer and shard is refused (SubscribeToShard).
pub const SUBSCRIBE_MIN_INTERVAL: Duration = Duration::from_secs(5);
/// Time between the events of a subscription to a shard without records (not documented; seen by users of the service).
pub const SUBSCRIPTION_IDLE_EVENT_INTERVAL: Duration = Duration::from_secs(5);
