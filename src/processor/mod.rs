//! What a user of the framework writes: a [`RecordProcessor`], and a [`RecordProcessorFactory`] that makes one per shard.

mod input;
mod shard_stream;

use async_trait::async_trait;

pub use input::{InitializationInput, LeaseLostInput, ProcessRecordsInput, ShardEndedInput, ShutdownRequestedInput};
pub use shard_stream::{Batch, ShardStream, ShardStreamFactory, ShardStreams, shard_streams};

/// Any error of user code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Processes the records of one shard, in order. Only [`process_records`](RecordProcessor::process_records) is required.
///
/// One processor serves one tenure of one shard; its methods are called one at a time, never side by side:
///
/// ```text
/// initialize ──▶ process_records (any number) ──▶ exactly one of: shard_ended, shutdown_requested, lease_lost
/// ```
///
/// A processor whose `initialize` was never called gets no other call either.
///
/// **What is durable.** With automatic checkpoints (the default) a batch counts as done when `process_records` returns
/// `Ok`; how far the shard is done is written at an interval, and always before the shard ends or moves. So `Ok` before the
/// work is done, such as after putting records into a queue or a buffer, loses them in a crash. An application that
/// works beyond the call sets `consumer.checkpoint_interval = None`
/// ([`Config`](crate::consumer::Config::checkpoint_interval)): then `Ok` asks for the next batch and says nothing else, and
/// only the [`Checkpointer`](crate::checkpoint::Checkpointer) moves the checkpoint.
///
/// **Errors and panics** never skip a record: the same batch is delivered again after a jittered back-off, and when
/// the attempts of the failure policy are used up the shard stops, keeps its checkpoint, and is reported.
///
/// **Repeats.** After a crash, records after the last durable checkpoint are delivered again, possibly to another
/// worker; on planned moves none are. A worker that was suspended cannot checkpoint any more once another has taken
/// its lease, but its handler may still be running: guard effects outside with the fencing token where it matters.
#[async_trait]
pub trait RecordProcessor: Send + 'static {
    /// Called once, before any records, with where the shard starts.
    ///
    /// # Errors
    /// Handled by the failure policy, as for a batch.
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        let _ = input;
        Ok(())
    }

    /// Processes a batch: records of one shard in the order of their sequence numbers, never empty.
    ///
    /// `Ok` acknowledges the batch: an automatic checkpoint may pass it from then on. Unless the work on the records is
    /// done by then, set `consumer.checkpoint_interval = None` and checkpoint by hand when it is.
    ///
    /// # Errors
    /// `Err` delivers the same batch again.
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError>;

    /// Called when another worker has the lease, or may have it: nothing can be checkpointed any more. Also the last
    /// call of a processor that could not be asked to shut down, because its call did not end before the drain
    /// deadline, and of one whose `shard_ended` failed.
    async fn lease_lost(&mut self, input: LeaseLostInput<'_>) {
        let _ = input;
    }

    /// Called after the last record of a closed shard is processed, before its end is written; the last moment to
    /// flush. The framework writes the end itself.
    ///
    /// # Errors
    /// Handled by the failure policy; the children of the shard wait meanwhile.
    async fn shard_ended(&mut self, input: ShardEndedInput<'_>) -> Result<(), BoxError> {
        let _ = input;
        Ok(())
    }

    /// Called when the shard moves to another worker, or the worker stops; the last moment to flush and checkpoint.
    /// Bounded by the drain deadline.
    ///
    /// # Errors
    /// Are reported; the shard moves all the same, from its last checkpoint.
    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        let _ = input;
        Ok(())
    }
}

/// Makes a processor for each shard a worker gets. Any `Fn() -> P` is one.
pub trait RecordProcessorFactory: Send + Sync + 'static {
    /// A new processor; cheap, as it is called on the worker's own path.
    fn create(&self) -> Box<dyn RecordProcessor>;
}

impl<F, P> RecordProcessorFactory for F
where
    F: Fn() -> P + Send + Sync + 'static,
    P: RecordProcessor,
{
    fn create(&self) -> Box<dyn RecordProcessor> {
        Box::new(self())
    }
}
