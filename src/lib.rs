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
pub mod retry;
pub(crate) mod shards;
pub mod stream;
pub mod task;
pub mod types;

pub use error::{Error, ErrorKind, Result};
