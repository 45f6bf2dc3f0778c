//! The worker: everything put together, from a builder to a truthful report.
//!
//! ```text
//! Worker::run ─▶ describe streams ─▶ coordination thread: LeaseCoordinator, Housekeeping (shard sync, clean-up)
//!      ▲                                   │ gained leases
//!      └── shard outcomes ◀── one consumer task per held lease, on the caller's runtime
//! ```

mod builder;
mod housekeeping;
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
    lease::{
        LeaseKey,
        coordinator::{CoordinationStatus, CoordinatorHandle},
    },
    types::WorkerId,
};

pub use builder::{Config, Worker, WorkerBuilder};
pub use report::{RunReport, ShardEnding, ShardReport};

/// What a worker is doing at the moment.
#[derive(Debug, Clone, serde::Serialize)]
pub struct WorkerStatus {
    /// The worker.
    pub worker_id: WorkerId,
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
        WorkerStatus { worker_id: self.worker_id.clone(), coordination: coordination.unwrap_or_default(), shards }
    }
}
