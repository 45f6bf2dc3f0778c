//! Reading by enhanced fan-out where that can be had, by polling where it cannot, and looking again.
//!
//! ```text
//!                      ┌────────── the consumer is active ──────────┐
//!                      │                                            ▼
//! start ─▶ poll; find or register the consumer               subscribe
//!               ▲      │ no place, not allowed                │           │
//!               │      ▼                                      │ gone:     │ not allowed to
//!               └── poll; look again after ten minutes        │ find it   │ subscribe
//!               ▲                                             │ anew      ▼
//!               └─────────────────────────────────────────────┘      poll; again after hours
//! ```
//!
//! One watch per stream and worker looks and decides; the stream's shards follow, each when it has delivered what it had
//! fetched, and goes on after the last record delivered. Nothing waits for a consumer that is being made: shards are polled
//! meanwhile.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio::{sync::Notify, time::timeout};

use super::{
    fan_out::{Registration, Subscriber},
    polling::{Cursor, ShardReader},
    restart::Restarts,
    source::{Reading, ShardReading, TaskSource},
};
use crate::{
    error::{Error, ErrorKind, Result},
    random::Randomness,
    types::{ConsumerArn, ShardId},
};

/// How long a worker waits at its start for the first answer about the consumer, and later for a consumer that was gone to be
/// there again, before its shards are polled.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between looks, less up to a half. A place gets free when somebody retires an application, which nobody has done in a
/// hurry. A hundred workers together look four times in half a minute, of the five calls a second that a stream allows.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// The same where the consumer is there and must not subscribe. To see whether that has changed, shards have to stop
/// polling for some seconds.
const TRY_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// A way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Polling,
    FanOut,
}

/// How a stream is read for now. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Choice(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registration: Registration,
    random: Randomness,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    way: Way,
    /// What polling was said to be for.
    told: Option<ErrorKind>,
}

impl Choice {
    /// Polling, until something is known of the consumer.
    pub(crate) fn new(registration: Registration, random: Randomness) -> Self {
        Self(Arc::new(Inner { registration, random, state: Mutex::new(State { way: Way::Polling, told: None }), changed: Notify::new() }))
    }

    /// The consumer that is used when it can be.
    pub(crate) fn registration(&self) -> &Registration {
        &self.0.registration
    }

    /// Looks for the consumer before anything is read. A consumer that is there is used from the beginning; what takes longer
    /// than an answer is left to [`Choice::watch`].
    pub(crate) async fn begin(&self) {
        let found = async {
            tokio::select! {
                biased;
                found = self.0.registration.arn() => Some(found),
                () = self.0.registration.waiting() => None,
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(Some(found)) => self.settle(&found),
            Ok(None) | Err(_) => {
                let why = self.0.registration.waits_for();
                tracing::info!(consumer = %self.0.registration, why, "the stream is polled until its stream consumer can be used");
            }
        }
    }

    /// Keeps the way up to date for as long as it runs.
    pub(crate) async fn watch(self) {
        let Inner { registration, random, .. } = &*self.0;
        loop {
            let arn = registration.arn();
            tokio::pin!(arn);
            let found = match timeout(PATIENCE, &mut arn).await {
                Ok(found) => found,
                Err(_) => {
                    // It was gone, and takes its time to be there again.
                    if self.turn(Way::Polling, None) {
                        let why = registration.waits_for();
                        tracing::info!(consumer = %registration, why, "the stream is polled until its stream consumer can be used");
                    }
                    arn.await
                }
            };
            self.settle(&found);
            if found.is_ok() {
                let refused = tokio::select! {
                    biased;
                    () = self.differs_from(Way::FanOut) => true,
                    () = registration.gone() => false,
                };
                if refused {
                    tokio::time::sleep(random.jittered(TRY_AGAIN)).await;
                }
                continue;
            }
            loop {
                tokio::time::sleep(random.jittered(LOOK_AGAIN)).await;
                // A panic in the client is no reason to look no more. The search that follows is guarded, too.
                if AssertUnwindSafe(registration.may_have_place()).catch_unwind().await.unwrap_or(true) {
                    break;
                }
            }
        }
    }

    /// Takes what a search came to.
    fn settle(&self, found: &Result<ConsumerArn>) {
        let consumer = &self.0.registration;
        match found {
            Ok(_) => {
                if self.turn(Way::FanOut, None) {
                    tracing::info!(%consumer, "the stream is read by enhanced fan-out");
                }
            }
            Err(error) => {
                if self.turn(Way::Polling, Some(error.kind())) {
                    let error = format!("{error:#}");
                    tracing::warn!(%consumer, error, look_again = ?LOOK_AGAIN, "no enhanced fan-out: the stream is polled");
                }
            }
        }
    }

    /// The consumer is there, and must not subscribe.
    fn refused(&self, error: &Error) {
        if self.turn(Way::Polling, Some(error.kind())) {
            let consumer = &self.0.registration;
            tracing::warn!(%consumer, error = format!("{error:#}"), look_again = ?TRY_AGAIN, "no enhanced fan-out: the stream is polled");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self) -> Way {
        self.state().way
    }

    /// Reads in this way from now on. Whether that, or what it is for, is to be told.
    fn turn(&self, way: Way, why: Option<ErrorKind>) -> bool {
        let mut state = self.state();
        let changed = state.way != way;
        let news = changed || why.is_some_and(|why| state.told != Some(why));
        state.way = way;
        state.told = if way == Way::FanOut { None } else { why.or(state.told) };
        drop(state);
        if changed {
            self.0.changed.notify_waiters();
        }
        news
    }

    async fn differs_from(&self, way: Way) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        loop {
            // A change from here on is not missed.
            changed.as_mut().enable();
            if self.way() != way {
                return;
            }
            changed.as_mut().await;
            changed.set(self.0.changed.notified());
        }
    }
}

/// Reads one shard as the stream is read for now.
pub(crate) type AutomaticSource = TaskSource<AutomaticShard>;

/// What it takes to read one shard in both ways.
#[derive(Debug)]
pub(crate) struct AutomaticShard {
    choice: Choice,
    polling: ShardReader,
    fan_out: Subscriber,
    /// How it is read.
    way: Way,
}

impl AutomaticShard {
    pub(crate) fn new(choice: Choice, polling: ShardReader, fan_out: Subscriber) -> Self {
        let way = choice.way();
        Self { choice, polling, fan_out, way }
    }
}

impl ShardReading for AutomaticShard {
    fn begin(&mut self, cursor: Cursor) -> Reading {
        self.way = self.choice.way();
        match self.way {
            Way::Polling => self.polling.begin(cursor),
            Way::FanOut => self.fan_out.begin(cursor),
        }
    }

    fn outdated(&self) -> impl Future<Output = ()> + Send {
        self.choice.differs_from(self.way)
    }

    fn reported(&mut self, error: Error) -> Option<Error> {
        if self.way == Way::FanOut && error.kind() == ErrorKind::AccessDenied {
            self.choice.refused(&error);
            return None;
        }
        Some(error)
    }

    fn restarts(&self) -> Restarts {
        self.polling.restarts()
    }

    fn shard_id(&self) -> &ShardId {
        self.polling.shard_id()
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "automatic_test.rs"]
mod tests;
