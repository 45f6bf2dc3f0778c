//! What a run came to.

use crate::{
    consumer::ShardStatus,
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
pub struct ShardReport {
    /// The stream.
    pub stream: String,
    /// The shard.
    pub shard_id: ShardId,
    /// How it ended.
    pub ending: ShardEnding,
    /// Records for which `process_records` returned `Ok`.
    pub records: u64,
    /// The last durable checkpoint, as text.
    pub checkpoint: String,
}

impl ShardReport {
    pub(super) fn new(stream: &StreamReference, status: ShardStatus, ending: ShardEnding) -> Self {
        Self { stream: stream.to_string(), shard_id: status.shard_id, ending, records: status.records, checkpoint: status.checkpoint }
    }
}

/// What [`Worker::run`](super::Worker::run) came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunReport {
    /// The worker.
    pub worker_id: WorkerId,
    /// Records for which `process_records` returned `Ok`.
    pub records: u64,
    /// How often the fleet took this worker for dead.
    pub times_expelled: u32,
    /// How many tenures have ended.
    pub tenures: u64,
    /// Tenures that have ended, in the order of their ends: the last 1000, those that an error has stopped before others.
    pub shards: Vec<ShardReport>,
}

impl RunReport {
    /// Shards that an error has stopped.
    pub fn failures(&self) -> impl Iterator<Item = &ShardReport> {
        self.shards.iter().filter(|s| matches!(s.ending, ShardEnding::Failed(_)))
    }
}
