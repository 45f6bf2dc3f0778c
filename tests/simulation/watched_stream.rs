//! The stream as the service sees it: which shards it has shown, and which it has called closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use shardkeeper::{
    Result,
    stream::{
        ConsumerDescription, ConsumerReference, Heard, PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition,
        StreamClient, StreamDescription, StreamReference, Subscription, SubscriptionEvent,
    },
    types::{ChildShard, ConsumerArn, ConsumerName, Shard, ShardId, StreamArn},
};

use crate::{
    event::{Event, ShardKey, stream_number},
    world::World,
};

/// Reports shards to the world, before anybody else hears of them.
#[derive(Clone)]
pub(crate) struct WatchedStream {
    stream: Arc<dyn StreamClient>,
    world: Arc<World>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    shards: BTreeMap<ShardKey, Shard>,
    /// Shards that iterators belong to.
    iterators: BTreeMap<String, ShardKey>,
    ended: BTreeSet<ShardKey>,
}

impl WatchedStream {
    pub(crate) fn new(stream: Arc<dyn StreamClient>, world: &Arc<World>) -> Self {
        Self { stream, world: Arc::clone(world), known: Arc::default() }
    }

    fn known<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self, shard: ShardKey, children: &[ChildShard]) {
        for child in children {
            let seen = self.known(|known| known.shards.contains_key(&shard.sibling(&child.id)));
            if !seen {
                let child = Shard {
                    id: child.id.clone(),
                    parents: child.parents.clone(),
                    hash_key_range: child.hash_key_range,
                    starting_sequence_number: shardkeeper::types::SequenceNumber::ZERO,
                    ending_sequence_number: None,
                };
                self.show(shard.stream, &child);
            }
        }
        if self.known(|known| known.ended.insert(shard.clone())) {
            self.world.record(&Event::EndSeen { shard });
        }
    }

    fn show(&self, stream: u32, shard: &Shard) {
        let key = ShardKey { stream, shard: shard.id.clone() };
        let news = self.known(|known| known.shards.insert(key, shard.clone()).as_ref() != Some(shard));
        if news {
            self.world.record(&Event::ShardSeen(stream, shard.clone()));
        }
    }
}

impl fmt::Debug for WatchedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.stream, f)
    }
}

impl Display for WatchedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.stream, f)
    }
}

#[async_trait]
impl StreamClient for WatchedStream {
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription> {
        self.stream.describe_stream(stream).await
    }

    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        let page = self.stream.list_shards(stream, filter, page).await?;
        page.shards.iter().for_each(|shard| self.show(stream_number(&stream.name()), shard));
        Ok(page)
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        let iterator = self.stream.shard_iterator(stream, shard, position).await?;
        let key = ShardKey { stream: stream_number(&stream.name()), shard: shard.clone() };
        self.known(|known| known.iterators.insert(iterator.0.clone(), key));
        Ok(iterator)
    }

    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage> {
        let page = self.stream.get_records(stream, iterator, limit).await?;
        let shard = self.known(|known| known.iterators.get(&iterator.0).cloned());
        if let Some(shard) = shard {
            match &page.next_iterator {
                Some(next) => {
                    self.known(|known| known.iterators.insert(next.0.clone(), shard));
                }
                None => self.end(shard, &page.child_shards),
            }
        }
        Ok(page)
    }

    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        self.stream.register_stream_consumer(stream, name).await
    }

    async fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription> {
        self.stream.describe_stream_consumer(consumer).await
    }

    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        self.stream.list_stream_consumers(stream).await
    }

    async fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> Result<()> {
        self.stream.deregister_stream_consumer(consumer).await
    }

    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        let subscription = self.stream.subscribe_to_shard(consumer, shard, position).await?;
        let shard = ShardKey { stream: stream_number(&consumer.stream_name()), shard: shard.clone() };
        Ok(Box::new(WatchedSubscription { subscription, shard, watched: self.clone() }))
    }
}

#[derive(Debug)]
struct WatchedSubscription {
    subscription: Box<dyn Subscription>,
    shard: ShardKey,
    watched: WatchedStream,
}

#[async_trait]
impl Subscription for WatchedSubscription {
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>> {
        let event = self.subscription.next().await?;
        if let Some(event) = &event
            && event.continuation.is_none()
        {
            self.watched.end(self.shard.clone(), &event.child_shards);
        }
        Ok(event)
    }

    fn heard(&self) -> Heard {
        self.subscription.heard()
    }
}
