//! Progress of a shard: what is acknowledged, and how it is made durable.

/// Writes checkpoints by hand.
#[derive(Debug)]
pub struct Checkpointer;
