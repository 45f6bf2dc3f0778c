//! SubscribeToShard as pure state: a subscription is asked for its next step, and says what to deliver, until when to
//! wait, or that it is over.
//!
//! ```text
//! subscribe ─► poll ─┬─► Event  records, or none after a time without        ─► poll again
//!                    ├─► Wait   until then, or until the model wakes it      ─► poll again
//!                    └─► Ended  by age, by the end of the shard, by a newer one, by a consumer or stream that is gone
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Model, RatedCall, ServiceError, ServiceErrorCode,
    consumers::consumer_not_found,
    rates::Calls,
    stream::{Context, Stream, shard_not_found},
    throttle::Budget,
};
use crate::{
    stream::{ConsumerStatus, ShardPosition, StreamReference, SubscriptionEvent},
    types::{ConsumerArn, Record, SequenceNumber, ShardId, Timestamp},
};

/// Most records and bytes of one event. The service documents none; half of a second's worth leaves room for a second
/// event within the rate.
const EVENT_MAX_RECORDS: usize = 10_000;
const EVENT_MAX_BYTES: u64 = 1024 * 1024;

/// A subscription of this model; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u64);

/// What a subscription does next.
#[derive(Debug)]
pub enum SubscriptionStep {
    /// It delivers this.
    Event(SubscriptionEvent),
    /// Nothing until this moment, unless the model wakes it ([`Model::take_woken`]).
    Wait {
        /// When to ask again.
        until: Timestamp,
    },
    /// It is over: by its age or the end of the shard, or with this error, which the client is sent.
    Ended(Option<ServiceError>),
}

/// The state of a subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    consumer: ConsumerArn,
    /// Creation time of the stream, so that it does not read a successor of the same name.
    stream_created: Timestamp,
    shard: u32,
    /// The next record is the first at or above this number.
    next: SequenceNumber,
    ends: Timestamp,
    last_event: Timestamp,
    at_shard_end: bool,
}

impl Model {
    /// `SubscribeToShard`. The caller polls the subscription, and ends it when its client goes away.
    ///
    /// # Errors
    /// `ResourceNotFound`; `ResourceInUse` within 5 seconds of the last subscription of this consumer to this shard, or
    /// when the consumer is not active; `LimitExceeded` within a second of a call that was refused; `InvalidArgument` for a sequence number of another shard or a moment ahead.
    pub fn subscribe_to_shard(
        &mut self,
        now: Timestamp,
        consumer: &ConsumerArn,
        shard: &ShardId,
        position: ShardPosition,
    ) -> Result<SubscriptionId, ServiceError> {
        let id = SubscriptionId(self.next_subscription);
        let subscription = self.on(now, &StreamReference::Arn(consumer.stream_arn()), |stream, cx| {
            let subscription = stream.begin_subscription(cx, consumer, shard, position)?;
            stream.seats.take(cx, subscription.shard, consumer.consumer_name().as_str(), id);
            Ok(subscription)
        })?;
        self.next_subscription += 1;
        self.subscriptions.insert(id, subscription);
        Ok(id)
    }

    /// Whether `SubscribeToShard` would succeed; begins nothing.
    ///
    /// # Errors
    /// As [`Model::subscribe_to_shard`]. A call that is refused counts.
    pub fn check_subscribe_to_shard(
        &mut self,
        now: Timestamp,
        consumer: &ConsumerArn,
        shard: &ShardId,
        position: ShardPosition,
    ) -> Result<(), ServiceError> {
        self.on(now, &StreamReference::Arn(consumer.stream_arn()), |stream, cx| {
            stream.begin_subscription(cx, consumer, shard, position)?;
            Ok(())
        })
    }

    /// The next step of a subscription. One that has ended is forgotten, and says `Ended(None)` from then on.
    pub fn poll_subscription(&mut self, now: Timestamp, id: SubscriptionId) -> SubscriptionStep {
        let Some(mut subscription) = self.subscriptions.remove(&id) else { return SubscriptionStep::Ended(None) };
        let stream = StreamReference::Arn(subscription.consumer.stream_arn());
        let step = self.on(now, &stream, |stream, cx| Ok(stream.step(cx, id, &mut subscription)));
        let step = step.unwrap_or_else(|error| SubscriptionStep::Ended(Some(error)));
        if matches!(step, SubscriptionStep::Ended(_)) {
            self.leave_seat(id, &subscription);
        } else {
            self.subscriptions.insert(id, subscription);
        }
        step
    }

    /// Forgets a subscription whose client is gone. The next one of its consumer and shard is refused for as long as if
    /// it were still there.
    pub fn end_subscription(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.subscriptions.remove(&id) {
            self.leave_seat(id, &subscription);
        }
    }

    /// Subscriptions that have not ended.
    #[must_use]
    pub fn running_subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    fn leave_seat(&mut self, id: SubscriptionId, subscription: &Subscription) {
        if let Some(stream) = self.streams.get_mut(&subscription.consumer.stream_name()) {
            stream.seats.leave(subscription.shard, subscription.consumer.consumer_name().as_str(), id);
        }
    }

    /// Subscriptions that may have another next step than when they were last asked, because of calls since this was
    /// last asked.
    pub fn take_woken(&mut self) -> BTreeSet<SubscriptionId> {
        std::mem::take(&mut self.woken)
    }
}

impl Stream {
    fn begin_subscription(
        &mut self,
        cx: &mut Context<'_>,
        consumer: &ConsumerArn,
        shard: &ShardId,
        position: ShardPosition,
    ) -> Result<Subscription, ServiceError> {
        self.require_data(cx)?;
        let status = self.consumer_of(consumer).ok_or_else(|| consumer_not_found(consumer, cx))?.status();
        let index = match self.shard(cx, shard) {
            Some(state) => state.facts.index,
            None => return Err(shard_not_found(shard, &self.facts.name, cx.config)),
        };
        self.seats.check_rate(cx, index, consumer)?;
        let next = self.position_for(cx, consumer, status, index, position);
        let next = next.inspect_err(|_| self.seats.refused(cx, index, consumer.consumer_name().as_str()))?;
        Ok(Subscription {
            consumer: consumer.clone(),
            stream_created: self.facts.created,
            shard: index,
            next,
            ends: cx.now.plus(cx.config.fan_out.subscription_life),
            last_event: cx.now,
            at_shard_end: false,
        })
    }

    /// Where the subscription begins, if the consumer may have it.
    fn position_for(
        &self,
        cx: &Context<'_>,
        consumer: &ConsumerArn,
        status: ConsumerStatus,
        shard: u32,
        position: ShardPosition,
    ) -> Result<SequenceNumber, ServiceError> {
        if status != ConsumerStatus::Active {
            let state = if status == ConsumerStatus::Creating { "CREATING" } else { "DELETING" };
            let message = format!("Consumer {consumer} is not ACTIVE, instead in state {state}");
            return Err(ServiceError::new(ServiceErrorCode::ResourceInUse, message));
        }
        let state = &self.shards[&shard];
        let next = state.resolve(cx, &self.facts.name, self.facts.next_place, position, "SubscribeToShard")?;
        self.seats.admit(cx, shard, consumer.consumer_name().as_str())?;
        Ok(next)
    }

    fn step(&mut self, cx: &mut Context<'_>, id: SubscriptionId, subscription: &mut Subscription) -> SubscriptionStep {
        let now = cx.now;
        let over = |error| SubscriptionStep::Ended(Some(error));
        let registered = self.consumer_of(&subscription.consumer).is_some_and(|facts| facts.status() == ConsumerStatus::Active);
        if !registered || self.facts.created != subscription.stream_created {
            return over(consumer_not_found(&subscription.consumer, cx));
        }
        if subscription.at_shard_end || now >= subscription.ends {
            return SubscriptionStep::Ended(None);
        }
        self.retain(cx, subscription.shard);
        let gone = || over(shard_not_found(&ShardId::from_index(u64::from(subscription.shard)), &self.facts.name, cx.config));
        let Some(shard) = self.shards.get(&subscription.shard) else { return gone() };
        let rate = cx.config.limits.fan_out_bytes_per_second;
        let Some(bytes) = self.seats.budget(subscription.shard, subscription.consumer.consumer_name().as_str(), id) else {
            return over(replaced(&subscription.consumer));
        };
        if !bytes.has_room(now, rate) {
            return SubscriptionStep::Wait { until: bytes.opens_at(now, rate).min(subscription.ends) };
        }
        let batch = shard.batch(now, &self.facts.encryption, subscription.next, EVENT_MAX_RECORDS, EVENT_MAX_BYTES);
        let idle = batch.records.is_empty() && !batch.ended;
        let idle_event_at = subscription.last_event.plus(cx.config.fan_out.idle_event_interval);
        if idle && now < idle_event_at {
            let until = idle_event_at.min(subscription.ends);
            return SubscriptionStep::Wait { until: self.passes_at().filter(|at| *at > now).map_or(until, |at| at.min(until)) };
        }
        bytes.charge(now, batch.bytes, rate);
        // An idle shard has nothing below the next place of the stream, so that is how far the subscription has come.
        let reached = batch.records.last().map_or_else(|| shard.position_of(self.facts.next_place), Record::sequence_number);
        subscription.next = subscription.next.max(reached.next());
        subscription.last_event = now;
        subscription.at_shard_end = batch.ended;
        SubscriptionStep::Event(SubscriptionEvent {
            records: batch.records,
            continuation: (!batch.ended).then_some(reached),
            millis_behind_latest: batch.millis_behind_latest,
            child_shards: if batch.ended { self.children(subscription.shard) } else { Vec::new() },
        })
    }
}

fn replaced(consumer: &ConsumerArn) -> ServiceError {
    let message = format!("Another active subscription exists for this consumer: {consumer}");
    ServiceError::new(ServiceErrorCode::ResourceInUse, message)
}

/// Who of a stream's consumers subscribes to which of its shards: one subscription each at a time.
#[derive(Debug, Default)]
pub(super) struct Seats(BTreeMap<(u32, String), Seat>);

#[derive(Debug, Default)]
struct Seat {
    /// When the last subscription began.
    since: Option<Timestamp>,
    holder: Option<SubscriptionId>,
    bytes: Budget,
    /// Calls that were refused.
    calls: Calls,
}

impl Seats {
    /// Refuses a call within a second of one that was refused. Within a second of one that succeeded, which the rate
    /// forbids as well, the API reference promises `ResourceInUse`.
    fn check_rate(&self, cx: &Context<'_>, shard: u32, consumer: &ConsumerArn) -> Result<(), ServiceError> {
        let seat = self.0.get(&(shard, consumer.consumer_name().as_str().to_owned()));
        if seat.is_none_or(|seat| seat.calls.has_room(cx.now, RatedCall::SubscribeToShard, cx.config)) {
            return Ok(());
        }
        let message = format!("Rate exceeded for consumer {consumer} and shard {}", ShardId::from_index(u64::from(shard)));
        Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
    }

    /// Counts a call that was refused for another reason than the rate.
    fn refused(&mut self, cx: &Context<'_>, shard: u32, consumer: &str) {
        let seat = self.0.entry((shard, consumer.to_owned())).or_default();
        seat.calls.admit(cx.now, RatedCall::SubscribeToShard, cx.config);
    }

    /// Refuses a subscription too soon after the one before.
    fn admit(&self, cx: &Context<'_>, shard: u32, consumer: &str) -> Result<(), ServiceError> {
        match self.0.get(&(shard, consumer.to_owned())).and_then(|seat| seat.since) {
            // A clock set back must not refuse for as long as it was set back.
            Some(since) if cx.now >= since && cx.now.since(since) < cx.config.fan_out.takeover_after => {
                let message = format!(
                    "Another active subscription exists for this consumer: {consumer}, shard {}",
                    ShardId::from_index(u64::from(shard))
                );
                Err(ServiceError::new(ServiceErrorCode::ResourceInUse, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Gives the place to a new subscription; the one before ends.
    fn take(&mut self, cx: &mut Context<'_>, shard: u32, consumer: &str, id: SubscriptionId) {
        let seat = self.0.entry((shard, consumer.to_owned())).or_default();
        seat.since = Some(cx.now);
        if let Some(before) = seat.holder.replace(id) {
            cx.woken.insert(before);
        }
    }

    /// What the consumer's rate on the shard has left; `None` when another subscription has its place.
    fn budget(&mut self, shard: u32, consumer: &str, id: SubscriptionId) -> Option<&mut Budget> {
        let seat = self.0.get_mut(&(shard, consumer.to_owned())).filter(|seat| seat.holder == Some(id))?;
        Some(&mut seat.bytes)
    }

    fn leave(&mut self, shard: u32, consumer: &str, id: SubscriptionId) {
        if let Some(seat) = self.0.get_mut(&(shard, consumer.to_owned())).filter(|seat| seat.holder == Some(id)) {
            seat.holder = None;
        }
    }

    /// Wakes who reads the shard.
    pub(super) fn wake_shard(&self, cx: &mut Context<'_>, shard: u32) {
        if self.0.is_empty() {
            return;
        }
        let of_shard = self.0.range((shard, String::new())..).take_while(|((of, _), _)| *of == shard);
        cx.woken.extend(of_shard.filter_map(|(_, seat)| seat.holder));
    }

    /// Wakes the subscriptions of a consumer.
    pub(super) fn wake_consumer(&self, cx: &mut Context<'_>, consumer: &str) {
        cx.woken.extend(self.0.iter().filter(|((_, of), _)| of == consumer).filter_map(|(_, seat)| seat.holder));
    }

    /// Wakes all subscriptions of the stream.
    pub(super) fn wake_all(&self, cx: &mut Context<'_>) {
        cx.woken.extend(self.0.values().filter_map(|seat| seat.holder));
    }

    pub(super) fn forget_shard(&mut self, shard: u32) {
        self.0.retain(|(of, _), _| *of != shard);
    }

    pub(super) fn forget_consumer(&mut self, consumer: &str) {
        self.0.retain(|(_, of), _| of != consumer);
    }
}

#[cfg(test)]
#[path = "subscription_test.rs"]
mod tests;
