//! What the calls of a [`RecordProcessor`](super::RecordProcessor) get.

use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::Checkpointer,
    lease::PendingCheckpoint,
    stream::StreamReference,
    types::{Checkpoint, Record, ShardId},
};

/// For `initialize`.
#[derive(Debug)]
#[non_exhaustive]
pub struct InitializationInput<'a> {
    /// The stream.
    pub stream: &'a StreamReference,
    /// The shard.
    pub shard_id: &'a ShardId,
    /// How far it was processed before: records after this follow.
    pub checkpoint: Checkpoint,
    /// The first half of a two-phase checkpoint that a former owner did not complete.
    pub pending_checkpoint: Option<&'a PendingCheckpoint>,
    /// Grows with every change of owner of the shard; lets other systems refuse writes of a former owner.
    pub fencing_token: u64,
}

/// For `process_records`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProcessRecordsInput<'a> {
    /// The shard.
    pub shard_id: &'a ShardId,
    /// The records, at least one, in order. Cloning one copies no data.
    pub records: &'a [Record],
    /// How far the batch was behind the tip of the shard when it was read, in milliseconds.
    pub millis_behind_latest: u64,
    /// Writes checkpoints by hand; with automatic checkpoints it need not be used.
    pub checkpointer: &'a Checkpointer,
    /// Which attempt at this batch it is, from 1.
    pub attempt: u32,
    /// Fires when the lease is lost, or in doubt: what is done from then on may be done by another worker too. Also when
    /// the call takes longer than `consumer.handler_timeout`.
    pub cancelled: &'a CancellationToken,
    /// Grows with every change of owner of the shard.
    pub fencing_token: u64,
}

/// For `lease_lost`.
#[derive(Debug)]
#[non_exhaustive]
pub struct LeaseLostInput<'a> {
    /// The shard.
    pub shard_id: &'a ShardId,
}

/// For `shard_ended`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShardEndedInput<'a> {
    /// The shard.
    pub shard_id: &'a ShardId,
    /// Writes checkpoints by hand; the end itself is written by the framework after the call.
    pub checkpointer: &'a Checkpointer,
}

/// For `shutdown_requested`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShutdownRequestedInput<'a> {
    /// The shard.
    pub shard_id: &'a ShardId,
    /// Writes checkpoints by hand.
    pub checkpointer: &'a Checkpointer,
}

impl<'a> InitializationInput<'a> {
    /// For the driver, and for tests of processors.
    #[must_use]
    pub const fn new(stream: &'a StreamReference, shard_id: &'a ShardId, checkpoint: Checkpoint, fencing_token: u64) -> Self {
        Self { stream, shard_id, checkpoint, pending_checkpoint: None, fencing_token }
    }
}
