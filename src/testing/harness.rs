//! Calls a processor as a worker would.

use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::{CheckpointLog, Checkpointer},
    processor::{
        BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, ShardEndedInput, ShutdownRequestedInput,
    },
    stream::StreamReference,
    types::{Checkpoint, Record, ShardId},
};

/// Unit-tests a [`RecordProcessor`] without a worker, a stream or a clock: calls it in the order a worker would, with a
/// checkpointer that keeps the rules and records what was written. It repeats nothing by itself: a failed delivery is
/// returned, and can be delivered again as the next attempt.
///
/// As with a worker, checkpoints are automatic unless told otherwise: whatever a call returned `Ok` for is check-pointed
/// at once, which is the soonest that a worker might. A processor that keeps records back after `Ok` is one that
/// loses them, and shows here as a checkpoint that is ahead of its work. For a processor that is to run with
/// `consumer.checkpoint_interval = None`, call [`manual_checkpoints`](ProcessorHarness::manual_checkpoints).
///
/// # Examples
/// ```
/// use async_trait::async_trait;
/// use shardkeeper::processor::{BoxError, ProcessRecordsInput, RecordProcessor};
/// use shardkeeper::testing::{ProcessorHarness, record};
/// use shardkeeper::types::Checkpoint;
///
/// struct EveryTenth(u32);
///
/// #[async_trait]
/// impl RecordProcessor for EveryTenth {
///     async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
///         for record in input.records {
///             self.0 += 1;
///             if self.0.is_multiple_of(10) {
///                 input.checkpointer.checkpoint_at(record).await?;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let at = |n| Checkpoint::from(record(n, "").position());
/// let mut harness = ProcessorHarness::new(EveryTenth(0)).shard("shardId-000000000007");
/// harness.deliver((1..=25).map(|n| record(n, "x"))).await?;
/// assert_eq!(harness.checkpoints().all(), [at(10), at(20), at(25)], "the last one is automatic");
///
/// let mut harness = ProcessorHarness::new(EveryTenth(0)).manual_checkpoints();
/// harness.deliver((1..=25).map(|n| record(n, "x"))).await?;
/// assert_eq!(harness.checkpoints().all(), [at(10), at(20)]);
/// # Ok(())
/// # }
/// ```
pub struct ProcessorHarness<P> {
    processor: P,
    stream: StreamReference,
    shard_id: ShardId,
    start: Checkpoint,
    fencing_token: u64,
    millis_behind_latest: u64,
    checkpointer: Checkpointer,
    log: CheckpointLog,
    automatic: bool,
    cancelled: CancellationToken,
    initialized: bool,
    attempt: u32,
    delivered: Vec<Record>,
}

impl<P: RecordProcessor> ProcessorHarness<P> {
    /// A harness around `processor`: shard `shardId-000000000000` of the stream `test`, from `TrimHorizon`.
    #[must_use]
    pub fn new(processor: P) -> Self {
        let (checkpointer, log) = Checkpointer::recording();
        Self {
            processor,
            stream: "test".parse().expect("a valid name"),
            shard_id: ShardId::from_index(0),
            start: Checkpoint::TrimHorizon,
            fencing_token: 1,
            millis_behind_latest: 0,
            checkpointer,
            log,
            automatic: true,
            cancelled: CancellationToken::new(),
            initialized: false,
            attempt: 0,
            delivered: Vec::new(),
        }
    }

    /// Sets the shard.
    ///
    /// # Panics
    /// When it is no valid shard id.
    #[must_use]
    pub fn shard(mut self, shard_id: &str) -> Self {
        self.shard_id = shard_id.parse().expect("a shard id is 1 to 128 letters, digits, '_', '.' and '-'");
        self
    }

    /// Sets the checkpoint from which the shard is continued. To be called before anything is delivered.
    #[must_use]
    pub fn starting_at(mut self, checkpoint: impl Into<Checkpoint>) -> Self {
        self.start = checkpoint.into();
        (self.checkpointer, self.log) = Checkpointer::recording_from(self.start);
        self
    }

    /// Leaves checkpoints to the processor, as a worker does with `consumer.checkpoint_interval = None`.
    #[must_use]
    pub const fn manual_checkpoints(mut self) -> Self {
        self.automatic = false;
        self
    }

    /// Sets the fencing token.
    #[must_use]
    pub const fn fencing_token(mut self, token: u64) -> Self {
        self.fencing_token = token;
        self
    }

    /// Sets how far the next batches are behind the tip.
    pub const fn set_millis_behind_latest(&mut self, millis: u64) {
        self.millis_behind_latest = millis;
    }

    /// Calls `initialize`, unless that was done. The other calls see to it themselves.
    ///
    /// # Errors
    /// Those of the processor.
    pub async fn initialize(&mut self) -> Result<(), BoxError> {
        if !self.initialized {
            let input = InitializationInput::new(&self.stream, &self.shard_id, self.start, self.fencing_token);
            self.processor.initialize(input).await?;
            self.initialized = true;
        }
        Ok(())
    }

    /// Delivers a batch.
    ///
    /// # Errors
    /// Those of the processor. [`deliver_again`](ProcessorHarness::deliver_again) is what a worker would do then.
    ///
    /// # Panics
    /// When there are no records, or they are not in order: a worker delivers no such batch.
    pub async fn deliver(&mut self, records: impl IntoIterator<Item = Record> + Send) -> Result<(), BoxError> {
        self.delivered = records.into_iter().collect();
        assert!(!self.delivered.is_empty(), "a batch has at least one record");
        assert!(self.delivered.is_sorted_by(|a, b| a.position() < b.position()), "records come in the order of their positions");
        self.attempt = 0;
        self.deliver_again().await
    }

    /// Delivers the last batch again, as the next attempt.
    ///
    /// # Errors
    /// Those of the processor.
    ///
    /// # Panics
    /// When nothing was delivered before.
    pub async fn deliver_again(&mut self) -> Result<(), BoxError> {
        self.initialize().await?;
        let last = self.delivered.last().expect("a batch was delivered before").position();
        self.attempt += 1;
        self.checkpointer.deliver(last);
        let input = ProcessRecordsInput {
            shard_id: &self.shard_id,
            records: &self.delivered,
            millis_behind_latest: self.millis_behind_latest,
            checkpointer: &self.checkpointer,
            attempt: self.attempt,
            cancelled: &self.cancelled,
            fencing_token: self.fencing_token,
        };
        let outcome = self.processor.process_records(input).await;
        match &outcome {
            Ok(()) => self.checkpointer.acknowledge(last),
            Err(_) => self.checkpointer.refuse(),
        }
        self.automatic_checkpoint().await?;
        outcome
    }

    /// Writes what is acknowledged, unless a two-phase checkpoint is between its halves: then a worker waits, too.
    async fn automatic_checkpoint(&mut self) -> Result<(), BoxError> {
        if self.automatic {
            self.checkpointer.write_acknowledged().await?;
        }
        Ok(())
    }

    /// Calls `shard_ended`.
    ///
    /// # Errors
    /// Those of the processor.
    pub async fn end_shard(&mut self) -> Result<(), BoxError> {
        self.initialize().await?;
        self.processor.shard_ended(ShardEndedInput { shard_id: &self.shard_id, checkpointer: &self.checkpointer }).await
    }

    /// Calls `shutdown_requested`. The shard then moves from the last checkpoint.
    ///
    /// # Errors
    /// Those of the processor.
    pub async fn shut_down(&mut self) -> Result<(), BoxError> {
        self.initialize().await?;
        let input = ShutdownRequestedInput { shard_id: &self.shard_id, checkpointer: &self.checkpointer };
        let outcome = self.processor.shutdown_requested(input).await;
        self.automatic_checkpoint().await?;
        outcome
    }

    /// Fires [`cancelled`](ProcessorHarness::cancelled) and calls `lease_lost`.
    ///
    /// # Errors
    /// Those of `initialize`.
    pub async fn lose_lease(&mut self) -> Result<(), BoxError> {
        self.initialize().await?;
        self.cancelled.cancel();
        self.processor.lease_lost(LeaseLostInput { shard_id: &self.shard_id }).await;
        Ok(())
    }

    /// Everything for which the processor has returned `Ok`, whether check-pointed or not.
    #[must_use]
    pub fn acknowledged(&self) -> Checkpoint {
        self.checkpointer.acknowledged()
    }

    /// The checkpoints, in order: automatic ones and those that the processor wrote by hand. What comes after the last is
    /// delivered again after a crash, and nothing else is.
    #[must_use]
    pub const fn checkpoints(&self) -> &CheckpointLog {
        &self.log
    }

    /// The token that processors get as `cancelled`; firing it in the midst of a call tells it that the lease is in doubt.
    #[must_use]
    pub const fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// The processor.
    #[must_use]
    pub const fn processor(&self) -> &P {
        &self.processor
    }
}

impl<P: std::fmt::Debug> std::fmt::Debug for ProcessorHarness<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessorHarness").field("processor", &self.processor).field("shard_id", &self.shard_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::testing::record;

    /// Notes what it is told.
    #[derive(Debug, Default)]
    struct Notes {
        lags: Vec<u64>,
        lost: bool,
    }

    #[async_trait]
    impl RecordProcessor for Notes {
        async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
            self.lags.push(input.millis_behind_latest);
            if input.cancelled.is_cancelled() { Err("the lease is lost".into()) } else { Ok(()) }
        }

        async fn lease_lost(&mut self, _input: LeaseLostInput<'_>) {
            self.lost = true;
        }
    }

    #[tokio::test]
    async fn a_processor_is_told_of_its_lag_and_of_the_loss_of_its_lease() {
        let mut harness = ProcessorHarness::new(Notes::default());
        harness.deliver([record(1, "x")]).await.expect("accepted");
        harness.set_millis_behind_latest(2500);
        harness.deliver([record(2, "x")]).await.expect("accepted");
        harness.lose_lease().await.expect("initialized");
        assert!(harness.cancelled().is_cancelled());
        harness.deliver([record(3, "x")]).await.expect_err("a call that was under way sees it");
        assert_eq!((harness.processor().lags.as_slice(), harness.processor().lost), ([0, 2500, 2500].as_slice(), true));
    }
}
