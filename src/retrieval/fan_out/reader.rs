//! Carries the plan out for one shard.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::mpsc::{Sender, error::SendError},
    time::{Instant, sleep_until},
};

use super::{
    Registration, Subscriber,
    contention::Contention,
    plan::{Action, Event, Plan},
    pump::{FIRST_BYTES, Link, Patience, Pumped},
};
use crate::{
    clock::until,
    error::{Error, ErrorKind, Result},
    retrieval::{Delivery, Gauge, OpenPage, Reservation, Stall, Unpacker, polling::Cursor, trouble},
    stream::{ShardPosition, Subscription, SubscriptionEvent},
    types::{ChildShard, ConsumerArn, Record, SequenceNumber},
};

/// Time between looks at what a stream consumer is waited for: longer than it usually takes until it is active.
const WAITING_SHOWN_EVERY: Duration = Duration::from_secs(20);

/// What a shard's status says while others subscribe to it, too.
const CONTENDED: &str = "another reader subscribes to the shard as the same stream consumer, each takes it from the other: give each \
    application, and each stage of one, a stream consumer of its own";

/// Nobody listens any more.
struct Unheard;

impl<T> From<SendError<T>> for Unheard {
    fn from(_: SendError<T>) -> Self {
        Self
    }
}

/// A subscription being opened: with which ARN it was tried, and what came of it.
type Opening = BoxFuture<'static, (Option<ConsumerArn>, Instant, Result<Box<dyn Subscription>>)>;

pub(super) struct Reader {
    subscriber: Subscriber,
    cursor: Cursor,
    /// The last continuation number: the next subscription begins after it.
    reached: Option<SequenceNumber>,
    unpacker: Unpacker,
    /// What the event that is being taken apart leads to.
    pending: Option<Event>,
    plan: Plan,
    link: Option<Link>,
    successor: Option<Opening>,
    /// The last call, in case its consumer turns out to be gone.
    called: Option<(ConsumerArn, Instant)>,
    /// What failed last.
    error: Option<Error>,
    stall: Stall,
    /// Since when there is no room in the queue.
    full_since: Option<Instant>,
    contention: Contention,
    children: Vec<ChildShard>,
}

impl Reader {
    pub(super) fn new(subscriber: Subscriber, cursor: Cursor) -> Self {
        let plan = Plan::new(&subscriber.config, Instant::now());
        let Subscriber { stream, shard_id, unpacking, random, gauge, config, .. } = &subscriber;
        let unpacker = Unpacker::new(stream, shard_id, unpacking.clone(), random, gauge, config.max_records);
        Self {
            subscriber,
            cursor,
            reached: None,
            unpacker,
            pending: None,
            plan,
            link: None,
            successor: None,
            called: None,
            error: None,
            stall: Stall::default(),
            full_since: None,
            contention: Contention::new(),
            children: Vec::new(),
        }
    }

    /// Reads until the shard ends, or nobody listens any more.
    pub(super) async fn run(mut self, queue: Sender<Result<Delivery>>) {
        // An error says that nobody listens, which is how most readers end.
        drop(self.follow(&queue).await);
    }

    async fn follow(&mut self, queue: &Sender<Result<Delivery>>) -> Result<(), Unheard> {
        let mut action = Action::Subscribe { at: Instant::now(), find: false };
        loop {
            let event = match action {
                Action::Subscribe { at, find } => self.subscribe(at, find).await,
                Action::Read { renew_at } => self.read(queue, Some(renew_at)).await?,
                Action::Renew => {
                    self.successor = Some(self.open());
                    self.read(queue, None).await?
                }
                Action::ReadOn => self.read(queue, None).await?,
                Action::AwaitSuccessor => {
                    self.link = None;
                    self.subscriber.gauge.subscribing();
                    match self.successor.take() {
                        Some(opening) => self.opened(opening.await),
                        None => Event::Refused(ErrorKind::Internal),
                    }
                }
                Action::AwaitRoom => self.room(queue).await?,
                Action::Finish => {
                    self.close();
                    return Ok(queue.send(Ok(Delivery::ShardEnd(std::mem::take(&mut self.children)))).await?);
                }
            };
            let random = self.subscriber.random.in_range(0..1000) as f64 / 1000.0;
            let step = self.plan.on(event, Instant::now(), random);
            if step.report {
                let error = self.explain();
                queue.send(Err(error)).await?;
            }
            action = step.action;
        }
    }

    fn close(&mut self) {
        self.link = None;
        self.successor = None;
    }

    /// Begins to open a subscription after the last event taken over.
    fn open(&self) -> Opening {
        let Subscriber { client, registration, shard_id, gauge, .. } = self.subscriber.clone();
        let position = self.reached.map_or_else(|| self.cursor.position(), ShardPosition::AfterSequenceNumber);
        async move {
            let arn = match arn_of(&registration, &gauge).await {
                Ok(arn) => arn,
                Err(error) => return (None, Instant::now(), Err(error)),
            };
            registration.turn(&shard_id).await;
            let sent = Instant::now();
            let outcome = client.subscribe_to_shard(&arn, &shard_id, position).await;
            (Some(arn), sent, outcome)
        }
        .boxed()
    }

    async fn subscribe(&mut self, at: Instant, find: bool) -> Event {
        self.close();
        sleep_until(at).await;
        if find && let Some((arn, sent)) = self.called.take() {
            self.subscriber.registration.not_found(&arn, sent);
        }
        self.subscriber.gauge.subscribing();
        let opening = self.open().await;
        self.opened(opening)
    }

    fn opened(&mut self, (arn, sent, outcome): (Option<ConsumerArn>, Instant, Result<Box<dyn Subscription>>)) -> Event {
        self.called = arn.map(|arn| (arn, sent));
        match outcome {
            Ok(subscription) => {
                let Subscriber { config, budget, gauge, spawner, .. } = &self.subscriber;
                let patience = Patience { silence: config.silence_timeout, full: config.park_after };
                self.contention.opened();
                // Takes the place of the one before, and drops it.
                self.link = Some(Link::start(subscription, budget.clone(), gauge.clone(), patience, spawner));
                Event::Opened
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput && self.reached.is_none() && self.cursor.refused() => {
                tracing::warn!(%error, "the start of reading is refused as a moment to come; trying an earlier one");
                Event::Refused(ErrorKind::ResourceInUse)
            }
            Err(error) => {
                let kind = error.kind();
                // A successor that is refused leaves the one before alone.
                if self.link.is_none() {
                    self.note_taken(kind);
                }
                self.failed(error);
                Event::Refused(kind)
            }
        }
    }

    fn failed(&mut self, error: Error) {
        let (told, fix) = (self.stall.met(), fix(error.kind()));
        match told {
            Some(lasts) => tracing::warn!(error = format!("{error:#}"), fix, ?lasts, "the shard is not read, trying on"),
            None => tracing::debug!(%error, "no subscription to the shard, trying again"),
        }
        let gauge = &self.subscriber.gauge;
        if error.kind() == ErrorKind::Throttled {
            gauge.throttled();
        }
        match error.kind() {
            _ if self.stall.lasts() => gauge.failed(format!("{error:#} ({fix})")),
            // Another worker has subscribed a moment ago, or subscribes now: that is how a hand-over goes.
            ErrorKind::Throttled | ErrorKind::ResourceInUse => {}
            _ => gauge.failed(format!("{error:#}")),
        }
        self.error = Some(error);
    }

    /// Reads until there is something to decide.
    async fn read(&mut self, queue: &Sender<Result<Delivery>>, renew_at: Option<Instant>) -> Result<Event, Unheard> {
        loop {
            // It goes on while the subscription is renewed.
            let full_at = *self.full_since.get_or_insert_with(Instant::now) + self.subscriber.config.park_after;
            let place = tokio::select! {
                biased;
                place = queue.reserve() => place?,
                opening = await_opening(&mut self.successor) => return Ok(self.opened(opening)),
                () = sleep_until(full_at) => {
                    tracing::info!("processing is slower than the stream: the subscription is closed until there is room");
                    self.full_since = None;
                    self.close();
                    return Ok(Event::Full);
                }
                () = until(renew_at) => return Ok(Event::RenewalDue),
            };
            self.full_since = None;
            if let Some(batch) = self.unpacker.next().await {
                place.send(Ok(Delivery::Batch(batch)));
                continue;
            }
            if let Some(event) = self.pending.take() {
                return Ok(event);
            }
            let Some(link) = &mut self.link else { return Ok(Event::Broke(ErrorKind::Internal)) };
            let pumped = tokio::select! {
                biased;
                opening = await_opening(&mut self.successor) => return Ok(self.opened(opening)),
                // Before what is always there while the shard has a backlog.
                () = until(renew_at) => return Ok(Event::RenewalDue),
                pumped = link.next() => pumped,
            };
            match pumped {
                Pumped::Event(event, reservation) => self.take_over(event, reservation),
                ended => return Ok(self.ended(ended)),
            }
        }
    }

    /// What it leads to that a subscription is over.
    fn ended(&mut self, pumped: Pumped) -> Event {
        match pumped {
            Pumped::Event(..) => Event::Delivered,
            Pumped::Over => Event::Over,
            Pumped::Broke(error) => {
                let kind = error.kind();
                self.note_taken(kind);
                self.failed(error);
                Event::Broke(kind)
            }
            Pumped::Silent => {
                let silence = self.subscriber.config.silence_timeout;
                self.failed(Error::new(ErrorKind::Timeout, format!("the subscription was silent for {silence:?}")));
                Event::Silent
            }
            Pumped::Full => {
                tracing::info!("the worker's byte budget is used up: the subscription is closed until there is room");
                self.close();
                Event::Full
            }
        }
    }

    /// Notes whether another reader took the place of a subscription, or keeps it.
    fn note_taken(&mut self, kind: ErrorKind) {
        if kind != ErrorKind::ResourceInUse || self.successor.is_some() {
            return;
        }
        let Some(taken) = self.contention.in_use() else { return };
        let Subscriber { gauge, registration: consumer, .. } = &self.subscriber;
        gauge.replaced();
        if let Some(lasts) = taken.told {
            tracing::warn!(%consumer, fix = CONTENDED, ?lasts, "the shard is read now and then: others subscribe to it as this stream consumer");
        }
        if self.contention.lasts() {
            gauge.contended(Some(CONTENDED));
        }
    }

    /// Notes that the shard is read.
    fn note_read(&mut self) {
        if let Some(lasted) = self.stall.over() {
            tracing::info!(?lasted, "the shard is read again");
        }
        if let Some(lasted) = self.contention.delivered() {
            tracing::info!(?lasted, "others no longer subscribe to the shard as this stream consumer");
            self.subscriber.gauge.contended(None);
        }
    }

    /// Notes an event as read, and has it taken apart.
    fn take_over(&mut self, event: SubscriptionEvent, reservation: Reservation) {
        self.subscriber.gauge.answered(event.millis_behind_latest);
        self.error = None;
        self.note_read();
        self.pending = Some(match event.continuation {
            Some(_) => Event::Delivered,
            None => Event::End { children: !event.child_shards.is_empty() },
        });
        // A successor begins where the one before was when it was opened, so that it may be behind what is read.
        let reached = event.continuation.or(event.records.last().map(Record::sequence_number));
        self.reached = self.reached.max(reached);
        self.children = event.child_shards;
        self.unpacker.feed(OpenPage::new(self.cursor.advance(event.records), event.millis_behind_latest, reservation));
    }

    /// Waits until an event would have room. What is left of the last one is delivered first, whatever the others hold: it
    /// is a part of what this shard holds.
    async fn room(&mut self, queue: &Sender<Result<Delivery>>) -> Result<Event, Unheard> {
        loop {
            let place = queue.reserve().await?;
            let Some(batch) = self.unpacker.next().await else { break };
            place.send(Ok(Delivery::Batch(batch)));
        }
        if let Some(event) = self.pending.take() {
            return Ok(event);
        }
        let waiting = self.subscriber.gauge.waiting_for_memory();
        drop(self.subscriber.budget.reserve_event(FIRST_BYTES).await);
        drop(waiting);
        Ok(Event::Room)
    }

    fn explain(&mut self) -> Error {
        let error = self.error.take().unwrap_or_else(|| Error::new(ErrorKind::Internal, "the reason is not known"));
        let fix = fix(error.kind());
        let Subscriber { client, stream, shard_id, registration, .. } = &self.subscriber;
        let message = format!("cannot read shard {shard_id} of stream {stream} at {client} as stream consumer {registration} ({fix})");
        Error::new(error.kind(), message).with_source(error)
    }
}

/// What somebody can do about an error that does not pass.
const fn fix(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "check the stream's name, account and region, that it was not deleted, and the stream consumer",
        ErrorKind::AccessDenied => {
            "allow kinesis:SubscribeToShard and kinesis:DescribeStreamConsumer on the stream consumer, kinesis:RegisterStreamConsumer on \
             the stream, and check the credentials"
        }
        ErrorKind::ResourceInUse => CONTENDED,
        ErrorKind::Throttled => "have the request quota of the stream's KMS key raised, and see what else uses it",
        ErrorKind::LimitExceeded => "deregister stream consumers that are not used, or poll the stream",
        other => trouble::fix(other),
    }
}

/// The consumer's ARN. What it is waited for shows in the gauge.
async fn arn_of(registration: &Registration, gauge: &Gauge) -> Result<ConsumerArn> {
    let arn = registration.arn();
    tokio::pin!(arn);
    loop {
        tokio::select! {
            biased;
            arn = &mut arn => return arn,
            () = tokio::time::sleep(WAITING_SHOWN_EVERY) => {
                if let Some(why) = registration.waits_for() {
                    gauge.failed(why);
                }
            }
        }
    }
}

async fn await_opening(opening: &mut Option<Opening>) -> (Option<ConsumerArn>, Instant, Result<Box<dyn Subscription>>) {
    match opening {
        Some(future) => {
            let outcome = future.await;
            *opening = None;
            outcome
        }
        None => std::future::pending().await,
    }
}
