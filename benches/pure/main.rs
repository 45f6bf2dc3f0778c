//! The parts that only compute, one by one.
//!
//! ```text
//! cargo bench --bench pure                      # all
//! cargo bench --bench pure -- planner           # by name
//! ```
//!
//! What the library keeps to itself is compiled into this executable a second time, from the same files.

mod event_stream;
mod kpl;
mod planner;
mod sequence_numbers;
mod shard_states;

/// What the files of the library look for under these names.
mod lease {
    pub(crate) use shardkeeper::lease::LeaseKey;
}
mod local {
    pub(crate) use shardkeeper::local::{ServiceError, ServiceErrorCode};
}
mod types {
    pub(crate) use shardkeeper::types::{Timestamp, WorkerId};
}

fn main() {
    divan::main();
}
