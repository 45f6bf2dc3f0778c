//! For tests of applications, tables and streams: a worker's process that can be frozen and killed, and a network
//! between it and its services that loses, delays, repeats and refuses.
//!
//! ```text
//! worker ── tasks in a Process ──▶ FaultyLeaseTable ── Network ──▶ any LeaseTable
//!                              └─▶ FaultyStream ────── Network ──▶ any StreamClient
//! ```
//!
//! All of it runs in tokio's time, so that a test with a paused clock plays hours in a moment.

mod network;
mod process;
mod stream;
mod table;

pub use network::{Answer, Arrival, Call, Direction, Fate, Network, Operation, Repeat, Service};
pub use process::Process;
pub use stream::FaultyStream;
pub use table::FaultyLeaseTable;
