//! The source that the shard consumer reads from.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Config, Registration, reader::Reader};
use crate::{
    error::Result,
    random::Randomness,
    retrieval::{Delivery, Gauge, RecordSource, ShardBudget, UnpackingOfShard, polling::Cursor, restart::Restarts},
    stream::{StreamClient, StreamReference},
    task::{Spawner, Task},
    types::ShardId,
};

/// What it takes to subscribe to one shard.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    pub(crate) client: Arc<dyn StreamClient>,
    pub(crate) registration: Registration,
    pub(crate) stream: StreamReference,
    pub(crate) shard_id: ShardId,
    pub(crate) config: Config,
    pub(crate) budget: ShardBudget,
    pub(crate) unpacking: UnpackingOfShard,
    pub(crate) random: Randomness,
    pub(crate) gauge: Gauge,
    pub(crate) spawner: Spawner,
}

/// Subscribes to one shard. The subscription is closed, and what is buffered is dropped, when this is.
#[derive(Debug)]
pub(crate) struct FanOutSource {
    subscriber: Subscriber,
    /// After what was delivered.
    cursor: Cursor,
    events: mpsc::Receiver<Result<Delivery>>,
    task: Task<()>,
    restarts: Restarts,
}

impl FanOutSource {
    /// Begins to read.
    pub(crate) fn start(subscriber: Subscriber, cursor: Cursor) -> Self {
        let (task, events) = Self::spawn(&subscriber, cursor);
        let restarts = Restarts::new(&subscriber.random, &subscriber.gauge);
        Self { subscriber, cursor, events, task, restarts }
    }

    fn spawn(subscriber: &Subscriber, cursor: Cursor) -> (Task<()>, mpsc::Receiver<Result<Delivery>>) {
        let (queue, events) = mpsc::channel(subscriber.config.max_buffered_events.max(1));
        let reader = Reader::new(subscriber.clone(), cursor);
        let task = subscriber.spawner.spawn("fan-out reader", tracing::Instrument::in_current_span(reader.run(queue)));
        (task, events)
    }
}

#[async_trait]
impl RecordSource for FanOutSource {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if self.restarts.wait().await {
                // After the last batch delivered; what the task had queued before it panicked was received below.
                (self.task, self.events) = Self::spawn(&self.subscriber, self.cursor);
            }
            if let Some(delivery) = self.events.recv().await {
                if let Ok(Delivery::Batch(batch)) = &delivery {
                    self.cursor.delivered_up_to(batch.last());
                    self.restarts.delivered();
                }
                return delivery;
            }
            if let Some(error) = self.restarts.gone(&mut self.task, &self.subscriber.shard_id).await {
                return Err(error);
            }
        }
    }
}
