//! What a checkpointer wrote, for tests of processors.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{lease::PendingCheckpoint, types::Checkpoint};

/// The checkpoints written by [`Checkpointer::recording`](super::Checkpointer::recording), in order. Clones share the log.
#[derive(Debug, Clone, Default)]
pub struct CheckpointLog(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    written: Vec<Checkpoint>,
    prepared: Vec<PendingCheckpoint>,
}

impl CheckpointLog {
    /// Every checkpoint written.
    #[must_use]
    pub fn all(&self) -> Vec<Checkpoint> {
        self.entries(|e| e.written.clone())
    }

    /// The last checkpoint written.
    #[must_use]
    pub fn last(&self) -> Option<Checkpoint> {
        self.entries(|e| e.written.last().copied())
    }

    /// Every first half of a two-phase checkpoint written.
    #[must_use]
    pub fn all_prepared(&self) -> Vec<PendingCheckpoint> {
        self.entries(|e| e.prepared.clone())
    }

    pub(super) fn written(&self, checkpoint: Checkpoint) {
        self.entries(|e| e.written.push(checkpoint));
    }

    pub(super) fn prepared(&self, pending: PendingCheckpoint) {
        self.entries(|e| e.prepared.push(pending));
    }

    fn entries<T>(&self, f: impl FnOnce(&mut Entries) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
