//! The source that the shard consumer reads from.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Config, Cursor, fetch::Fetcher};
use crate::{
    error::{Error, ErrorKind, Result},
    random::Randomness,
    retrieval::{Delivery, Gauge, RecordSource, ShardBudget, UnpackingOfShard},
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
}

impl PollingSource {
    /// Begins to fetch.
    pub(crate) fn start(reader: ShardReader, cursor: Cursor) -> Self {
        let (task, fetched) = Self::spawn(&reader, cursor);
        Self { reader, cursor, fetched, task }
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
        if let Some(fetched) = self.fetched.recv().await {
            if let Ok(Delivery::Batch(batch)) = &fetched {
                self.cursor.delivered_up_to(batch.last());
            }
            return fetched;
        }
        // The task is gone without having said that the shard has ended: it panicked. Begin anew after the last
        // batch delivered; what it had queued was received above.
        let why = match self.task.join().await {
            Ok(()) => "it ended early".to_owned(),
            Err(failed) => failed.to_string(),
        };
        (self.task, self.fetched) = Self::spawn(&self.reader, self.cursor);
        Err(Error::new(ErrorKind::Internal, format!("fetching of shard {} was interrupted and is begun anew: {why}", self.reader.shard_id)))
    }
}
