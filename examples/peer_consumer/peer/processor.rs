//! A processor that reports every call, and checkpoints as it is told.

use async_trait::async_trait;
use serde_json::json;
use shardkeeper::{
    ErrorKind,
    checkpoint::Checkpointer,
    processor::{
        BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, ShardEndedInput, ShutdownRequestedInput,
    },
};

use super::{args::CheckpointRule, events::Events};

/// Processes one tenure of one shard.
#[derive(Debug)]
pub(super) struct Reporter {
    events: Events,
    batch_events: bool,
    rule: CheckpointRule,
    /// Names the tenure in its events.
    fencing_token: u64,
}

impl Reporter {
    pub(super) fn new(events: Events, batch_events: bool, rule: CheckpointRule) -> Self {
        Self { events, batch_events, rule, fencing_token: 0 }
    }

    /// A checkpoint of everything delivered; it is no failure of the processor when the lease is gone.
    async fn checkpoint(&self, shard: &str, checkpointer: &Checkpointer) -> Result<(), BoxError> {
        match checkpointer.checkpoint().await {
            Ok(()) => {
                if self.batch_events {
                    let at = checkpointer.durable().to_string();
                    self.events.write("checkpoint", json!({ "shard": shard, "at": at, "token": self.fencing_token }));
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::LeaseLost => {
                self.events.write("fenced", json!({ "shard": shard, "token": self.fencing_token }));
                Ok(())
            }
            Err(error) => {
                self.events
                    .write("checkpoint_failed", json!({ "shard": shard, "error": format!("{error:#}"), "token": self.fencing_token }));
                Err(error.into())
            }
        }
    }

    fn ends(&self, kind: &str, shard: &str) {
        self.events.write(kind, json!({ "shard": shard, "token": self.fencing_token }));
    }
}

#[async_trait]
impl RecordProcessor for Reporter {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        self.fencing_token = input.fencing_token;
        let (shard, from) = (input.shard_id.as_str(), input.checkpoint.to_string());
        self.events.write("init", json!({ "shard": shard, "from": from, "token": self.fencing_token }));
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let shard = input.shard_id.as_str();
        let (Some(first), Some(last)) = (input.records.first(), input.records.last()) else { return Ok(()) };
        let bytes = input.records.iter().map(|record| record.data().len() as u64).sum();
        self.events.handed_over(input.records.len() as u64, bytes);
        if self.batch_events {
            self.events.write(
                "batch",
                json!({
                    "shard": shard,
                    "first": first.sequence_number().to_string(),
                    "last": last.sequence_number().to_string(),
                    "n": input.records.len(),
                    "bytes": bytes,
                    "behind": input.millis_behind_latest,
                    "attempt": input.attempt,
                    "token": self.fencing_token,
                }),
            );
        }
        match self.rule {
            CheckpointRule::Batch => self.checkpoint(shard, input.checkpointer).await,
            CheckpointRule::Never | CheckpointRule::Every(_) => Ok(()),
        }
    }

    async fn lease_lost(&mut self, input: LeaseLostInput<'_>) {
        self.ends("lease_lost", input.shard_id.as_str());
    }

    async fn shard_ended(&mut self, input: ShardEndedInput<'_>) -> Result<(), BoxError> {
        if self.rule == CheckpointRule::Batch {
            self.checkpoint(input.shard_id.as_str(), input.checkpointer).await?;
        }
        self.ends("shard_ended", input.shard_id.as_str());
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        if self.rule == CheckpointRule::Batch {
            self.checkpoint(input.shard_id.as_str(), input.checkpointer).await?;
        }
        self.ends("shutdown_requested", input.shard_id.as_str());
        Ok(())
    }
}
