//! What a worker called, in order.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    processor::{
        BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, RecordProcessorFactory, ShardEndedInput,
        ShutdownRequestedInput,
    },
    types::{Checkpoint, Record, ShardId},
};

/// One call of a processor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProcessorCall {
    /// The shard; the calls of many shards share a log.
    pub shard_id: ShardId,
    /// Which call.
    pub what: What,
    /// How it ended: `None` while it runs, and for ever when it was dropped or has panicked; then whether it was `Ok`.
    pub succeeded: Option<bool>,
}

/// Which call it was.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// `initialize`.
    Initialize {
        /// Where the shard starts.
        checkpoint: Checkpoint,
        /// The fencing token.
        fencing_token: u64,
    },
    /// `process_records`.
    ProcessRecords {
        /// The batch. Records are handles: keeping them copies no data.
        records: Vec<Record>,
        /// Which attempt.
        attempt: u32,
    },
    /// `lease_lost`.
    LeaseLost,
    /// `shard_ended`.
    ShardEnded,
    /// `shutdown_requested`.
    ShutdownRequested,
}

impl What {
    /// The method's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Initialize { .. } => "initialize",
            Self::ProcessRecords { .. } => "process_records",
            Self::LeaseLost => "lease_lost",
            Self::ShardEnded => "shard_ended",
            Self::ShutdownRequested => "shutdown_requested",
        }
    }
}

/// The calls of all processors that share it, in order. Clones share it.
///
/// # Examples
/// ```
/// use shardkeeper::testing::{ProcessorHarness, ProcessorLog, record};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let log = ProcessorLog::default();
/// let mut harness = ProcessorHarness::new(log.processor());
/// harness.deliver(vec![record(1, "a"), record(2, "b")]).await.expect("nothing fails here");
/// assert_eq!(log.names(), ["initialize", "process_records"]);
/// assert_eq!(log.processed().len(), 2);
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ProcessorLog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls: Mutex<Vec<ProcessorCall>>,
    changed: Notify,
}

impl ProcessorLog {
    /// A processor that accepts everything, and notes it here.
    #[must_use]
    pub fn processor(&self) -> RecordingProcessor {
        self.around(Accept)
    }

    /// A processor that notes here what `inner` is called for.
    #[must_use]
    pub fn around<P: RecordProcessor>(&self, inner: P) -> RecordingProcessor {
        self.around_boxed(Box::new(inner))
    }

    fn around_boxed(&self, inner: Box<dyn RecordProcessor>) -> RecordingProcessor {
        RecordingProcessor { log: self.clone(), shard_id: None, inner }
    }

    /// A factory for a worker, whose processors accept everything.
    pub fn factory(&self) -> impl RecordProcessorFactory + use<> {
        let log = self.clone();
        move || log.processor()
    }

    /// A factory that notes here what the processors of `inner` are called for.
    pub fn factory_around(&self, inner: impl RecordProcessorFactory) -> impl RecordProcessorFactory {
        let log = self.clone();
        move || log.around_boxed(inner.create())
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<ProcessorCall> {
        self.with(|calls| calls.clone())
    }

    /// The methods called so far.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.with(|calls| calls.iter().map(|c| c.what.name()).collect())
    }

    /// The records of all batches for which the processor returned `Ok`, in that order, repeats included.
    #[must_use]
    pub fn processed(&self) -> Vec<Record> {
        self.with(|calls| {
            let done = calls.iter().filter(|c| c.succeeded == Some(true));
            done.flat_map(|c| match &c.what {
                What::ProcessRecords { records, .. } => records.clone(),
                What::Initialize { .. } | What::LeaseLost | What::ShardEnded | What::ShutdownRequested => Vec::new(),
            })
            .collect()
        })
    }

    /// Waits until `condition` is true of the calls. To be bounded by a time-out.
    pub async fn wait_until(&self, mut condition: impl FnMut(&[ProcessorCall]) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.with(|calls| condition(calls)) {
                return;
            }
            changed.await;
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<ProcessorCall>) -> T) -> T {
        f(&mut self.0.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, shard_id: &ShardId, what: What) -> usize {
        let index = self.with(|calls| {
            calls.push(ProcessorCall { shard_id: shard_id.clone(), what, succeeded: None });
            calls.len() - 1
        });
        self.0.changed.notify_waiters();
        index
    }

    fn end(&self, index: usize, succeeded: bool) {
        self.with(|calls| calls[index].succeeded = Some(succeeded));
        self.0.changed.notify_waiters();
    }
}

/// Notes every call in a [`ProcessorLog`] and passes it on.
pub struct RecordingProcessor {
    log: ProcessorLog,
    shard_id: Option<ShardId>,
    inner: Box<dyn RecordProcessor>,
}

impl std::fmt::Debug for RecordingProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingProcessor").field("shard_id", &self.shard_id).finish_non_exhaustive()
    }
}

#[async_trait]
impl RecordProcessor for RecordingProcessor {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        self.shard_id = Some(input.shard_id.clone());
        let what = What::Initialize { checkpoint: input.checkpoint, fencing_token: input.fencing_token };
        let call = self.log.begin(input.shard_id, what);
        let outcome = self.inner.initialize(input).await;
        self.log.end(call, outcome.is_ok());
        outcome
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let what = What::ProcessRecords { records: input.records.to_vec(), attempt: input.attempt };
        let call = self.log.begin(input.shard_id, what);
        let outcome = self.inner.process_records(input).await;
        self.log.end(call, outcome.is_ok());
        outcome
    }

    async fn lease_lost(&mut self, input: LeaseLostInput<'_>) {
        let call = self.log.begin(input.shard_id, What::LeaseLost);
        self.inner.lease_lost(input).await;
        self.log.end(call, true);
    }

    async fn shard_ended(&mut self, input: ShardEndedInput<'_>) -> Result<(), BoxError> {
        let call = self.log.begin(input.shard_id, What::ShardEnded);
        let outcome = self.inner.shard_ended(input).await;
        self.log.end(call, outcome.is_ok());
        outcome
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        let call = self.log.begin(input.shard_id, What::ShutdownRequested);
        let outcome = self.inner.shutdown_requested(input).await;
        self.log.end(call, outcome.is_ok());
        outcome
    }
}

struct Accept;

#[async_trait]
impl RecordProcessor for Accept {
    async fn process_records(&mut self, _input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        Ok(())
    }
}
