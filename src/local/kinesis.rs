//! The handle: a model shared between tasks, with a clock.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    keeper::Keeper,
    model::{
        Config, CreateStream, ListShards, ListStreams, Model, PutEntry, PutOutcome, PutReceipt, ServiceError, ServiceErrorCode, StreamPage,
        StreamSummary, StreamsPage, SubscriptionId, UpdatedShardCount, change::Change,
    },
};
use crate::{
    clock::{SharedClock, SystemClock},
    error::Result,
    lease::MemoryLeaseTable,
    limits,
    random::Randomness,
    stream::{
        ConsumerDescription, ConsumerReference, PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition, StreamClient,
        StreamDescription, StreamReference, Subscription,
    },
    types::{ConsumerArn, ConsumerName, SequenceNumber, ShardId, StreamArn, Timestamp},
};

pub(super) type ServiceResult<T> = std::result::Result<T, ServiceError>;

/// A Kinesis account in this process: a cheap handle to one shared [`Model`].
///
/// Producers and operators use the methods named after the service's operations; consumers use it as a
/// [`StreamClient`]. Every call is answered at once, under a lock held for microseconds.
///
/// # Examples
/// ```
/// use shardkeeper::local::{CreateStream, LocalKinesis, PutEntry};
/// use shardkeeper::stream::{ShardPosition, StreamReference};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kinesis = LocalKinesis::in_memory();
/// kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 2))?;
/// let stream: StreamReference = "clicks".parse()?;
/// let receipt = kinesis.put_record(&stream, PutEntry::new("user-7", "hello"), None)?;
///
/// let iterator = kinesis.get_shard_iterator(&stream, &receipt.shard_id, ShardPosition::TrimHorizon)?;
/// let page = kinesis.get_records(&iterator, Some(100))?;
/// assert_eq!(page.records[0].data().as_ref(), b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalKinesis {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: SharedClock,
    label: String,
    /// Lease tables in memory, by application.
    lease_tables: Mutex<BTreeMap<String, MemoryLeaseTable>>,
}

pub(super) struct State {
    pub(super) model: Model,
    kept: Option<Kept>,
    /// Who waits for which subscription.
    pub(super) waiting: BTreeMap<SubscriptionId, Arc<Notify>>,
}

struct Kept {
    keeper: Box<dyn Keeper>,
    /// Changes that could not be written yet.
    unsaved: Vec<Change>,
}

impl State {
    /// Wakes the subscriptions that the last call may have given something.
    fn wake(&mut self) {
        for id in self.model.take_woken() {
            if let Some(waiting) = self.waiting.get(&id) {
                waiting.notify_one();
            }
        }
    }

    /// Writes what changed. Without an error, nothing is left unwritten.
    fn save(&mut self) -> ServiceResult<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.unsaved.append(&mut self.model.take_changes());
        if kept.unsaved.is_empty() {
            return Ok(());
        }
        kept.keeper.save(&self.model, &kept.unsaved).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "the local stream could not be written");
            ServiceError::new(ServiceErrorCode::InternalFailure, format!("{error:#}"))
        })?;
        kept.unsaved.clear();
        Ok(())
    }
}

impl LocalKinesis {
    /// An empty account in memory, on the machine's clock, with the service's limits.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Config::default(), Arc::new(SystemClock), Randomness::from_system())
    }

    /// An empty account in memory. Tests pass a [`TokioClock`](crate::clock::TokioClock) and seeded randomness.
    #[must_use]
    pub fn new(config: Config, clock: SharedClock, randomness: Randomness) -> Self {
        let label = format!("local Kinesis in memory ({})", config.region);
        Self::with(State { model: Model::new(config, randomness), kept: None, waiting: BTreeMap::new() }, clock, label)
    }

    /// The account kept in this directory, in a SQLite file that is made when missing; one process at a time may have it
    /// open. What a call answered survives the end of the process. Settings are not kept: they are what is passed here.
    ///
    /// # Errors
    /// `InvalidInput` when the directory cannot be written, another process has it open, or its file is something else;
    /// the message names the path and the fix.
    #[cfg(feature = "sqlite")]
    pub fn open(data_dir: impl AsRef<std::path::Path>, config: Config, clock: SharedClock, randomness: Randomness) -> Result<Self> {
        let label = format!("local Kinesis in {} ({})", data_dir.as_ref().display(), config.region);
        let (store, model) = super::store::Store::open(data_dir.as_ref(), config, randomness)?;
        let kept = Kept { keeper: Box::new(store), unsaved: Vec::new() };
        Ok(Self::with(State { model, kept: Some(kept), waiting: BTreeMap::new() }, clock, label))
    }

    fn with(state: State, clock: SharedClock, label: String) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), clock, label, lease_tables: Mutex::default() }) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside the model is a bug that its tests report; the state it leaves is still the best there is.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, call: impl FnOnce(&mut Model, Timestamp) -> ServiceResult<T>) -> ServiceResult<T> {
        let mut state = self.state();
        let answer = call(&mut state.model, self.shared.clock.now());
        // A read may drop what left retention; if that cannot be written now, the next write tries again.
        drop(state.save());
        state.wake();
        answer
    }

    pub(super) fn write<T>(&self, call: impl FnOnce(&mut Model, Timestamp) -> ServiceResult<T>) -> ServiceResult<T> {
        let mut state = self.state();
        state.save()?;
        let answer = call(&mut state.model, self.shared.clock.now());
        let saved = state.save();
        state.wake();
        saved?;
        answer
    }

    /// The account's settings.
    #[must_use]
    pub fn config(&self) -> Config {
        self.state().model.config().clone()
    }

    /// The lease table in memory that workers of `application` on this stream share.
    #[must_use]
    pub fn lease_table(&self, application: &str) -> MemoryLeaseTable {
        let mut tables = self.shared.lease_tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.entry(application.to_owned()).or_default().clone()
    }

    /// Changes the settings from the next call on, for all handles of this account.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(self.state().model.config_mut());
    }

    /// The present moment of the account's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// `CreateStream`.
    ///
    /// # Errors
    /// `ResourceInUse` when the name is taken, `LimitExceeded`, `InvalidArgument`, `Validation`.
    pub fn create_stream(&self, input: &CreateStream) -> ServiceResult<()> {
        self.write(|model, now| model.create_stream(now, input))
    }

    /// `DeleteStream`: the stream and all its records.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while it is being made, or when stream consumers are registered.
    pub fn delete_stream(&self, stream: &StreamReference) -> ServiceResult<()> {
        self.write(|model, now| model.delete_stream(now, stream))
    }

    /// `DeleteStream` with `EnforceConsumerDeletion`: the stream, all its records and its stream consumers.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while it is being made.
    pub fn delete_stream_with_consumers(&self, stream: &StreamReference) -> ServiceResult<()> {
        self.write(|model, now| model.delete_stream_with_consumers(now, stream))
    }

    /// `DescribeStreamSummary`.
    ///
    /// # Errors
    /// `ResourceNotFound`.
    pub fn describe_stream_summary(&self, stream: &StreamReference) -> ServiceResult<StreamSummary> {
        self.read(|model, now| model.describe_stream_summary(now, stream))
    }

    /// `DescribeStream`: the stream and at most `limit` shards (1 to 10,000, by default 100) after `exclusive_start`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `Validation`.
    pub fn describe_stream(
        &self,
        stream: &StreamReference,
        exclusive_start: Option<&ShardId>,
        limit: Option<u32>,
    ) -> ServiceResult<StreamPage> {
        self.read(|model, now| model.describe_stream(now, stream, exclusive_start, limit))
    }

    /// `ListStreams`.
    ///
    /// # Errors
    /// `Validation`, `InvalidArgument` for a token that is none, `ExpiredNextToken`.
    pub fn list_streams(&self, input: &ListStreams) -> ServiceResult<StreamsPage> {
        self.read(|model, now| model.list_streams(now, input))
    }

    /// `PutRecord`. `sequence_number_for_ordering` is the number of an earlier record of the same producer.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `ProvisionedThroughputExceeded`, `InvalidArgument`, `Validation`.
    pub fn put_record(
        &self,
        stream: &StreamReference,
        entry: PutEntry,
        sequence_number_for_ordering: Option<SequenceNumber>,
    ) -> ServiceResult<PutReceipt> {
        self.write(|model, now| model.put_record(now, stream, entry, sequence_number_for_ordering))
    }

    /// `PutRecords`: 1 to 500 entries, each with its own outcome, in their order.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument`, `Validation`; then no record is put.
    pub fn put_records(&self, stream: &StreamReference, entries: Vec<PutEntry>) -> ServiceResult<Vec<PutOutcome>> {
        self.write(|model, now| model.put_records(now, stream, entries))
    }

    /// `SplitShard` at the first hash key of the second child.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` for a closed shard or a stream being changed, `InvalidArgument`, `LimitExceeded`.
    pub fn split_shard(&self, stream: &StreamReference, shard: &ShardId, new_starting_hash_key: u128) -> ServiceResult<()> {
        self.write(|model, now| model.split_shard(now, stream, shard, new_starting_hash_key))
    }

    /// `MergeShards` of two neighbours.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` for a closed shard or a stream being changed, `InvalidArgument`.
    pub fn merge_shards(&self, stream: &StreamReference, shard: &ShardId, adjacent: &ShardId) -> ServiceResult<()> {
        self.write(|model, now| model.merge_shards(now, stream, shard, adjacent))
    }

    /// `UpdateShardCount` with uniform scaling.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument` beyond double or below half, `LimitExceeded`, `Validation`.
    pub fn update_shard_count(&self, stream: &StreamReference, target: u32) -> ServiceResult<UpdatedShardCount> {
        self.write(|model, now| model.update_shard_count(now, stream, target))
    }

    /// `IncreaseStreamRetentionPeriod` to 24 to 8,760 hours.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument`.
    pub fn increase_stream_retention_period(&self, stream: &StreamReference, hours: u32) -> ServiceResult<()> {
        self.write(|model, now| model.increase_stream_retention_period(now, stream, hours))
    }

    /// `DecreaseStreamRetentionPeriod` to 24 to 8,760 hours.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument`.
    pub fn decrease_stream_retention_period(&self, stream: &StreamReference, hours: u32) -> ServiceResult<()> {
        self.write(|model, now| model.decrease_stream_retention_period(now, stream, hours))
    }

    /// `ListShards`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is being made, `ExpiredNextToken`, `InvalidArgument`, `LimitExceeded`.
    pub fn list_shards(&self, input: &ListShards) -> ServiceResult<ShardPage> {
        self.read(|model, now| model.list_shards(now, input))
    }

    /// `GetShardIterator`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument`, `ProvisionedThroughputExceeded`.
    pub fn get_shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> ServiceResult<ShardIterator> {
        self.read(|model, now| model.get_shard_iterator(now, stream, shard, position))
    }

    /// The stream and the shard that an iterator is of.
    #[cfg(feature = "server")]
    pub(super) fn place_of(iterator: &ShardIterator) -> Option<(crate::types::StreamName, ShardId)> {
        Model::place_of(iterator)
    }

    /// `GetRecords`: at most `limit` records, 1 to 10,000; 10,000 when absent.
    ///
    /// # Errors
    /// `ExpiredIterator`, `ProvisionedThroughputExceeded`, `ResourceNotFound`, `InvalidArgument`, `Validation`.
    pub fn get_records(&self, iterator: &ShardIterator, limit: Option<u32>) -> ServiceResult<RecordsPage> {
        self.read(|model, now| model.get_records(now, iterator, limit))
    }
}

impl Debug for LocalKinesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalKinesis({})", self.shared.label)
    }
}

impl Display for LocalKinesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shared.label)
    }
}

#[async_trait]
impl StreamClient for LocalKinesis {
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription> {
        Ok(self.describe_stream_summary(stream)?.description)
    }

    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        let input = match page {
            Some(token) => ListShards { next_token: Some(token.clone()), ..ListShards::default() },
            None => ListShards {
                stream: Some(stream.clone()),
                filter: Some(filter.clone()),
                max_results: Some(limits::LIST_SHARDS_MAX_RESULTS),
                ..ListShards::default()
            },
        };
        Ok(Self::list_shards(self, &input)?)
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        Ok(self.get_shard_iterator(stream, shard, position)?)
    }

    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage> {
        // The iterator names its stream; the argument only serves clients that must send an ARN beside it.
        let _ = stream;
        Ok(Self::get_records(self, iterator, Some(limit))?)
    }

    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        self.register(stream, name)
    }

    async fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription> {
        self.describe(consumer)
    }

    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        self.list(stream)
    }

    async fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> Result<()> {
        self.deregister(consumer)
    }

    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        self.subscribe(consumer, shard, position)
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "kinesis_test.rs"]
mod tests;
