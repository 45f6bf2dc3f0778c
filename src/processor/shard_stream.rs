//! The same engine for people who think in streams: a stream of shards, each a stream of batches.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::{
    BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, RecordProcessorFactory, ShardEndedInput,
    ShutdownRequestedInput,
};
use crate::types::{Checkpoint, Record, ShardId};

/// A processor factory and the stream of shards it feeds. Give the factory to
/// [`Worker::builder`](crate::worker::Worker::builder), run the worker in a task, and read the shards.
///
/// Dropping [`ShardStreams`] while the worker runs makes its shards fail: stop the worker first.
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
#[derive(Debug)]
#[must_use = "a batch that is dropped is delivered again; acknowledge it when it is processed"]
pub struct Batch {
    records: Arc<[Record]>,
    millis_behind_latest: u64,
    attempt: u32,
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
        let batch = Batch {
            // Records are handles: this copies no data.
            records: input.records.into(),
            millis_behind_latest: input.millis_behind_latest,
            attempt: input.attempt,
            done,
        };
        batches.send(batch).await.map_err(|_| "the shard's stream was dropped while the worker holds the shard")?;
        acknowledged.await.map_err(|_| "the batch was dropped without acknowledgement".into())
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
