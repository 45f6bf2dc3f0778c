//! Stream consumers and subscriptions of the handle.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Formatter},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    kinesis::{LocalKinesis, ServiceResult},
    model::{ConsumerReference, ConsumersPage, ListStreamConsumers, StreamConsumer, SubscriptionId, SubscriptionStep},
};
use crate::{
    stream::{Heard, ShardPosition, StreamReference, SubscriptionEvent},
    types::{ConsumerArn, ShardId},
};

impl LocalKinesis {
    /// `RegisterStreamConsumer`. The consumer can subscribe when it is active: at once, unless
    /// [`Delays::consumer`](super::Delays::consumer) says otherwise, although the answer says `CREATING` in any case.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` when the name is taken or the stream is being made or deleted,
    /// `LimitExceeded`, `InvalidArgument`, `Validation`.
    pub fn register_stream_consumer(
        &self,
        stream: &StreamReference,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> ServiceResult<StreamConsumer> {
        self.write(|model, now| model.register_stream_consumer(now, stream, name, tags))
    }

    /// `DescribeStreamConsumer`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `LimitExceeded`.
    pub fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> ServiceResult<StreamConsumer> {
        self.read(|model, now| model.describe_stream_consumer(now, consumer))
    }

    /// `ListStreamConsumers`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ExpiredNextToken`, `InvalidArgument`, `LimitExceeded`, `Validation`.
    pub fn list_stream_consumers(&self, input: &ListStreamConsumers) -> ServiceResult<ConsumersPage> {
        self.read(|model, now| model.list_stream_consumers(now, input))
    }

    /// `DeregisterStreamConsumer`: its subscriptions end.
    ///
    /// # Errors
    /// `ResourceNotFound`, `LimitExceeded`.
    pub fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> ServiceResult<()> {
        self.write(|model, now| model.deregister_stream_consumer(now, consumer))
    }

    /// `SubscribeToShard`.
    ///
    /// # Errors
    /// `ResourceNotFound`; `ResourceInUse` within 5 seconds of the last subscription of this consumer to this shard, or
    /// when the consumer is not active; `LimitExceeded` within a second of a call that was refused; `InvalidArgument` for a sequence number of another shard or a moment ahead.
    pub fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> ServiceResult<Subscription> {
        let woken = Arc::new(Notify::new());
        let id = self.read(|model, now| model.subscribe_to_shard(now, consumer, shard, position))?;
        self.state().waiting.insert(id, Arc::clone(&woken));
        Ok(Subscription { kinesis: self.clone(), id, woken, heard: Heard::default() })
    }

    /// `SubscribeToShard` as a dry run: whether it would succeed.
    ///
    /// # Errors
    /// As [`LocalKinesis::subscribe_to_shard`].
    pub fn check_subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> ServiceResult<()> {
        self.read(|model, now| model.check_subscribe_to_shard(now, consumer, shard, position))
    }

    /// Subscriptions that are running, in the process or over the server.
    #[must_use]
    pub fn running_subscriptions(&self) -> usize {
        self.state().model.running_subscriptions()
    }
}

/// A running subscription: events come as they are asked for, records as soon as they are put. It ends when dropped.
pub struct Subscription {
    kinesis: LocalKinesis,
    id: SubscriptionId,
    woken: Arc<Notify>,
    pub(super) heard: Heard,
}

impl Subscription {
    /// The next event; `None` when the subscription is over, by its age or by the end of the shard.
    ///
    /// # Errors
    /// What ended the subscription, once: `ResourceInUse` when a newer one took its place, `ResourceNotFound` when the
    /// consumer, the shard or the stream is gone.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<ServiceResult<SubscriptionEvent>> {
        loop {
            let polled = self.kinesis.read(|model, now| Ok((model.poll_subscription(now, self.id), now)));
            let (step, now) = match polled {
                Ok(polled) => polled,
                Err(error) => return Some(Err(error)),
            };
            match step {
                SubscriptionStep::Event(event) => {
                    self.heard.note();
                    return Some(Ok(event));
                }
                SubscriptionStep::Ended(error) => return error.map(Err),
                SubscriptionStep::Wait { until } => {
                    let wait = until.since(now).max(Duration::from_millis(1));
                    tokio::select! {
                        biased;
                        () = self.woken.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.kinesis.state();
        state.waiting.remove(&self.id);
        state.model.end_subscription(self.id);
    }
}

impl Debug for Subscription {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "fan_out_test.rs"]
mod tests;
