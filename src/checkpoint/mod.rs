//! Progress of a shard: what was delivered, what is acknowledged, and how it is made durable.
//!
//! ```text
//!            delivered to user code ─▶ acknowledged (process_records returned Ok) ─▶ durable (in the lease row)
//! by hand:              └───────────────── checkpoint(), checkpoint_at() ───────────────▶ durable
//! ```
//!
//! `progress` decides, without I/O, what may be written; [`Checkpointer`] writes it through the held lease, whose
//! counter fences the write; `automatic` writes what is acknowledged at an interval.

mod automatic;
mod checkpointer;
mod prepared;
mod progress;
#[cfg(feature = "test-util")]
mod recording;

pub use checkpointer::Checkpointer;
pub use prepared::PreparedCheckpoint;
#[cfg(feature = "test-util")]
pub use recording::CheckpointLog;

pub(crate) use automatic::write_at_interval;
