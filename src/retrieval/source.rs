//! The source that the shard consumer reads from: a task that reads ahead into a queue, and is begun anew when it panics.

use std::fmt::Debug;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Delivery, RecordSource, polling::Cursor, restart::Restarts};
use crate::{error::Result, task::Task, types::ShardId};

/// A task that reads, and the queue that it reads into.
pub(crate) type Reading = (Task<()>, mpsc::Receiver<Result<Delivery>>);

/// One way to read one shard.
pub(crate) trait ShardReading: Debug + Send {
    /// Begins to read from the cursor on.
    fn begin(&self, cursor: Cursor) -> Reading;

    /// When a task that panicked is begun anew.
    fn restarts(&self) -> Restarts;

    /// The shard.
    fn shard_id(&self) -> &ShardId;
}

/// Reads one shard. Reading stops, and what is buffered is dropped, when this is.
#[derive(Debug)]
pub(crate) struct TaskSource<R> {
    reading: R,
    /// After what was delivered.
    cursor: Cursor,
    task: Task<()>,
    queue: mpsc::Receiver<Result<Delivery>>,
    restarts: Restarts,
}

impl<R: ShardReading> TaskSource<R> {
    /// Begins to read.
    pub(crate) fn start(reading: R, cursor: Cursor) -> Self {
        let (task, queue) = reading.begin(cursor);
        let restarts = reading.restarts();
        Self { reading, cursor, task, queue, restarts }
    }
}

#[async_trait]
impl<R: ShardReading> RecordSource for TaskSource<R> {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if self.restarts.wait().await {
                // After the last batch delivered; what the task had queued before it panicked was received below.
                (self.task, self.queue) = self.reading.begin(self.cursor);
            }
            if let Some(delivery) = self.queue.recv().await {
                if let Ok(Delivery::Batch(batch)) = &delivery {
                    self.cursor.delivered_up_to(batch.last());
                    self.restarts.delivered();
                }
                return delivery;
            }
            if let Some(error) = self.restarts.gone(&mut self.task, self.reading.shard_id()).await {
                return Err(error);
            }
        }
    }
}
