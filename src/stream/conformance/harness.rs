//! What a case works with.

use std::{fmt::Debug, panic::AssertUnwindSafe, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use crate::{
    error::{ErrorKind, Result},
    stream::{RecordsPage, ShardFilter, ShardIterator, ShardPosition, StreamClient, StreamReference, StreamStatus},
    task::panic_message,
    types::{Record, SequenceNumber, Shard, ShardId, StreamName},
};

/// A record to put.
#[derive(Clone)]
pub struct PutRequest {
    /// The partition key.
    pub partition_key: String,
    /// Chooses the shard in place of the partition key.
    pub explicit_hash_key: Option<u128>,
    /// The payload.
    pub data: Bytes,
}

/// Redacted, as everywhere.
impl Debug for PutRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PutRequest({} bytes)", self.data.len())
    }
}

/// Where a record went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReceipt {
    /// The shard.
    pub shard_id: ShardId,
    /// Its place in the shard.
    pub sequence_number: SequenceNumber,
}

/// The producer's and operator's side of the stream under test. Calls map errors to kinds as the client does; they make
/// one attempt.
#[async_trait]
pub trait StreamControl: Debug + Send + Sync {
    /// `CreateStream`, provisioned.
    async fn create_stream(&self, stream: &StreamName, shard_count: u32) -> Result<()>;
    /// `DeleteStream`.
    async fn delete_stream(&self, stream: &StreamName) -> Result<()>;
    /// `PutRecords`: one outcome per record, in their order.
    async fn put_records(&self, stream: &StreamName, records: Vec<PutRequest>) -> Result<Vec<Result<PutReceipt>>>;
    /// `SplitShard`.
    async fn split_shard(&self, stream: &StreamName, shard: &ShardId, new_starting_hash_key: u128) -> Result<()>;
    /// `MergeShards`.
    async fn merge_shards(&self, stream: &StreamName, shard: &ShardId, adjacent: &ShardId) -> Result<()>;
    /// `UpdateShardCount`, uniform scaling.
    async fn update_shard_count(&self, stream: &StreamName, target: u32) -> Result<()>;
    /// `IncreaseStreamRetentionPeriod`.
    async fn increase_retention(&self, stream: &StreamName, hours: u32) -> Result<()>;
}

/// A case by its name.
#[derive(Clone, Copy)]
pub struct Case {
    /// What holds when it passes, such as `an_iterator_can_be_used_again`.
    pub name: &'static str,
    /// Runs it; panics when it fails.
    pub run: for<'a> fn(&'a Suite<'a>) -> BoxFuture<'a, ()>,
}

impl Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// A client and its stream control, under test.
#[derive(Debug, Clone)]
pub struct Suite<'a> {
    /// The client under test.
    pub client: &'a dyn StreamClient,
    /// Makes the streams that it reads.
    pub control: &'a dyn StreamControl,
    prefix: String,
}

const PATIENCE: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

impl<'a> Suite<'a> {
    /// A suite whose streams have names that begin with `prefix`.
    #[must_use]
    pub fn new(client: &'a dyn StreamClient, control: &'a dyn StreamControl, prefix: impl Into<String>) -> Self {
        Self { client, control, prefix: prefix.into() }
    }

    /// Runs the cases one after the other.
    ///
    /// # Panics
    /// After the last, when some failed, with their names and messages.
    pub async fn run(&self, cases: &[Case]) {
        let mut failed = Vec::new();
        for case in cases {
            if let Err(panic) = AssertUnwindSafe((case.run)(self)).catch_unwind().await {
                failed.push(format!("{}: {}", case.name, panic_message(&*panic)));
            }
        }
        assert!(failed.is_empty(), "{} breaks {} of {} cases:\n{}", self.client, failed.len(), cases.len(), failed.join("\n"));
    }

    /// Makes a stream for a case and waits until it is active.
    pub(super) async fn stream(&self, case: &str, shard_count: u32) -> TestStream<'_> {
        let name = StreamName::new(format!("{}-{case}", self.prefix)).expect("a prefix and the name of a case make a stream name");
        let stream = TestStream { suite: self, reference: StreamReference::Name(name.clone()), name };
        stream.create(shard_count).await;
        stream
    }

    /// The name of a stream that nobody makes.
    pub(super) fn missing_stream(&self) -> StreamReference {
        StreamReference::Name(StreamName::new(format!("{}-missing", self.prefix)).expect("letters"))
    }
}

/// Calls until the answer is not that the service wants it slower.
pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    for _ in 0..PATIENCE {
        match call().await {
            Err(error) if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::LimitExceeded) => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
    call().await
}

/// A stream made for one case.
#[derive(Debug)]
pub(super) struct TestStream<'a> {
    suite: &'a Suite<'a>,
    pub(super) name: StreamName,
    pub(super) reference: StreamReference,
}

pub(super) fn request(key: &str, data: impl Into<Bytes>) -> PutRequest {
    PutRequest { partition_key: key.to_owned(), explicit_hash_key: None, data: data.into() }
}

impl TestStream<'_> {
    pub(super) fn client(&self) -> &dyn StreamClient {
        self.suite.client
    }

    pub(super) fn control(&self) -> &dyn StreamControl {
        self.suite.control
    }

    pub(super) async fn create(&self, shard_count: u32) {
        patiently(|| self.control().create_stream(&self.name, shard_count)).await.expect("create a stream");
        self.until_active().await;
    }

    pub(super) async fn delete(&self) {
        patiently(|| self.control().delete_stream(&self.name)).await.expect("delete the stream");
        for _ in 0..PATIENCE {
            match patiently(|| self.client().describe_stream(&self.reference)).await {
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(error) => return assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
            }
        }
        panic!("{} is still there after it was deleted", self.name);
    }

    /// Waits until the last change has taken effect.
    pub(super) async fn until_active(&self) {
        for _ in 0..PATIENCE {
            let description = patiently(|| self.client().describe_stream(&self.reference)).await.expect("describe the stream");
            if description.status == StreamStatus::Active {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{} does not become active", self.name);
    }

    /// Puts records one by one, so that their order is certain; retries what is throttled.
    pub(super) async fn put(&self, requests: Vec<PutRequest>) -> Vec<PutReceipt> {
        let mut receipts = Vec::with_capacity(requests.len());
        for request in requests {
            let put = patiently(|| async {
                let outcomes = self.control().put_records(&self.name, vec![request.clone()]).await?;
                outcomes.into_iter().next().expect("as many outcomes as records")
            });
            receipts.push(put.await.expect("put a record"));
        }
        receipts
    }

    /// Puts `count` small records into the shard that takes `hash_key`; their payloads count on from `from`.
    pub(super) async fn put_numbers(&self, hash_key: u128, from: u32, count: u32) -> Vec<PutReceipt> {
        let numbered = |n: u32| PutRequest { explicit_hash_key: Some(hash_key), ..request("key", n.to_string()) };
        self.put((from..from + count).map(numbered).collect()).await
    }

    /// All shards that the filter lets through.
    pub(super) async fn shards(&self, filter: ShardFilter) -> Vec<Shard> {
        let mut shards = Vec::new();
        let mut token = None;
        loop {
            let page = patiently(|| self.client().list_shards(&self.reference, &filter, token.as_ref())).await.expect("list shards");
            shards.extend(page.shards);
            match page.next {
                Some(next) => token = Some(next),
                None => return shards,
            }
        }
    }

    pub(super) async fn shard_ids(&self, filter: ShardFilter) -> Vec<ShardId> {
        self.shards(filter).await.into_iter().map(|shard| shard.id).collect()
    }

    pub(super) async fn iterator(&self, shard: &ShardId, position: ShardPosition) -> ShardIterator {
        patiently(|| self.client().shard_iterator(&self.reference, shard, position)).await.expect("get a shard iterator")
    }

    pub(super) async fn page(&self, iterator: &ShardIterator, limit: u32) -> RecordsPage {
        patiently(|| self.client().get_records(&self.reference, iterator, limit)).await.expect("get records")
    }

    /// Reads on until nothing waits: the records, and the last page.
    pub(super) async fn drain(&self, mut iterator: ShardIterator, limit: u32) -> (Vec<Record>, RecordsPage) {
        let mut records = Vec::new();
        loop {
            let mut page = self.page(&iterator, limit).await;
            records.append(&mut page.records);
            match &page.next_iterator {
                Some(next) if page.millis_behind_latest > 0 => iterator = next.clone(),
                Some(_) | None => return (records, page),
            }
        }
    }

    /// Reads from the position until nothing waits.
    pub(super) async fn read(&self, shard: &ShardId, position: ShardPosition) -> Vec<Record> {
        let iterator = self.iterator(shard, position).await;
        self.drain(iterator, 10_000).await.0
    }
}

/// The numbers that [`TestStream::put_numbers`] put.
pub(super) fn numbers(records: &[Record]) -> Vec<u32> {
    let number = |record: &Record| std::str::from_utf8(record.data()).expect("text").parse().expect("a number");
    records.iter().map(number).collect()
}

/// Lets some milliseconds pass, so that moments differ.
pub(super) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Asserts that the call failed for this reason.
#[track_caller]
pub(super) fn assert_kind<T: Debug>(outcome: Result<T>, kind: ErrorKind) {
    match outcome {
        Ok(value) => panic!("expected {kind:?}, got {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}
