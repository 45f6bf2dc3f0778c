//! A client whose calls come to an end, whatever the one behind it does.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    ConsumerDescription, ConsumerReference, PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition, StreamClient,
    StreamDescription, StreamReference, Subscription,
};
use crate::{
    error::{Error, ErrorKind, Result},
    types::{ConsumerArn, ConsumerName, ShardId, StreamArn},
};

/// Well above the limits that clients set themselves.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for `GetRecords`, whose answers have up to 10 MiB: what takes longer to come in is asked for again in smaller
/// pieces.
pub(crate) const GET_RECORDS_TIMEOUT: Duration = Duration::from_secs(300);

/// Gives up calls that are not answered, so that a client without time limits stalls no shard. The events of a
/// subscription are none of its business: their reader notices silence itself.
#[derive(Debug)]
pub(crate) struct TimeLimited(pub(crate) Arc<dyn StreamClient>);

impl TimeLimited {
    async fn call<T>(&self, name: &str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.within(CALL_TIMEOUT, name, call).await
    }

    async fn within<T>(&self, limit: Duration, name: &str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("{name} was not answered by {} within {limit:?}", self.0))),
        }
    }
}

impl fmt::Display for TimeLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StreamClient for TimeLimited {
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription> {
        self.call("DescribeStreamSummary", self.0.describe_stream(stream)).await
    }

    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        self.call("ListShards", self.0.list_shards(stream, filter, page)).await
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        self.call("GetShardIterator", self.0.shard_iterator(stream, shard, position)).await
    }

    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage> {
        self.within(GET_RECORDS_TIMEOUT, "GetRecords", self.0.get_records(stream, iterator, limit)).await
    }

    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        self.call("RegisterStreamConsumer", self.0.register_stream_consumer(stream, name)).await
    }

    async fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription> {
        self.call("DescribeStreamConsumer", self.0.describe_stream_consumer(consumer)).await
    }

    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        self.call("ListStreamConsumers", self.0.list_stream_consumers(stream)).await
    }

    async fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> Result<()> {
        self.call("DeregisterStreamConsumer", self.0.deregister_stream_consumer(consumer)).await
    }

    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        self.call("SubscribeToShard", self.0.subscribe_to_shard(consumer, shard, position)).await
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::{
        clock::TokioClock,
        local::{Config, LocalKinesis},
        random::Randomness,
        stream::conformance::{CASES, Suite},
        task::Spawner,
        testing::{Arrival, Call, Fate, FaultyStream},
        types::Timestamp,
    };

    fn kinesis() -> LocalKinesis {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_123));
        LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(7))
    }

    #[tokio::test(start_paused = true)]
    async fn it_changes_nothing_of_a_client_that_answers() {
        let kinesis = kinesis();
        Suite::new(&TimeLimited(Arc::new(kinesis.clone())), &kinesis, "suite").run(CASES).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_answer_is_given_up() {
        let network = |_: &Call| Fate { arrival: Arrival::Lost, ..Fate::default() };
        let ten_years = Duration::from_secs(315_360_000);
        let client = TimeLimited(Arc::new(FaultyStream::new(Arc::new(kinesis()), Arc::new(network), Spawner::current(), ten_years)));
        let (stream, shard, iterator) = ("clicks".parse().expect("valid"), ShardId::from_index(0), ShardIterator("x".to_owned()));
        let started = tokio::time::Instant::now();
        let errors = [
            client.describe_stream(&stream).await.err(),
            client.list_shards(&stream, &ShardFilter::All, None).await.err(),
            client.shard_iterator(&stream, &shard, ShardPosition::Latest).await.err(),
            client.get_records(&stream, &iterator, 1).await.err(),
        ];
        assert!(errors.iter().all(|e| e.as_ref().is_some_and(|e| e.kind() == ErrorKind::Timeout)), "{errors:?}");
        assert_eq!(started.elapsed(), CALL_TIMEOUT * 3 + GET_RECORDS_TIMEOUT);
    }
}
