//! The source that the shard consumer reads from: a task that reads ahead into a queue, and is begun anew when it panics.

use std::{fmt::Debug, future::Future};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Delivery, RecordSource, polling::Cursor, restart::Restarts};
use crate::{
    error::{Error, Result},
    task::Task,
    types::ShardId,
};

/// A task that reads, and the queue that it reads into.
pub(crate) type Reading = (Task<()>, mpsc::Receiver<Result<Delivery>>);

/// One way to read one shard.
pub(crate) trait ShardReading: Debug + Send + Sync {
    /// Begins to read from the cursor on.
    fn begin(&mut self, cursor: Cursor) -> Reading;

    /// Waits until reading is better begun anew, which it never is unless there is another way to read.
    ///
    /// # Cancel safety
    /// Safe.
    fn outdated(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// What is to be delivered of a report: none when it is outdated because of it.
    fn reported(&mut self, error: Error) -> Option<Error> {
        Some(error)
    }

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
    /// None while what it has queued is delivered before another is begun.
    task: Option<Task<()>>,
    queue: mpsc::Receiver<Result<Delivery>>,
    restarts: Restarts,
}

impl<R: ShardReading> TaskSource<R> {
    /// Begins to read.
    pub(crate) fn start(mut reading: R, cursor: Cursor) -> Self {
        let (task, queue) = reading.begin(cursor);
        let restarts = reading.restarts();
        Self { reading, cursor, task: Some(task), queue, restarts }
    }

    /// Goes on after the last batch delivered.
    fn begin(&mut self) {
        let (task, queue) = self.reading.begin(self.cursor);
        (self.task, self.queue) = (Some(task), queue);
    }
}

#[async_trait]
impl<R: ShardReading> RecordSource for TaskSource<R> {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if self.restarts.wait().await {
                // What the task had queued before it panicked was received below.
                self.begin();
            }
            let received = tokio::select! {
                biased;
                () = self.reading.outdated(), if self.task.is_some() => {
                    // It ends, and closes the queue.
                    self.task = None;
                    continue;
                }
                received = self.queue.recv() => received,
            };
            match received {
                Some(Ok(delivery)) => {
                    if let Delivery::Batch(batch) = &delivery {
                        self.cursor.delivered_up_to(batch.last());
                        self.restarts.delivered();
                    }
                    return Ok(delivery);
                }
                Some(Err(error)) => {
                    if let Some(error) = self.reading.reported(error) {
                        return Err(error);
                    }
                }
                None => {
                    let Some(task) = &mut self.task else {
                        self.begin();
                        continue;
                    };
                    if let Some(error) = self.restarts.gone(task, self.reading.shard_id()).await {
                        return Err(error);
                    }
                }
            }
        }
    }
}
