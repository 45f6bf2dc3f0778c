//! Shard synchronisation: which shards there are, which of them lack a lease, and which leases are done with.
//!
//! ```text
//! ListShards ─▶ discovery ─┐
//! lease rows ──────────────┼─▶ lineage (pure) ─▶ leases to make ─▶ sync ─▶ lease table
//!                          ├─▶ audit (pure): do the rows alone look complete?
//!                          └─▶ cleanup (pure): which ended rows may go
//! ```
//!
//! In normal operation ListShards is called at the first start and then seldom: the leases of a shard's children are
//! made by its last owner, from what GetRecords said at its end. [`ShardSync`] is the safety net, used by the one
//! worker that does the housekeeping.

mod audit;
mod cleanup;
mod discovery;
mod lineage;
mod sync;

pub(crate) use sync::{ShardSync, refuse_stream_of};

#[cfg(test)]
mod model_test;
