//! One shard, one task: waits for its parents, reads, calls the processor, checkpoints, and ends.
//!
//! Data in: a held lease, batches of a `RecordSource`. Data out: calls of user code, checkpoints through the lease.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::Error,
    lease::{LeaseKey, coordinator::HeldLease},
    processor::RecordProcessorFactory,
    random::Randomness,
    retry::RetryConfig,
    stream::{StreamClient, StreamReference},
    task::Spawner,
};

/// How shards are consumed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// With automatic checkpoints, how long progress may stay unwritten; default 5 s. A longer interval costs fewer
    /// lease-table writes and more repeats after a crash. `None` leaves checkpoints to the application.
    pub checkpoint_interval: Option<Duration>,
    /// Attempts at a batch that fails, and the waits between them; by default 10 attempts over about half a minute.
    pub processor_retry: RetryConfig,
    /// How long a shard that is to move or stop may take to finish the batch in hand and flush; default 30 s. Then
    /// it moves from its last checkpoint.
    pub drain_timeout: Duration,
    /// How often a child shard looks whether its parents have ended, when no signal comes; default 2 s.
    pub parent_poll_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            checkpoint_interval: Some(Duration::from_secs(5)),
            processor_retry: RetryConfig {
                max_attempts: Some(10),
                min_delay: Duration::from_millis(100),
                max_delay: Duration::from_secs(5),
            },
            drain_timeout: Duration::from_secs(30),
            parent_poll_interval: Duration::from_secs(2),
        }
    }
}

/// What all shards of one stream in one worker share.
#[derive(Clone)]
pub(crate) struct StreamContext {
    pub(crate) stream: StreamReference,
    pub(crate) client: Arc<dyn StreamClient>,
    pub(crate) factory: Arc<dyn RecordProcessorFactory>,
    pub(crate) config: Config,
    pub(crate) random: Randomness,
    /// Where fetching and user code run.
    pub(crate) spawner: Spawner,
}

/// How a tenure ended.
#[derive(Debug)]
pub(crate) enum ShardOutcome {
    /// Handed to another worker, or released, after a clean stop.
    Surrendered,
    /// The shard is closed and done; its children's leases exist.
    Ended,
    /// Another worker has it.
    Lost,
    /// User code failed for good, or the shard cannot be read: the lease was kept until the worker was told to stop.
    Failed(Error),
}
