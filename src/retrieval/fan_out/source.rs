//! A shard read by subscription, as a source.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Config, Registration, reader::Reader};
use crate::{
    random::Randomness,
    retrieval::{
        Gauge, ShardBudget, UnpackingOfShard,
        polling::Cursor,
        restart::Restarts,
        source::{Reading, ShardReading, TaskSource},
    },
    stream::{StreamClient, StreamReference},
    task::Spawner,
    types::ShardId,
};

/// Subscribes to one shard.
pub(crate) type FanOutSource = TaskSource<Subscriber>;

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

impl ShardReading for Subscriber {
    fn begin(&mut self, cursor: Cursor) -> Reading {
        self.gauge.contended(None);
        let (queue, events) = mpsc::channel(self.config.max_buffered_events.max(1));
        let reader = Reader::new(self.clone(), cursor);
        let task = self.spawner.spawn("fan-out reader", tracing::Instrument::in_current_span(reader.run(queue)));
        (task, events)
    }

    fn restarts(&self) -> Restarts {
        Restarts::new(&self.random, &self.gauge)
    }

    fn shard_id(&self) -> &ShardId {
        &self.shard_id
    }
}
