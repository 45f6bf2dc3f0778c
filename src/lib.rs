//! Shardkeeper

pub mod checkpoint;
pub mod clock;
pub mod consumer;
mod error;
pub mod lease;
pub mod limits;
pub mod processor;
#[cfg(feature = "local")]
pub mod local;
pub mod random;
pub mod retry;
pub mod stream;
pub mod task;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod types;

pub use error::{Error, ErrorKind, Result};
