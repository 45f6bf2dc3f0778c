//! The same engine for people who think in streams: a stream of shards, each a stream of batches.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, RecordProcessorFactory, ShardEndedInput,
    ShutdownRequestedInput,
};
use crate::{
    checkpoint::Checkpointer,
    types::{Checkpoint, Record, ShardId},
};

/// A processor factory and the stream of shards it feeds. Give the factory to
/// [`Worker::builder`](crate::worker::Worker::builder), run the worker in a task, and read the shards.
///
/// Dropping [`ShardStreams`] while the worker runs makes its shards fail: stop the worker first. Up to 64 shards wait to be
/// taken from it; the worker begins no further ones until the application has read on.
#[must_use]
pub fn shard_streams() -> (ShardStreamFactory, ShardStreams) {
    // Shards wait here only until the application has taken them; the bound holds back a crowd at start.
    let (sender, receiver) = mpsc::channel(64);
    (ShardStreamFactory(sender), ShardStreams(receiver))
}

/// Makes the processors behind [`ShardStreams`].
#[derive(Debug, Clone)]
pub struct ShardStreamFactory(mpsc::Sender<ShardStream>);

impl RecordProcessorFactory for ShardStreamFactory {
    fn create(&self) -> Box<dyn RecordProcessor> {
        Box::new(Forward { shards: self.0.clone(), batches: None })
    }
}

/// The shards this worker gets, one item per tenure; ends when the worker has stopped.
#[derive(Debug)]
pub struct ShardStreams(mpsc::Receiver<ShardStream>);

impl Stream for ShardStreams {
    type Item = ShardStream;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ShardStream>> {
        self.0.poll_recv(context)
    }
}

/// The batches of one shard, in order; ends when the shard ends, moves, or is lost.
#[derive(Debug)]
pub struct ShardStream {
    shard_id: ShardId,
    checkpoint: Checkpoint,
    fencing_token: u64,
    batches: mpsc::Receiver<Batch>,
}

impl ShardStream {
    /// The shard.
    #[must_use]
    pub const fn shard_id(&self) -> &ShardId {
        &self.shard_id
    }

    /// How far it was processed before.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Grows with every change of owner of the shard.
    #[must_use]
    pub const fn fencing_token(&self) -> u64 {
        self.fencing_token
    }
}

impl Stream for ShardStream {
    type Item = Batch;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        self.batches.poll_recv(context)
    }
}

/// A batch to process. The next one comes after [`Batch::acknowledge`]; a batch dropped without it is delivered again,
/// by the rules for a processor that returned an error.
///
/// When [`Batch::cancelled`] fires, the lease is lost or in doubt, and another worker may have the same records: stop
/// working on the batch and drop it. A worker waits for that up to `consumer.lease_lost_timeout`.
#[derive(Debug)]
#[must_use = "a batch that is dropped is delivered again; acknowledge it when it is processed"]
pub struct Batch {
    records: Arc<[Record]>,
    millis_behind_latest: u64,
    attempt: u32,
    fencing_token: u64,
    checkpointer: Checkpointer,
    cancelled: CancellationToken,
    done: oneshot::Sender<()>,
}

impl Batch {
    /// The records, at least one, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How far the batch was behind the tip of the shard when it was read, in milliseconds.
    #[must_use]
    pub const fn millis_behind_latest(&self) -> u64 {
        self.millis_behind_latest
    }

    /// Which attempt at this batch it is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Grows with every change of owner of the shard: lets other systems refuse writes of a former owner.
    #[must_use]
    pub const fn fencing_token(&self) -> u64 {
        self.fencing_token
    }

    /// Fires when the lease is lost or in doubt, when the call takes longer than `consumer.handler_timeout`, and when nobody
    /// waits for the batch any more: what is done from then on may be done by another worker too. Clones can be kept in
    /// tasks.
    #[must_use]
    pub const fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Writes checkpoints by hand; with automatic checkpoints it need not be used. Clones can be kept beyond the batch.
    ///
    /// This is a clone as tasks have it: [`checkpoint_at`](Checkpointer::checkpoint_at) reaches into this batch, while
    /// [`checkpoint`](Checkpointer::checkpoint) covers what was acknowledged before.
    #[must_use]
    pub const fn checkpointer(&self) -> &Checkpointer {
        &self.checkpointer
    }

    /// Says that the batch is processed: it may be check-pointed.
    pub fn acknowledge(self) {
        // The shard may have been lost meanwhile; then the batch counts for its next owner.
        let _ = self.done.send(());
    }
}

struct Forward {
    shards: mpsc::Sender<ShardStream>,
    batches: Option<mpsc::Sender<Batch>>,
}

#[async_trait]
impl RecordProcessor for Forward {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        let (sender, batches) = mpsc::channel(1);
        let shard =
            ShardStream { shard_id: input.shard_id.clone(), checkpoint: input.checkpoint, fencing_token: input.fencing_token, batches };
        self.shards.send(shard).await.map_err(|_| "the stream of shards was dropped while the worker runs")?;
        self.batches = Some(sender);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let batches = self.batches.as_ref().ok_or("not initialized")?;
        let (done, acknowledged) = oneshot::channel();
        // Also when this call is dropped: then nobody waits for the batch any more.
        let cancelled = input.cancelled.child_token();
        let given_up = cancelled.clone().drop_guard();
        let batch = Batch {
            // Records are handles: this copies no data.
            records: input.records.into(),
            millis_behind_latest: input.millis_behind_latest,
            attempt: input.attempt,
            fencing_token: input.fencing_token,
            checkpointer: input.checkpointer.clone(),
            cancelled,
            done,
        };
        batches.send(batch).await.map_err(|_| "the shard's stream was dropped while the worker holds the shard")?;
        acknowledged.await.map_err(|_| "the batch was dropped without acknowledgement")?;
        drop(given_up.disarm());
        Ok(())
    }

    async fn lease_lost(&mut self, _input: LeaseLostInput<'_>) {
        self.batches = None;
    }

    async fn shard_ended(&mut self, _input: ShardEndedInput<'_>) -> Result<(), BoxError> {
        self.batches = None;
        Ok(())
    }

    async fn shutdown_requested(&mut self, _input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        self.batches = None;
        Ok(())
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::{checkpoint::CheckpointLog, stream::StreamReference, testing::record};

    struct Shard {
        processor: Box<dyn RecordProcessor>,
        id: ShardId,
        checkpointer: Checkpointer,
        log: CheckpointLog,
        cancelled: CancellationToken,
    }

    impl Shard {
        /// A shard at work, and what the application sees of it.
        async fn begin() -> (Self, ShardStream) {
            let (factory, mut shards) = shard_streams();
            let mut processor = factory.create();
            let (stream, id): (StreamReference, ShardId) = ("clicks".parse().expect("valid"), ShardId::from_index(0));
            processor.initialize(InitializationInput::new(&stream, &id, Checkpoint::TrimHorizon, 7)).await.expect("there is room");
            let (checkpointer, log) = Checkpointer::recording();
            let shard = shards.next().await.expect("it has begun");
            (Self { processor, id, checkpointer, log, cancelled: CancellationToken::new() }, shard)
        }

        async fn deliver(&mut self, records: &[Record]) -> Result<(), BoxError> {
            let last = records[records.len() - 1].position();
            self.checkpointer.deliver(last);
            let input = ProcessRecordsInput {
                shard_id: &self.id,
                records,
                millis_behind_latest: 0,
                checkpointer: &self.checkpointer,
                attempt: 1,
                cancelled: &self.cancelled,
                fencing_token: 7,
            };
            let outcome = self.processor.process_records(input).await;
            match &outcome {
                Ok(()) => self.checkpointer.acknowledge(last),
                Err(_) => self.checkpointer.refuse(),
            }
            outcome
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_can_be_checkpointed_by_hand_within_itself_and_before_it() {
        let (mut shard, mut stream) = Shard::begin().await;
        let log = shard.log.clone();
        let worker = async {
            for n in [1, 4] {
                let records: Vec<Record> = (n..n + 3).map(|n| record(n, "x")).collect();
                shard.deliver(&records).await.expect("acknowledged");
            }
        };
        let application = async {
            let first = stream.next().await.expect("a batch");
            first.checkpointer().checkpoint_at(&first.records()[1]).await.expect("delivered");
            let kept = first.checkpointer().clone();
            assert_eq!((first.fencing_token(), log.last()), (7, Some(first.records()[1].position().into())));
            first.acknowledge();
            let second = stream.next().await.expect("another");
            kept.checkpoint().await.expect("something is done");
            assert_eq!(log.last(), Some(record(3, "").position().into()), "the batch in hand is not done");
            second.acknowledge();
        };
        tokio::join!(worker, application);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_says_when_its_lease_is_in_doubt_and_when_nobody_waits_for_it() {
        let (mut shard, mut stream) = Shard::begin().await;
        let (records, doubt) = ([record(1, "x")], shard.cancelled.clone());
        let application = async {
            let batch = stream.next().await.expect("a batch");
            assert!(!batch.cancelled().is_cancelled());
            doubt.cancel();
            batch.cancelled().cancelled().await;
            drop(batch);
        };
        let (outcome, ()) = tokio::join!(shard.deliver(&records), application);
        outcome.expect_err("it was not acknowledged");

        // The worker gives the call up, as at the end of a drain.
        shard.cancelled = CancellationToken::new();
        let batch = {
            let call = shard.deliver(&records);
            tokio::pin!(call);
            assert!(futures::poll!(&mut call).is_pending());
            let batch = stream.next().await.expect("again");
            assert!(!batch.cancelled().is_cancelled());
            batch
        };
        assert!(batch.cancelled().is_cancelled());
        batch.acknowledge();

        let (outcome, kept) = tokio::join!(shard.deliver(&records), async {
            let batch = stream.next().await.expect("again");
            let kept = batch.cancelled().clone();
            batch.acknowledge();
            kept
        });
        outcome.expect("acknowledged");
        assert!(!kept.is_cancelled(), "what was acknowledged in time was in time");
    }
}
