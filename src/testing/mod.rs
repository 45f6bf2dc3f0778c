//! For tests of applications, tables and streams, in virtual time.
//!
//! - [`ProcessorHarness`] calls a [`RecordProcessor`](crate::processor::RecordProcessor) as a worker would, without a stream.
//! - [`RecordingProcessor`] notes what a worker called, around a processor of the application or by itself.
//! - [`RecordBuilder`] makes records, [`Aggregator`] aggregates of records as the KPL does.
//! - [`Process`] is a worker's process that can be frozen and killed, [`Network`] what lies between it and its services:
//!   it loses, delays, repeats and refuses.
//!
//! ```text
//! worker ── tasks in a Process ──▶ FaultyLeaseTable ── Network ──▶ any LeaseTable
//!                              └─▶ FaultyStream ────── Network ──▶ any StreamClient
//! ```
//!
//! All of it runs in tokio's time, so that a test with a paused clock plays hours in a moment.

mod aggregator;
mod harness;
mod network;
mod process;
mod record;
mod recording;
mod stream;
mod table;

#[cfg(test)]
pub(crate) use aggregator::sealed;
pub use aggregator::{Aggregated, Aggregator};
pub use harness::ProcessorHarness;
pub use network::{Answer, Arrival, Call, Direction, Fate, Network, Operation, Repeat, Service};
pub use process::Process;
pub use record::{RecordBuilder, record};
pub use recording::{ProcessorCall, ProcessorLog, RecordingProcessor, What};
pub use stream::FaultyStream;
pub use table::FaultyLeaseTable;
