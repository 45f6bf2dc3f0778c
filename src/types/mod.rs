//! The domain's words as small types: no I/O, no async, no clock.

mod consumer;
mod position;
mod record;
mod sequence;
mod shard;
mod stream;
mod text;
mod timestamp;
mod worker;

pub use consumer::{ConsumerArn, ConsumerName};
pub use position::{Checkpoint, InitialPosition};
pub use record::{EncryptionType, PartitionKey, Record, RecordParts};
pub use sequence::{ExtendedSequenceNumber, SequenceNumber};
pub use shard::{ChildShard, HashKeyRange, Shard, ShardId, hash_key};
pub use stream::{StreamArn, StreamIdentifier, StreamName};
pub use text::InvalidText;
pub use timestamp::Timestamp;
pub use worker::{InstanceId, WorkerId};

pub(crate) use text::text_id;
#[cfg(feature = "local")]
pub(crate) use timestamp::civil;
