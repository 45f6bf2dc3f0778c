//! The source that the shard consumer reads from.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Config, Registration, reader::Reader};
use crate::{
    error::{Error, ErrorKind, Result},
    random::Randomness,
    retrieval::{Delivery, Gauge, RecordSource, ShardBudget, UnpackingOfShard, polling::Cursor},
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
}

impl FanOutSource {
    /// Begins to read.
    pub(crate) fn start(subscriber: Subscriber, cursor: Cursor) -> Self {
        let (task, events) = Self::spawn(&subscriber, cursor);
        Self { subscriber, cursor, events, task }
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
        if let Some(event) = self.events.recv().await {
            if let Ok(Delivery::Batch(batch)) = &event {
                self.cursor.delivered_up_to(batch.last());
            }
            return event;
        }
        // The task is gone without having said that the shard has ended: it panicked. Begin anew after the last batch
        // delivered; what it had queued was received above.
        let why = match self.task.join().await {
            Ok(()) => "it ended early".to_owned(),
            Err(failed) => failed.to_string(),
        };
        (self.task, self.events) = Self::spawn(&self.subscriber, self.cursor);
        let shard_id = &self.subscriber.shard_id;
        Err(Error::new(ErrorKind::Internal, format!("reading of shard {shard_id} was interrupted and is begun anew: {why}")))
    }
}
