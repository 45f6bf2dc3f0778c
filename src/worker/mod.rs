//! The worker: everything put together, from a builder to a truthful report.
//!
//! ```text
//! Worker::run ─▶ describe streams ─▶ coordination thread: LeaseCoordinator, Housekeeping (shard sync, clean-up)
//!      ▲                                   │ gained leases
//!      └── shard outcomes ◀── one consumer task per held lease, on the caller's runtime
//! ```

mod builder;
mod housekeeping;
mod registrations;
mod report;
mod run;
mod runtime;
mod streams;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{
    consumer::{ShardStatus, StatusCell},
    error::Result,
    lease::{
        LeaseKey,
        coordinator::{CoordinationStatus, CoordinatorHandle},
    },
    retrieval::fan_out::Registration,
    retry::Obstacle,
    stream::StreamReference,
    types::WorkerId,
};

pub use builder::{Config, Worker, WorkerBuilder};
pub use report::{RunReport, ShardEnding, ShardReport};

/// What a worker is doing at the moment.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The worker.
    pub worker_id: WorkerId,
    /// Why it does not get to work, such as a service that cannot be reached, with the fix; `None` when nothing is in its way.
    pub obstacle: Option<String>,
    /// Its place in the fleet.
    pub coordination: CoordinationStatus,
    /// Each shard it holds: what it is doing, and why it waits.
    pub shards: Vec<ShardStatus>,
}

/// Cheap handle to a worker, usable before, while and after it runs.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    worker_id: WorkerId,
    stop: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    coordinator: Mutex<Option<CoordinatorHandle>>,
    shards: Mutex<BTreeMap<LeaseKey, StatusCell>>,
    /// What keeps the worker from getting to work.
    obstacle: Obstacle,
    /// Of the streams that are read by enhanced fan-out, or would be.
    registrations: Mutex<BTreeMap<StreamReference, Registration>>,
}

impl WorkerHandle {
    fn new(worker_id: WorkerId) -> Self {
        Self { worker_id, stop: CancellationToken::new(), shared: Arc::default() }
    }

    /// Stops the worker gracefully, as SIGTERM does: batches in hand are finished, checkpoints written and leases handed
    /// over; then `run` returns. Calling it again changes nothing.
    pub fn shutdown(&self) {
        self.stop.cancel();
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
            coordination: coordination.unwrap_or_default(),
            shards,
        }
    }

    /// Deregisters the stream consumers that this worker has read with, so that the service no longer bills for them.
    /// Nothing else does: a consumer outlives its workers. To be called when the application is retired, after `run` has
    /// returned for its last worker: one that still runs registers its consumer again.
    ///
    /// Returns the streams concerned: those that a consumer was used for, also for a part of the time.
    ///
    /// # Errors
    /// Those of `DeregisterStreamConsumer`, for the first stream that fails. A consumer that is gone already is no error.
    pub async fn deregister_stream_consumers(&self) -> Result<Vec<StreamReference>> {
        let mut registrations = self.shared.registrations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        registrations.retain(|_, registration| registration.was_used());
        for (stream, registration) in &registrations {
            registration
                .deregister()
                .await
                .map_err(|e| e.context(format!("cannot deregister stream consumer {registration} of {stream}")))?;
        }
        Ok(registrations.into_keys().collect())
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests;
