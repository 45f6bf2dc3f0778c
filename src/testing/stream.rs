//! A stream behind a faulty network.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};

use super::network::{Answer, Arrival, Call, Carrier, Direction, Network, Operation, reset, wait};
use crate::{
    error::{Error, ErrorKind, Result},
    stream::{
        ConsumerDescription, ConsumerReference, Heard, PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition,
        StreamClient, StreamDescription, StreamReference, Subscription, SubscriptionEvent,
    },
    task::Spawner,
    types::{ConsumerArn, ConsumerName, ShardId, StreamArn},
};

/// A [`StreamClient`] whose requests go through a [`Network`].
#[derive(Clone)]
pub struct FaultyStream {
    stream: Arc<dyn StreamClient>,
    carrier: Carrier,
    calls: Arc<AtomicU64>,
}

impl FaultyStream {
    /// Requests to `stream` go through `network`, run where `spawner` says, and are given up after `timeout`. The
    /// spawner is the network's: with that of a [`Process`](super::Process), requests would die with it.
    #[must_use]
    pub fn new(stream: Arc<dyn StreamClient>, network: Arc<dyn Network>, spawner: Spawner, timeout: Duration) -> Self {
        Self { stream, carrier: Carrier { network, spawner, timeout }, calls: Arc::default() }
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        apply: impl Fn(Arc<dyn StreamClient>) -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = Arc::clone(&self.stream);
        self.carrier.carry(Call { number, operation }, move || apply(Arc::clone(&stream))).await
    }
}

impl fmt::Debug for FaultyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} behind a faulty network", self.stream)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StreamClient for FaultyStream {
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription> {
        let stream = stream.clone();
        self.call(Operation::DescribeStream, move |client| {
            let stream = stream.clone();
            async move { client.describe_stream(&stream).await }.boxed()
        })
        .await
    }

    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        let request = Arc::new((stream.clone(), filter.clone(), page.cloned()));
        self.call(Operation::ListShards, move |client| {
            let request = Arc::clone(&request);
            async move { client.list_shards(&request.0, &request.1, request.2.as_ref()).await }.boxed()
        })
        .await
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        let request = Arc::new((stream.clone(), shard.clone()));
        self.call(Operation::ShardIterator, move |client| {
            let request = Arc::clone(&request);
            async move { client.shard_iterator(&request.0, &request.1, position).await }.boxed()
        })
        .await
    }

    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage> {
        let request = Arc::new((stream.clone(), iterator.clone()));
        self.call(Operation::GetRecords, move |client| {
            let request = Arc::clone(&request);
            async move { client.get_records(&request.0, &request.1, limit).await }.boxed()
        })
        .await
    }

    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        let request = Arc::new((stream.clone(), name.clone()));
        self.call(Operation::RegisterStreamConsumer, move |client| {
            let request = Arc::clone(&request);
            async move { client.register_stream_consumer(&request.0, &request.1).await }.boxed()
        })
        .await
    }

    async fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription> {
        let consumer = consumer.clone();
        self.call(Operation::DescribeStreamConsumer, move |client| {
            let consumer = consumer.clone();
            async move { client.describe_stream_consumer(&consumer).await }.boxed()
        })
        .await
    }

    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        let stream = stream.clone();
        self.call(Operation::ListStreamConsumers, move |client| {
            let stream = stream.clone();
            async move { client.list_stream_consumers(&stream).await }.boxed()
        })
        .await
    }

    async fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> Result<()> {
        let consumer = consumer.clone();
        self.call(Operation::DeregisterStreamConsumer, move |client| {
            let consumer = consumer.clone();
            async move { client.deregister_stream_consumer(&consumer).await }.boxed()
        })
        .await
    }

    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        self.carrier.network.subscribes(consumer, shard);
        let request = Arc::new((consumer.clone(), shard.clone()));
        let subscription = self
            .call(Operation::SubscribeToShard, move |client| {
                let request = Arc::clone(&request);
                async move { client.subscribe_to_shard(&request.0, &request.1, position).await }.boxed()
            })
            .await?;
        let (network, calls) = (Arc::clone(&self.carrier.network), Arc::clone(&self.calls));
        Ok(Box::new(FaultySubscription { subscription, network, calls }))
    }
}

/// Events cross the network one by one: each has a [`Fate`](super::Fate), of which the way back counts. What is lost of
/// a connection takes along everything after it, so that a lost event leaves it half-open.
struct FaultySubscription {
    subscription: Box<dyn Subscription>,
    network: Arc<dyn Network>,
    calls: Arc<AtomicU64>,
}

impl fmt::Debug for FaultySubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultySubscription").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

#[async_trait]
impl Subscription for FaultySubscription {
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>> {
        let event = self.subscription.next().await;
        let call = Call { number: self.calls.fetch_add(1, Ordering::Relaxed) + 1, operation: Operation::SubscriptionEvent };
        let fate = self.network.fate(&call);
        wait(fate.response_delay).await;
        match (fate.arrival, fate.answer) {
            _ if self.network.is_cut(&call, Direction::Response) => std::future::pending().await,
            (Arrival::Lost, _) | (_, Answer::Lost) => std::future::pending().await,
            (Arrival::Reset, _) | (_, Answer::Reset) => Err(reset(call)),
            (Arrival::Refused(kind), _) => Err(Error::new(kind, "the subscription was ended by the test's network")),
            (_, Answer::Failed) => Err(Error::new(ErrorKind::Unavailable, "the subscription failed, by the test's network")),
            (Arrival::Delivered, Answer::Delivered) => event,
        }
    }

    fn heard(&self) -> Heard {
        self.subscription.heard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::TokioClock,
        local::{Config, LocalKinesis},
        random::Randomness,
        stream::conformance::{CASES, Suite},
        testing::Fate,
        types::Timestamp,
    };

    #[tokio::test(start_paused = true)]
    async fn behind_a_network_without_faults_a_stream_passes_the_conformance_suite() {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_123));
        let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(7));
        let network = |_: &Call| Fate::default();
        let client = FaultyStream::new(Arc::new(kinesis.clone()), Arc::new(network), Spawner::current(), Duration::from_secs(10));
        Suite::new(&client, &kinesis, "suite").run(CASES).await;
    }
}
