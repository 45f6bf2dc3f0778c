//! The application's stream consumer: found, or registered when it is missing. One per application and stream, shared
//! by all shards of a worker, so that a thousand shards ask once.

use std::{
    collections::BTreeMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    error::{Error, ErrorKind, Result},
    limits,
    random::Randomness,
    retrieval::Stall,
    retry::RetryConfig,
    stream::{ConsumerReference, ConsumerStatus, StreamClient},
    task::panic_message,
    types::{ConsumerArn, ConsumerName, ShardId, StreamArn},
};

/// Least time between looks at a consumer that is being made or deleted.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Waits after calls that failed: the calls of all workers together may be five a second.
const RETRY: RetryConfig = RetryConfig { max_attempts: None, min_delay: Duration::from_secs(1), max_delay: Duration::from_secs(10) };
/// Refusals in a row, half a minute and more, after which a limit is taken for that of the stream's consumers if it cannot be
/// seen how many it has. Where it has fewer than it may, the limit is one of the account, its rate or the consumers that it may
/// make at a time, and is waited out.
const REFUSALS: u32 = 6;
/// How long a failure is the answer to everybody who asks: a thousand shards are not to spend the stream's twenty calls a
/// second on one that lasts.
const FAILURE_LASTS: Duration = Duration::from_secs(5);
/// The same when all places are known to be taken: a hundred workers are not to spend the stream's five calls a second on it.
const FULL_LASTS: Duration = Duration::from_secs(60);

/// Stream consumers that a stream may have.
const MOST: usize = limits::CONSUMERS_PER_STREAM as usize;

/// Time between calls of RegisterStreamConsumer of one worker. An account has five a second, for all its applications, and
/// makes five stream consumers at a time, so that more calls would only be refused.
const REGISTER_INTERVAL: Duration = Duration::from_secs(1);

/// In whose turn a worker registers the stream consumers of its streams: clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistrationPace(Arc<Mutex<Option<Instant>>>);

impl RegistrationPace {
    /// Whether nobody is to be waited for.
    fn is_free(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|next| next <= Instant::now())
    }

    /// Waits for a turn.
    ///
    /// # Cancel safety
    /// A turn that is given up is used up.
    async fn turn(&self) {
        loop {
            let at = {
                let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let at = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
                *next = Some(at + REGISTER_INTERVAL);
                at
            };
            sleep_until(at).await;
            // A search rests while nobody waits for it. Then its turn has passed, and many of them may wake together.
            if at.elapsed() < REGISTER_INTERVAL {
                return;
            }
        }
    }
}

type Search = Shared<BoxFuture<'static, Result<ConsumerArn, Arc<Error>>>>;

/// A stream consumer that this application uses. Clones share what is known of it.
#[derive(Clone)]
pub(crate) struct Registration(Arc<Inner>);

struct Inner {
    client: Arc<dyn StreamClient>,
    consumer: ConsumerReference,
    random: Randomness,
    pace: RegistrationPace,
    state: Mutex<State>,
    /// When each shard may be subscribed to next, for those that may not be by now.
    turns: Mutex<BTreeMap<ShardId, Instant>>,
    /// Fires when the search under way has to wait, and when what was known is no longer.
    news: Notify,
}

#[derive(Default)]
struct State {
    /// As it was found, and when.
    known: Option<(ConsumerArn, Instant)>,
    /// What came of the last search, if it failed, and until when that is the answer.
    failed: Option<(Arc<Error>, Instant)>,
    /// Whether it was there once, and was not deregistered since by request.
    used: bool,
    /// Why the search under way has not ended.
    waits_for: Option<String>,
    /// Under way, for all who wait.
    search: Option<Search>,
}

impl Registration {
    /// The consumer of this name, registered when it is missing.
    pub(crate) fn by_name(
        client: Arc<dyn StreamClient>,
        stream: StreamArn,
        name: ConsumerName,
        random: Randomness,
        pace: RegistrationPace,
    ) -> Self {
        Self::of(client, ConsumerReference::Name { stream, name }, random, pace)
    }

    /// This consumer, which is never registered from here.
    pub(crate) fn by_arn(client: Arc<dyn StreamClient>, arn: ConsumerArn, random: Randomness) -> Self {
        Self::of(client, ConsumerReference::Arn(arn), random, RegistrationPace::default())
    }

    fn of(client: Arc<dyn StreamClient>, consumer: ConsumerReference, random: Randomness, pace: RegistrationPace) -> Self {
        let (state, turns) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { client, consumer, random, pace, state, turns, news: Notify::new() }))
    }

    /// The consumer's ARN; waits until it is active.
    ///
    /// # Errors
    /// `NotFound` when the stream is gone, or a consumer that is not to be registered; `LimitExceeded` when the stream has as
    /// many consumers as it may; `AccessDenied`, `InvalidInput`. Errors that pass by themselves are waited out.
    ///
    /// # Cancel safety
    /// Safe: others who wait go on.
    pub(crate) async fn arn(&self) -> Result<ConsumerArn> {
        let search = {
            let mut state = self.state();
            if let Some((arn, _)) = &state.known {
                return Ok(arn.clone());
            }
            if let Some((error, until)) = &state.failed
                && Instant::now() < *until
            {
                return Err(again(error));
            }
            state.search.get_or_insert_with(|| self.clone().search().boxed().shared()).clone()
        };
        search.await.map_err(|error| again(&error))
    }

    /// Waits until the shard may be subscribed to: a second after the last call, whoever made it in this worker, and whatever
    /// became of it. To be called right before `SubscribeToShard`.
    ///
    /// # Cancel safety
    /// A turn that is given up is used up.
    pub(crate) async fn turn(&self, shard: &ShardId) {
        let at = {
            let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            turns.retain(|_, next| *next > now);
            let at = turns.get(shard).copied().unwrap_or(now);
            turns.insert(shard.clone(), at + limits::SUBSCRIBE_CALL_INTERVAL);
            at
        };
        sleep_until(at).await;
    }

    /// Why those who wait for the ARN wait, if there is more to say than that a call was not answered yet.
    pub(crate) fn waits_for(&self) -> Option<String> {
        self.state().waits_for.clone()
    }

    /// Notes why the search goes on.
    fn waits(&self, stall: &mut Stall, why: String) {
        match stall.met() {
            Some(lasts) => tracing::warn!(consumer = %self, why, ?lasts, "the stream consumer cannot be used yet, trying on"),
            None => tracing::debug!(consumer = %self, why, "the stream consumer cannot be used yet, trying again"),
        }
        self.state().waits_for = Some(format!("stream consumer {self} cannot be used yet: {why}"));
        self.0.news.notify_waiters();
    }

    /// Waits until the search under way has to wait.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn waiting(&self) {
        self.until(|state| state.waits_for.is_some()).await;
    }

    /// Waits until the consumer that was found is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn gone(&self) {
        self.until(|state| state.known.is_none()).await;
    }

    async fn until(&self, holds: impl Fn(&State) -> bool + Send) {
        let news = self.0.news.notified();
        tokio::pin!(news);
        loop {
            // What happens from here on is not missed.
            news.as_mut().enable();
            if holds(&self.state()) {
                return;
            }
            news.as_mut().await;
            news.set(self.0.news.notified());
        }
    }

    /// Whether it is worth trying to use the consumer: it is there, or the stream has place for it, or that cannot be seen.
    /// One call, whatever the answer.
    pub(crate) async fn may_have_place(&self) -> bool {
        let ConsumerReference::Name { stream, name } = &self.0.consumer else { return true };
        match self.0.client.list_stream_consumers(stream).await {
            Ok(consumers) => consumers.len() < MOST || consumers.iter().any(|consumer| consumer.name == *name),
            Err(error) => {
                tracing::debug!(consumer = %self, %error, "cannot see whether the stream has place for a stream consumer");
                true
            }
        }
    }

    /// Whether the consumer was used and is to be deregistered by whoever retires the application.
    pub(crate) fn was_used(&self) -> bool {
        self.state().used
    }

    /// Notes that a call with this ARN, sent at `sent`, was answered with `NotFound`: what was known before is looked up
    /// again.
    pub(crate) fn not_found(&self, arn: &ConsumerArn, sent: Instant) {
        let mut state = self.state();
        if state.known.as_ref().is_some_and(|(known, at)| known == arn && *at <= sent) {
            state.known = None;
            self.0.news.notify_waiters();
        }
    }

    /// Whether the application registers the consumer when it is missing, so that it is the application's own.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.0.consumer, ConsumerReference::Name { .. })
    }

    /// Deregisters the consumer, if it is there.
    ///
    /// # Errors
    /// Those of `DeregisterStreamConsumer`, but for `NotFound`.
    pub(crate) async fn deregister(&self) -> Result<()> {
        {
            let mut state = self.state();
            *state = State { used: state.used, ..State::default() };
        }
        self.0.news.notify_waiters();
        match self.0.client.deregister_stream_consumer(&self.0.consumer).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => self.state().used = false,
        }
        Ok(())
    }

    /// Looks for the consumer, and notes what came of it.
    async fn search(self) -> Result<ConsumerArn, Arc<Error>> {
        // A panic would stay in what all wait for, and meet everybody who asks from then on.
        let found = AssertUnwindSafe(self.find()).catch_unwind().await.unwrap_or_else(|panic| {
            let message = format!("looking for stream consumer {self} panicked: {}", panic_message(&*panic));
            Err(Error::new(ErrorKind::Unavailable, message))
        });
        let found = found.map_err(Arc::new);
        let mut state = self.state();
        state.search = None;
        state.waits_for = None;
        match &found {
            Ok(arn) => (state.known, state.failed, state.used) = (Some((arn.clone(), Instant::now())), None, true),
            // A panic is tried again at once.
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => {
                let lasts = if error.kind() == ErrorKind::LimitExceeded { self.0.random.jittered(FULL_LASTS) } else { FAILURE_LASTS };
                state.failed = Some((Arc::clone(error), Instant::now() + lasts));
            }
        }
        found
    }

    async fn find(&self) -> Result<ConsumerArn> {
        let Inner { client, consumer, random, .. } = &*self.0;
        let mut backoff = RETRY.backoff(random);
        let mut refusals = 0;
        let mut stall = Stall::default();
        loop {
            match client.describe_stream_consumer(consumer).await {
                Ok(description) if description.status == ConsumerStatus::Active => return Ok(description.arn),
                Ok(description) => {
                    let doing = match description.status {
                        ConsumerStatus::Deleting => "it is being deregistered",
                        ConsumerStatus::Creating | ConsumerStatus::Active => "it is being registered",
                    };
                    self.waits(&mut stall, doing.to_owned());
                    // Workers that start together do not ask together.
                    tokio::time::sleep(random.jittered(POLL_INTERVAL * 2)).await;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.is_retryable() => {
                    self.waits(&mut stall, error.to_string());
                    backoff.wait().await;
                    continue;
                }
                // Whoever names the consumer by its ARN may be allowed to subscribe, and nothing else.
                Err(error) if error.kind() == ErrorKind::AccessDenied && matches!(consumer, ConsumerReference::Arn(_)) => {
                    tracing::info!(%consumer, %error, "may not look whether the stream consumer is active; it is used as it is");
                    if let ConsumerReference::Arn(arn) = consumer {
                        return Ok(arn.clone());
                    }
                }
                Err(error) => return Err(error.context(format!("cannot use stream consumer {consumer}"))),
            }
            let ConsumerReference::Name { stream, name } = consumer else {
                let fix = "register it, or name a consumer instead of its ARN to have it registered";
                return Err(Error::new(ErrorKind::NotFound, format!("stream consumer {consumer} does not exist: {fix}")));
            };
            if !self.0.pace.is_free() {
                self.state().waits_for = Some(format!("stream consumer {self} is registered after others of this worker"));
                self.0.news.notify_waiters();
            }
            self.0.pace.turn().await;
            let outcome = client.register_stream_consumer(stream, name).await;
            refusals = if outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::LimitExceeded) { refusals + 1 } else { 0 };
            match outcome {
                Ok(_) => tracing::info!(%consumer, "registered the stream consumer"),
                // Another worker was faster, or the stream is being changed.
                Err(error) if error.kind() == ErrorKind::ResourceInUse => {
                    self.waits(&mut stall, error.to_string());
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                // The service has one error for its rate, for five that are being made, and for twenty that are there.
                Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                    let there = client.list_stream_consumers(stream).await.map(|consumers| consumers.len());
                    let full = there.as_ref().map_or(refusals >= REFUSALS, |there| *there >= MOST);
                    if full {
                        let there = there.map_or_else(|_| "an unknown number".to_owned(), |there| there.to_string());
                        let fix = "deregister one that is not used, or have the limit raised";
                        let why = format!("the stream has {there} of the {MOST} that it may have; {fix}");
                        return Err(error.context(format!("cannot register stream consumer {consumer}: {why}")));
                    }
                    self.waits(&mut stall, error.to_string());
                    backoff.wait().await;
                }
                Err(error) if error.is_retryable() => {
                    self.waits(&mut stall, error.to_string());
                    backoff.wait().await;
                }
                Err(error) => return Err(error.context(format!("cannot register stream consumer {consumer}"))),
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error that several are told of.
fn again(error: &Arc<Error>) -> Error {
    Error::new(error.kind(), format!("{error:#}"))
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("consumer", &self.0.consumer).finish_non_exhaustive()
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.consumer, f)
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "registration_test.rs"]
mod tests;
