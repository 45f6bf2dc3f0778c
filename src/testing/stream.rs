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

use super::network::{Call, Carrier, Network, Operation};
use crate::{
    error::Result,
    stream::{
        PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition, StreamClient, StreamDescription, StreamReference,
    },
    task::Spawner,
    types::ShardId,
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
}
