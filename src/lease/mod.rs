//! Leases: which worker owns which shard, kept in a table that all workers share.
//!
//! `model` has the rows and their transitions, [`LeaseTable`] is the table, `coordinator` is the service that
//! renews, takes, hands over and loses leases.

mod model;
mod signal;
mod table;

#[cfg(feature = "test-util")]
pub mod conformance;
pub(crate) mod coordinator;
#[cfg(feature = "aws")]
pub mod dynamodb;
pub mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use coordinator::{Config, CoordinationStatus};
#[cfg(feature = "aws")]
pub use dynamodb::DynamoDbLeaseTable;
pub use memory::{MemoryLeaseTable, OperationCounts};
pub use model::{Lease, LeaseKey, PendingCheckpoint, WorkerRow, WorkerState, WorkerUpdate, WorkerVersion, WriteId};
pub use signal::Signal;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLeaseTable;
pub use table::{ForeignWorker, LeaderLock, LeaseTable, SkippedRow, TableScan, WriteOutcome};
