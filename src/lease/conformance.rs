//! Cases that every [`LeaseTable`] passes, and every wrapper of one.
//!
//! ```
//! # async fn example() {
//! use shardkeeper::lease::{LeaseTable, MemoryLeaseTable, conformance};
//!
//! conformance::run(|| async { Box::new(MemoryLeaseTable::new()) as Box<dyn LeaseTable> }).await;
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
//! ```
//!
//! A case wants a table of its own, calls [`LeaseTable::initialize`] first, and panics where the table breaks the
//! contract. No case waits or measures time. Random values come from a fixed seed.

mod leases;
mod samples;
mod workers;

use std::future::Future;

pub use leases::{
    ambiguous_writes_are_recognised, compare_and_set_is_linearizable, deletes_are_conditional, every_attribute_round_trips,
    initialize_is_idempotent, leases_are_created_once, scans_return_every_page, stale_writes_are_refused,
};
pub use samples::{Samples, worker_row, worker_update};
pub use workers::{
    heartbeats_keep_signals, many_workers_are_read_at_once, signals_need_a_row, worker_rows_are_replaced_by_version,
    workers_are_buried_once,
};

use super::LeaseTable;

/// Runs every case, each on a new table.
///
/// # Panics
/// When the table breaks the contract of [`LeaseTable`], with the name of the rule.
pub async fn run<F, Fut>(factory: F)
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Box<dyn LeaseTable>> + Send,
{
    initialize_is_idempotent(&*factory().await).await;
    leases_are_created_once(&*factory().await).await;
    every_attribute_round_trips(&*factory().await).await;
    stale_writes_are_refused(&*factory().await).await;
    ambiguous_writes_are_recognised(&*factory().await).await;
    deletes_are_conditional(&*factory().await).await;
    scans_return_every_page(&*factory().await).await;
    compare_and_set_is_linearizable(&[&*factory().await]).await;

    worker_rows_are_replaced_by_version(&*factory().await).await;
    heartbeats_keep_signals(&*factory().await).await;
    signals_need_a_row(&*factory().await).await;
    workers_are_buried_once(&*factory().await).await;
    many_workers_are_read_at_once(&*factory().await).await;
}

/// Brings the table into being.
async fn initialized(table: &dyn LeaseTable) {
    table.initialize().await.unwrap_or_else(|error| panic!("{table} cannot be initialized: {error:?}"));
}
