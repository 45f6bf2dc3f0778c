//! One shard, one task: waits for its parents, reads, calls the processor, checkpoints, and ends.
//!
//! Data in: a held lease, batches of a `RecordSource`. Data out: calls of user code, checkpoints through the lease.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::SharedClock,
    error::{Error, ErrorKind, Result},
    processor::RecordProcessorFactory,
    random::Randomness,
    retrieval::{Access, ByteBudget, Unpacking, fan_out, polling},
    retry::RetryConfig,
    settings::{DAY, check_span},
    stream::{StreamClient, StreamReference},
    task::Spawner,
    types::WorkerId,
};

mod calls;
mod delivery;
mod driver;
mod flow;
mod pause;
mod rate;
mod state;
mod status;

pub use pause::Shards;
pub use status::{ShardPhase, ShardStatus};

pub(crate) use delivery::{Deliveries, ShardDeliveries};
pub(crate) use driver::run_shard;
pub(crate) use status::StatusCell;

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
    /// How long a call of user code may run on after its lease was lost, and how long `lease_lost` may take; default
    /// 10 s. Then the call is dropped. Until then this worker does not take the shard again.
    pub lease_lost_timeout: Duration,
    /// How long a call of user code (`initialize`, `process_records`, `shard_ended`) may take; none by default. A call
    /// that takes longer is told by its `cancelled` token and shown in the status; when it has not returned after
    /// `lease_lost_timeout` more, it is dropped, the lease is released from its last checkpoint, and the shard is reported
    /// as failed. A call that blocks its thread cannot be dropped: its lease is kept, since two would else work on the
    /// shard, until it returns.
    pub handler_timeout: Option<Duration>,
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
            lease_lost_timeout: Duration::from_secs(10),
            handler_timeout: None,
            parent_poll_interval: Duration::from_secs(2),
        }
    }
}

impl Config {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fields and their values.
    pub fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.checkpoint_interval.is_some_and(|interval| interval.is_zero()) {
            return bad("checkpoint_interval is zero: set it to none to write checkpoints by hand, or give 100 ms or more".to_owned());
        }
        let shortest = Duration::from_nanos(1);
        check_span("checkpoint_interval", self.checkpoint_interval.unwrap_or(DAY), shortest..=DAY)?;
        check_span("processor_retry.min_delay", self.processor_retry.min_delay, Duration::ZERO..=DAY)?;
        check_span("processor_retry.max_delay", self.processor_retry.max_delay, Duration::ZERO..=DAY)?;
        check_span("consumer.drain_timeout", self.drain_timeout, Duration::ZERO..=DAY)?;
        check_span("lease_lost_timeout", self.lease_lost_timeout, Duration::ZERO..=DAY)?;
        if self.processor_retry.max_attempts == Some(0) {
            return bad("processor_retry.max_attempts is 0: the first attempt counts, give 1 or more".to_owned());
        }
        if self.processor_retry.max_delay < self.processor_retry.min_delay {
            return bad(format!(
                "processor_retry.max_delay is {:?} and min_delay {:?}: raise max_delay, or lower min_delay",
                self.processor_retry.max_delay, self.processor_retry.min_delay
            ));
        }
        if let Some(limit) = self.handler_timeout {
            check_span("handler_timeout", limit, Duration::from_millis(1)..=DAY)?;
        }
        check_span("parent_poll_interval", self.parent_poll_interval, Duration::from_millis(1)..=DAY)
    }
}

/// What all shards of one stream in one worker share.
#[derive(Clone)]
pub(crate) struct StreamContext {
    pub(crate) worker: WorkerId,
    pub(crate) stream: StreamReference,
    pub(crate) client: Arc<dyn StreamClient>,
    pub(crate) factory: Arc<dyn RecordProcessorFactory>,
    pub(crate) config: Config,
    pub(crate) polling: polling::Config,
    /// How shards are read.
    pub(crate) access: Access,
    pub(crate) fan_out: fan_out::Config,
    pub(crate) unpacking: Unpacking,
    /// Shared by all shards of the worker.
    pub(crate) budget: ByteBudget,
    /// What of the worker is paused, and its rate limit.
    pub(crate) deliveries: Deliveries,
    pub(crate) clock: SharedClock,
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
    /// User code failed for good, or the shard could not be read: the lease was kept until the worker was told to stop,
    /// and then surrendered with the last checkpoint. Or a call took longer than it may, and the lease was released.
    Failed(Error),
}
