//! The source that the shard consumer reads from.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Config, Cursor, fetch::Fetcher};
use crate::{
    error::Result,
    random::Randomness,
    retrieval::{Delivery, Gauge, RecordSource, ShardBudget, UnpackingOfShard, restart::Restarts},
    stream::{StreamClient, StreamReference},
    task::{Spawner, Task},
    types::ShardId,
};

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

/// Polls one shard. Fetching stops, and what is buffered is dropped, when this is.
#[derive(Debug)]
pub(crate) struct PollingSource {
    reader: ShardReader,
    /// After what was delivered.
    cursor: Cursor,
    fetched: mpsc::Receiver<Result<Delivery>>,
    task: Task<()>,
    restarts: Restarts,
}

impl PollingSource {
    /// Begins to fetch.
    pub(crate) fn start(reader: ShardReader, cursor: Cursor) -> Self {
        let (task, fetched) = Self::spawn(&reader, cursor);
        let restarts = Restarts::new(&reader.random, &reader.gauge);
        Self { reader, cursor, fetched, task, restarts }
    }

    fn spawn(reader: &ShardReader, cursor: Cursor) -> (Task<()>, mpsc::Receiver<Result<Delivery>>) {
        let (queue, fetched) = mpsc::channel(reader.config.max_buffered_batches.max(1));
        let fetcher = Fetcher::new(reader.clone(), cursor);
        let task = reader.spawner.spawn("fetch", tracing::Instrument::in_current_span(fetcher.run(queue)));
        (task, fetched)
    }
}

#[async_trait]
impl RecordSource for PollingSource {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if self.restarts.wait().await {
                // After the last batch delivered; what the task had queued before it panicked was received below.
                (self.task, self.fetched) = Self::spawn(&self.reader, self.cursor);
            }
            if let Some(delivery) = self.fetched.recv().await {
                if let Ok(Delivery::Batch(batch)) = &delivery {
                    self.cursor.delivered_up_to(batch.last());
                    self.restarts.delivered();
                }
                return delivery;
            }
            if let Some(error) = self.restarts.gone(&mut self.task, &self.reader.shard_id).await {
                return Err(error);
            }
        }
    }
}
