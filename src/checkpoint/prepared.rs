//! Two-phase checkpoints.

use super::Checkpointer;
use crate::{error::Result, types::Checkpoint};

/// The first half of a checkpoint, durable. [`commit`](PreparedCheckpoint::commit) is the second; dropped without it,
/// the checkpoint stays where it was, and the first half is wiped by the next checkpoint of the shard.
#[derive(Debug)]
#[must_use = "a prepared checkpoint counts once it is committed"]
pub struct PreparedCheckpoint {
    checkpointer: Checkpointer,
    checkpoint: Checkpoint,
}

impl PreparedCheckpoint {
    pub(super) fn begin(checkpointer: Checkpointer, checkpoint: Checkpoint) -> Self {
        checkpointer.begin_prepared();
        Self { checkpointer, checkpoint }
    }

    /// Where the checkpoint will be.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Makes it the checkpoint of the shard. When a later one was written meanwhile, there is nothing left to do.
    ///
    /// # Errors
    /// As [`Checkpointer::checkpoint`].
    pub async fn commit(self) -> Result<()> {
        self.checkpointer.commit(self.checkpoint).await
    }
}

impl Drop for PreparedCheckpoint {
    fn drop(&mut self) {
        self.checkpointer.end_prepared();
    }
}
