//! What enhanced fan-out adds to a stream: registered stream consumers, and subscriptions that push records.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    error::Result,
    types::{ChildShard, ConsumerArn, ConsumerName, Record, SequenceNumber, StreamArn, Timestamp},
};

/// Which stream consumer to call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsumerReference {
    /// This one, and not another that was later registered under its name.
    Arn(ConsumerArn),
    /// Whichever has the name now.
    Name {
        /// The stream.
        stream: StreamArn,
        /// The consumer's name.
        name: ConsumerName,
    },
}

impl std::fmt::Display for ConsumerReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Arn(arn) => std::fmt::Display::fmt(arn, f),
            Self::Name { stream, name } => write!(f, "{name} of stream {}", stream.stream_name()),
        }
    }
}

/// Whether a stream consumer can subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConsumerStatus {
    /// Being registered: cannot subscribe yet.
    Creating,
    /// Being deregistered.
    Deleting,
    /// In normal use.
    Active,
}

/// What the service says of a stream consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Its name.
    pub name: ConsumerName,
    /// Its ARN.
    pub arn: ConsumerArn,
    /// Whether it can subscribe.
    pub status: ConsumerStatus,
    /// When it was registered.
    pub created: Timestamp,
}

/// What a subscription delivers.
#[derive(Debug, Clone)]
pub struct SubscriptionEvent {
    /// Records in the order of their sequence numbers; none while the shard is idle.
    pub records: Vec<Record>,
    /// Up to where the shard has been read: the next subscription begins after this number. It moves while the shard is
    /// idle, too, and may be beyond the last record. `None` at the end of a closed shard.
    pub continuation: Option<SequenceNumber>,
    /// How far the event is behind the tip of the shard, in milliseconds; 0 when caught up.
    pub millis_behind_latest: u64,
    /// The shards that follow, at the end of a closed shard.
    pub child_shards: Vec<ChildShard>,
}

/// When a subscription last heard of the stream: what its reader takes for its silence counts from then. Clones share it.
#[derive(Debug, Clone)]
pub struct Heard(Arc<Mutex<Instant>>);

impl Heard {
    /// Notes that something came in now, be it a part of an event.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When something last came in; at first, when this was made.
    #[must_use]
    pub fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

/// An open subscription to a shard: the stream pushes, at most 2 MiB a second, for at most five minutes. Events come
/// while the shard is idle, too, every few seconds. Dropping it closes it.
///
/// What is not asked for waits in the connection. The stream stops to send when that is full, and closes subscriptions
/// that stay so.
#[async_trait]
pub trait Subscription: Debug + Send {
    /// Waits for the next event; `None` when the stream has ended the subscription by its age, or by the end of the
    /// shard. After `None` or an error it is not called again.
    ///
    /// # Errors
    /// `ResourceInUse` when another subscription of the consumer to the shard has replaced this one, `NotFound` when the
    /// consumer or the stream is gone, `Unavailable` when the connection broke, and whatever else the stream says. After
    /// any of them all goes on with a new subscription from the last continuation number.
    ///
    /// # Cancel safety
    /// Not safe: a future that is dropped half-way may have lost an event. Whoever stops waiting drops the subscription
    /// too, and begins another from the last continuation number.
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>>;

    /// Says when something last came in: whole events, and what has come of the next one while it is waited for. An event
    /// may take longer on a slow network than a subscription may be silent. Wrappers pass it on.
    fn heard(&self) -> Heard;
}
