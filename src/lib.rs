//! Shardkeeper

pub mod clock;
mod error;
pub mod lease;
pub mod limits;
#[cfg(feature = "local")]
pub mod local;
pub mod random;
pub mod stream;
pub mod task;
pub mod types;

pub use error::{Error, ErrorKind, Result};
