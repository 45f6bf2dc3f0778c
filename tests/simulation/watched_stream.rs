//! The stream as the service sees it: which shards it has shown, and which it has called closed.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use shardkeeper::{
    Result,
    stream::{
        PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition, StreamClient, StreamDescription, StreamReference,
    },
    types::{Shard, ShardId},
};

use crate::{event::Event, world::World};

/// Reports shards to the world, before anybody else hears of them.
pub(crate) struct WatchedStream {
    stream: Arc<dyn StreamClient>,
    world: Arc<World>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    shards: BTreeMap<ShardId, Shard>,
    /// Shards that iterators belong to.
    iterators: BTreeMap<String, ShardId>,
    ended: BTreeMap<ShardId, ()>,
}

impl WatchedStream {
    pub(crate) fn new(stream: Arc<dyn StreamClient>, world: &Arc<World>) -> Self {
        Self { stream, world: Arc::clone(world), known: Arc::default() }
    }

    fn known<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, shard: &Shard) {
        let news = self.known(|known| known.shards.insert(shard.id.clone(), shard.clone()).as_ref() != Some(shard));
        if news {
            self.world.record(&Event::ShardSeen(shard.clone()));
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
        page.shards.iter().for_each(|shard| self.show(shard));
        Ok(page)
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        let iterator = self.stream.shard_iterator(stream, shard, position).await?;
        self.known(|known| known.iterators.insert(iterator.0.clone(), shard.clone()));
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
                None => {
                    for child in &page.child_shards {
                        let seen = self.known(|known| known.shards.contains_key(&child.id));
                        if !seen {
                            self.show(&Shard {
                                id: child.id.clone(),
                                parents: child.parents.clone(),
                                hash_key_range: child.hash_key_range,
                                starting_sequence_number: shardkeeper::types::SequenceNumber::ZERO,
                                ending_sequence_number: None,
                            });
                        }
                    }
                    if self.known(|known| known.ended.insert(shard.clone(), ()).is_none()) {
                        self.world.record(&Event::EndSeen { shard });
                    }
                }
            }
        }
        Ok(page)
    }
}
