//! A shard read by polling, as a source.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Config, Cursor, fetch::Fetcher};
use crate::{
    random::Randomness,
    retrieval::{
        Gauge, ShardBudget, UnpackingOfShard,
        restart::Restarts,
        source::{Reading, ShardReading, TaskSource},
    },
    stream::{StreamClient, StreamReference},
    task::Spawner,
    types::ShardId,
};

/// Polls one shard.
pub(crate) type PollingSource = TaskSource<ShardReader>;

/// What it takes to read one shard.
#[derive(Debug, Clone)]
pub(crate) struct ShardReader {
    pub(crate) client: Arc<dyn StreamClient>,
    pub(crate) stream: StreamReference,
    pub(crate) shard_id: ShardId,
    pub(crate) config: Config,
    pub(crate) budget: ShardBudget,
    pub(crate) unpacking: UnpackingOfShard,
    pub(crate) random: Randomness,
    pub(crate) gauge: Gauge,
    pub(crate) spawner: Spawner,
}

impl ShardReading for ShardReader {
    fn begin(&mut self, cursor: Cursor) -> Reading {
        // A shard that was subscribed to until now has nobody to contend with.
        self.gauge.contended(None);
        let (queue, fetched) = mpsc::channel(self.config.max_buffered_batches.max(1));
        let fetcher = Fetcher::new(self.clone(), cursor);
        let task = self.spawner.spawn("fetch", tracing::Instrument::in_current_span(fetcher.run(queue)));
        (task, fetched)
    }

    fn restarts(&self) -> Restarts {
        Restarts::new(&self.random, &self.gauge)
    }

    fn shard_id(&self) -> &ShardId {
        &self.shard_id
    }
}
