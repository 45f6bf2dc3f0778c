//! What a run came to.

use std::fmt;

use crate::{
    consumer::ShardStatus,
    error::{Error, ErrorKind, Result},
    retrieval::kpl::KplCounts,
    stream::StreamReference,
    types::{ShardId, WorkerId},
};

/// How the tenure of a shard ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardEnding {
    /// Handed to another worker, or released, after a clean stop.
    Surrendered,
    /// The shard is closed and completely processed.
    Ended,
    /// Another worker has it: this one was taken for dead.
    Lost,
    /// Stopped for good by an error; the text says which.
    Failed(String),
}

/// One tenure of one shard.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ShardReport {
    /// The stream.
    pub stream: String,
    /// The shard.
    pub shard_id: ShardId,
    /// How it ended.
    pub ending: ShardEnding,
    /// What was wrong at the end, if anything: the error that stopped the shard, or at which its call was failing when it
    /// left this worker. Names the batch by its sequence numbers.
    pub failure: Option<String>,
    /// Records for which `process_records` returned `Ok`.
    pub records: u64,
    /// What became of the records that were fetched; those fetched and not processed when the tenure ended are counted too.
    pub kpl: KplCounts,
    /// Reads that were throttled.
    pub throttled_calls: u64,
    /// Subscriptions that another reader took the place of long before their end.
    pub replaced_subscriptions: u64,
    /// The last durable checkpoint, as text.
    pub checkpoint: String,
}

impl ShardReport {
    pub(super) fn new(stream: &StreamReference, status: ShardStatus, ending: ShardEnding) -> Self {
        let failure = match &ending {
            ShardEnding::Failed(why) => Some(why.clone()),
            ShardEnding::Surrendered | ShardEnding::Lost | ShardEnding::Ended => status.failure,
        };
        Self {
            stream: stream.to_string(),
            shard_id: status.shard_id,
            ending,
            failure,
            records: status.records,
            kpl: status.kpl,
            throttled_calls: status.throttled_calls,
            replaced_subscriptions: status.replaced_subscriptions,
            checkpoint: status.checkpoint,
        }
    }
}

impl fmt::Display for ShardReport {
    /// One line, such as `shard shardId-000000000003 of clicks: surrendered after 120 records`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.ending {
            ShardEnding::Surrendered => "surrendered",
            ShardEnding::Ended => "processed to its end",
            ShardEnding::Lost => "lost to another worker",
            ShardEnding::Failed(_) => "failed",
        };
        let records = if self.records == 1 { "record" } else { "records" };
        write!(f, "shard {} of {}: {how} after {} {records}", self.shard_id, self.stream, self.records)?;
        match (&self.failure, &self.ending) {
            (Some(why), ShardEnding::Failed(_)) => write!(f, ": {why}"),
            (Some(why), _) => write!(f, " while failing {why}"),
            (None, _) => Ok(()),
        }
    }
}

/// What [`Worker::run`](super::Worker::run) came to.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct RunReport {
    /// The worker.
    pub worker_id: WorkerId,
    /// Why it never got to work: it was told to stop before it had reached its stream and lease table. `None` otherwise.
    pub not_started: Option<String>,
    /// Records for which `process_records` returned `Ok`.
    pub records: u64,
    /// What became of the records that were fetched, over all tenures that have ended: `received = delivered + filtered +
    /// quarantined`. Those delivered run ahead of [`records`](RunReport::records) by what was fetched and left to the next owner.
    pub kpl: KplCounts,
    /// Reads that were throttled.
    pub throttled_calls: u64,
    /// Subscriptions that another reader took the place of long before their end.
    pub replaced_subscriptions: u64,
    /// How often the fleet took this worker for dead.
    pub times_expelled: u32,
    /// How many tenures have ended.
    pub tenures: u64,
    /// Tenures that have ended, in the order of their ends: the last 1000, those that an error has stopped before others.
    pub shards: Vec<ShardReport>,
}

impl RunReport {
    /// Shards that an error has stopped, and those whose calls were failing when they left this worker.
    pub fn failures(&self) -> impl Iterator<Item = &ShardReport> {
        self.shards.iter().filter(|s| s.failure.is_some())
    }

    /// Whether all went well, for the exit code of a program: `report.check()?`.
    ///
    /// # Errors
    /// `Unavailable` when the worker never got to work, `Processor` when there are [`failures`](RunReport::failures); both
    /// say what was wrong.
    pub fn check(&self) -> Result<()> {
        if let Some(why) = &self.not_started {
            return Err(Error::new(ErrorKind::Unavailable, format!("worker {} never got to work: {why}", self.worker_id)));
        }
        let failures: Vec<String> = self.failures().map(ToString::to_string).collect();
        match failures.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::new(ErrorKind::Processor, one.clone())),
            many => Err(Error::new(ErrorKind::Processor, format!("{} shards failed: {}", many.len(), many.join("; ")))),
        }
    }
}
