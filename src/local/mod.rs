//! A faithful Kinesis in the process: no network, no account, nothing to install.
//!
//! - [`model`] is the service as a pure state machine: streams, shards, records, limits. It has no clock and does no
//!   I/O; every call says what time it is.
//! - [`LocalKinesis`] shares a model between tasks, gives it a clock, and is both a producer's client and a
//!   [`StreamClient`](crate::stream::StreamClient). In memory, or kept in a SQLite file (feature `sqlite`).
//!
//! The server (feature `server`) puts the same handle behind the wire protocol of the service.

#[cfg(feature = "test-util")]
mod control;
mod fan_out;
mod fan_out_client;
mod keeper;
mod kinesis;
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only the store in a SQLite file asks what changed, and restores it"))]
pub mod model;
#[cfg(feature = "server")]
pub mod server;
mod settings;
#[cfg(feature = "sqlite")]
mod store;
mod worker;

pub use fan_out::Subscription;
pub use kinesis::LocalKinesis;
pub use model::{
    AccountLimits, CallRates, CommitmentStatus, Config, ConsumerReference, ConsumersPage, CreateStream, Delays, FanOut, Limits, ListShards,
    ListStreamConsumers, ListStreams, Model, MonitoringChange, PutEntry, PutOutcome, PutReceipt, Quirks, RateScope, RatedCall,
    RecordDistributionStrategy, ResourceArn, ServiceError, ServiceErrorCode, ShardLevelMetric, StreamConsumer, StreamMode, StreamPage,
    StreamSummary, StreamsPage, SubscriptionId, SubscriptionStep, TagsPage, ThroughputCommitment, UpdatedShardCount, UpdatedWarmThroughput,
    WarmThroughput,
};
