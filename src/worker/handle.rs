//! What others may ask of a worker: to stop, to pause, to say what it does.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::WorkerStatus;
use crate::{
    consumer::{Deliveries, Shards, StatusCell},
    error::{Error, ErrorKind, Result},
    lease::{LeaseKey, coordinator::CoordinatorHandle},
    retrieval::fan_out::Registration,
    retry::Obstacle,
    stream::StreamReference,
    types::WorkerId,
};

/// Cheap handle to a worker, usable before, while and after it runs.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    worker_id: WorkerId,
    pub(super) stop: CancellationToken,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) coordinator: Mutex<Option<CoordinatorHandle>>,
    pub(super) shards: Mutex<BTreeMap<LeaseKey, StatusCell>>,
    /// What keeps the worker from getting to work.
    pub(super) obstacle: Obstacle,
    /// Of the streams that are read by enhanced fan-out.
    pub(super) registrations: Mutex<BTreeMap<StreamReference, Registration>>,
    /// What is paused, and the rate limit.
    pub(super) deliveries: Deliveries,
}

impl WorkerHandle {
    pub(super) fn new(worker_id: WorkerId) -> Self {
        Self { worker_id, stop: CancellationToken::new(), shared: Arc::default() }
    }

    /// Stops the worker gracefully, as SIGTERM does: batches in hand are finished, checkpoints written and leases handed
    /// over; then `run` returns. Calling it again changes nothing.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }

    /// Pauses shards: what is under way is finished, and nothing more is delivered until they are
    /// [resumed](WorkerHandle::resume). Their leases stay with this worker.
    ///
    /// - The batch whose `process_records` runs is the last. A batch that fails is not tried again, and the end of a shard is
    ///   not told, before it is resumed. `initialize` is called, as are `lease_lost` and `shutdown_requested`.
    /// - Checkpoints are written as ever. What was fetched is kept, within `max_buffered_bytes`, and no more is fetched when that
    ///   or the shard's queue is full; a subscription for which there is no room is closed after `fan_out.park_after`, and
    ///   begun anew on resuming. Nothing is lost and nothing comes twice.
    /// - The [status](WorkerHandle::status) says `paused`, and `millis_behind_latest` grows with what waits.
    /// - For each shard the last call counts that was about it: after `pause(Shards::All)` and `resume` of one, that one is read.
    ///   Shards that the worker gets later are paused if they are among those named; also before [`run`](crate::Worker::run), so
    ///   that a worker can start paused.
    /// - It is about this worker only, and is forgotten with it: another worker that a shard moves to reads on. To pause an
    ///   application, pause all of its workers.
    ///
    /// Returns how many of the shards concerned the worker holds at the moment: 0 may be a slip in a name.
    ///
    /// # Examples
    /// A sink is to be left alone while it is repaired:
    /// ```
    /// use shardkeeper::{BoxError, WorkerHandle, consumer::Shards};
    ///
    /// fn repair(handle: &WorkerHandle) -> Result<(), BoxError> {
    ///     handle.pause(&Shards::Stream("clicks".parse()?));
    ///     // ...
    ///     handle.resume(&Shards::Stream("clicks".parse()?));
    ///     handle.set_rate_limit(Some(500))?; // and no more than 500 records per second while it catches up
    ///     Ok(())
    /// }
    /// ```
    pub fn pause(&self, shards: &Shards) -> usize {
        self.set_paused(shards, true)
    }

    /// Ends the [pause](WorkerHandle::pause) of shards: they go on at once, with the first record that was not processed.
    /// Those that are not paused are left alone.
    ///
    /// Returns how many of the shards concerned the worker holds at the moment.
    pub fn resume(&self, shards: &Shards) -> usize {
        self.set_paused(shards, false)
    }

    fn set_paused(&self, shards: &Shards, paused: bool) -> usize {
        self.shared.deliveries.set_paused(shards, paused);
        let cells = self.shared.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let held = cells.values().filter(|cell| cell.is_of(shards)).count();
        drop(cells);
        let worker_id = &self.worker_id;
        if paused {
            tracing::info!(%worker_id, %shards, held, "shards are paused");
        } else {
            tracing::info!(%worker_id, %shards, held, "shards are resumed");
        }
        held
    }

    /// Limits the records per second that the worker hands to its processors, over all of its shards; `None` lifts the limit.
    /// It begins as [`Config::records_per_second`](super::Config::records_per_second) says, and can be changed at any time.
    ///
    /// It is one limit for the worker, not for each shard, since what it protects is what all shards of a process write to, and
    /// the number of shards of a worker changes; an application has as many times the limit as it has workers. Shards that have
    /// records share it evenly. User records count, as they are delivered, each attempt anew; a batch that is
    /// tried again is not divided, and what it has above the limit is owed for, for ten seconds at most.
    ///
    /// It holds within 5 % in any ten seconds, as long as there are records to deliver. For that batches are divided:
    /// `process_records` gets what a tenth of a second allows, and up to what 0.4 seconds allow where more time has passed since
    /// the last delivery. (So a worker with a single busy shard whose calls take longer than 0.4 seconds stays below its limit.)
    /// Shards that wait for it are `rate_limited` in the [status](WorkerHandle::status).
    ///
    /// # Errors
    /// `InvalidInput` for 0: that is a [pause](WorkerHandle::pause).
    pub fn set_rate_limit(&self, records_per_second: Option<u32>) -> Result<()> {
        let rate = rate_limit("the rate limit", records_per_second)?;
        self.shared.deliveries.set_rate(rate);
        tracing::info!(worker_id = %self.worker_id, ?records_per_second, "rate limit set");
        Ok(())
    }

    /// The worker's id.
    #[must_use]
    pub const fn worker_id(&self) -> &WorkerId {
        &self.worker_id
    }

    /// What the worker is doing at the moment.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        let coordination = self.shared.coordinator.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(CoordinatorHandle::status);
        let shards = self.shared.shards.lock().unwrap_or_else(PoisonError::into_inner).values().map(StatusCell::snapshot).collect();
        WorkerStatus {
            worker_id: self.worker_id.clone(),
            obstacle: self.shared.obstacle.current(),
            rate_limit: self.shared.deliveries.rate().map(NonZeroU32::get),
            coordination: coordination.unwrap_or_default(),
            shards,
        }
    }

    /// Deregisters the stream consumers that this worker has read with, so that the service no longer bills for them.
    /// Nothing else does: a consumer outlives its workers. To be called when the application is retired, after `run` has
    /// returned for its last worker: one that still runs registers its consumer again. Consumers given by their ARN
    /// ([`Consumer::Arn`](crate::retrieval::Consumer::Arn)) stay: whoever registered them may use them elsewhere.
    ///
    /// Returns the streams concerned: those that a consumer was used for, also for a part of the time.
    ///
    /// # Errors
    /// Those of `DeregisterStreamConsumer`, after all were tried: the kind is that of the first, the message names each that
    /// failed. A consumer that is gone already is no error.
    pub async fn deregister_stream_consumers(&self) -> Result<Vec<StreamReference>> {
        let registrations = self.shared.registrations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for (stream, registration) in registrations.into_iter().filter(|(_, registration)| registration.is_own() && registration.was_used())
        {
            match registration.deregister().await {
                Ok(()) => done.push(stream),
                Err(error) => failed.push(error.context(format!("cannot deregister stream consumer {registration} of {stream}"))),
            }
        }
        match &failed[..] {
            [] => Ok(done),
            [_] => Err(failed.remove(0)),
            [first, ..] => {
                let all: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
                Err(Error::new(first.kind(), all.join("; ")))
            }
        }
    }
}

/// A rate limit that can be kept.
pub(super) fn rate_limit(name: &str, records_per_second: Option<u32>) -> Result<Option<NonZeroU32>> {
    let Some(records) = records_per_second else { return Ok(None) };
    let none =
        || Error::new(ErrorKind::InvalidInput, format!("{name} is 0 records per second: pause the shards instead, or set it to none"));
    NonZeroU32::new(records).ok_or_else(none).map(Some)
}

#[cfg(all(test, feature = "test-util"))]
#[path = "handle_test.rs"]
mod tests;
