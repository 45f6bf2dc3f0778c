//! What a call changed, for whoever keeps the model on disk.

use super::shard::StoredRecord;
use crate::types::StreamName;

/// One change of the model; the rows named are read back from it.
#[derive(Debug, Clone)]
pub(in crate::local) enum Change {
    /// The account's own row.
    Account,
    /// The stream's own row: made, or a setting changed.
    Stream(StreamName),
    /// The stream is gone with all its shards and records.
    StreamRemoved(StreamName),
    /// The shard's row: made or closed.
    Shard(StreamName, u32),
    /// The shard is gone with all its records.
    ShardRemoved(StreamName, u32),
    /// A record was appended to the shard.
    Record(StreamName, u32, StoredRecord),
    /// The shard's records before this place are gone.
    Trimmed(StreamName, u32, u64),
}

/// The changes since they were last taken; kept only when somebody asked for them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    kept: bool,
    changes: Vec<Change>,
}

impl Journal {
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    pub(super) fn note(&mut self, change: impl FnOnce() -> Change) {
        if self.kept {
            self.changes.push(change());
        }
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}
