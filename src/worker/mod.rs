//! The worker: everything put together, from a builder to a truthful report.
//!
//! ```text
//! Worker::run ─▶ describe streams ─▶ coordination thread: LeaseCoordinator, Housekeeping (shard sync, clean-up)
//!      ▲                                   │ gained leases
//!      └── shard outcomes ◀── one consumer task per held lease, on the caller's runtime
//! ```

mod builder;
mod handle;
mod housekeeping;
mod registrations;
mod report;
mod run;
mod runtime;
mod streams;

use crate::{consumer::ShardStatus, lease::coordinator::CoordinationStatus, types::WorkerId};

pub use builder::{Config, Worker, WorkerBuilder};
pub use handle::WorkerHandle;
pub use report::{RunReport, ShardEnding, ShardReport};

/// What a worker is doing at the moment.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The worker.
    pub worker_id: WorkerId,
    /// Why it does not get to work, such as a service that cannot be reached, with the fix; `None` when nothing is in its way.
    pub obstacle: Option<String>,
    /// Records per second that it hands to its processors at the most; `None` for no limit.
    pub rate_limit: Option<u32>,
    /// Its place in the fleet.
    pub coordination: CoordinationStatus,
    /// Each shard it holds: what it is doing, and why it waits.
    pub shards: Vec<ShardStatus>,
}

#[cfg(all(test, feature = "test-util"))]
mod tests;
