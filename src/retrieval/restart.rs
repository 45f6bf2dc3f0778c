//! Reading tasks that have panicked are begun anew: later each time, so that one that always does costs little.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Gauge;
use crate::{
    error::{Error, ErrorKind},
    random::Randomness,
    retry::{Backoff, RetryConfig},
    task::Task,
    types::ShardId,
};

/// Waits before a task is begun anew: about the first page's worth of calls, then up to half a minute.
const WAITS: RetryConfig = RetryConfig { max_attempts: None, min_delay: Duration::from_millis(200), max_delay: Duration::from_secs(30) };

/// When the task of one source is to be begun anew.
#[derive(Debug)]
pub(crate) struct Restarts {
    random: Randomness,
    gauge: Gauge,
    /// The waits since something was delivered.
    waits: Option<Backoff>,
    due: Option<Instant>,
}

impl Restarts {
    pub(super) fn new(random: &Randomness, gauge: &Gauge) -> Self {
        Self { random: random.clone(), gauge: gauge.clone(), waits: None, due: None }
    }

    /// Waits until a task that is gone may be begun anew. False, at once, when none is gone.
    ///
    /// # Cancel safety
    /// Safe: it is true once for each task that is gone.
    pub(super) async fn wait(&mut self) -> bool {
        let Some(due) = self.due else { return false };
        sleep_until(due).await;
        self.due = None;
        true
    }

    /// Something was delivered: the next panic is another trouble.
    pub(super) fn delivered(&mut self) {
        self.waits = None;
    }

    /// The task is gone without having said that the shard has ended: it panicked. Returns what to report, for the first
    /// time in a row.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn gone(&mut self, task: &mut Task<()>, shard_id: &ShardId) -> Option<Error> {
        let why = match task.join().await {
            Ok(()) => "it ended early".to_owned(),
            Err(failed) => failed.to_string(),
        };
        let first = self.waits.is_none();
        let waits = self.waits.get_or_insert_with(|| WAITS.backoff(&self.random));
        self.due = Some(Instant::now() + waits.next_delay().unwrap_or(WAITS.max_delay));
        let error = Error::new(ErrorKind::Internal, format!("reading of shard {shard_id} was interrupted and is begun anew: {why}"));
        self.gauge.interrupted(format!("{error:#}"));
        first.then_some(error)
    }
}
