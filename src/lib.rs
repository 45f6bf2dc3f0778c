//! Shardkeeper

pub mod checkpoint;
pub mod clock;
pub mod consumer;
mod error;
pub mod lease;
pub mod limits;
#[cfg(feature = "local")]
pub mod local;
pub mod processor;
pub mod random;
pub mod retrieval;
pub mod retry;
mod shards;
pub mod stream;
pub mod task;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod types;
pub mod worker;

pub use error::{Error, ErrorKind, Result};
