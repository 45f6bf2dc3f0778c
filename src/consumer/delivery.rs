//! What may be delivered, and when: pauses and the rate limit of a worker, shared by its shards and its handle.
//!
//! ```text
//! handle: pause, resume, set_rate_limit ─▶ Deliveries ◀─ ShardDeliveries: admit(batch)? ─▶ process_records
//!                                              └─ changed ─▶ whoever waits looks again
//! ```
//!
//! A shard asks before each call of user code that delivers something. Shards that wait for the rate limit have their
//! turns in the order in which they came, so that a busy worker gives each of them the same share; only the one whose turn
//! it is has a timer.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

use super::{
    pause::{Pauses, Shards},
    rate::RateLimit,
};
use crate::types::{ShardId, StreamName};

/// Those of a worker. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Whose turn it is to take from the rate limit.
    turns: Semaphore,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pauses: Pauses,
    rate: Option<RateLimit>,
}

/// Those of one shard.
#[derive(Debug, Clone)]
pub(crate) struct ShardDeliveries {
    worker: Deliveries,
    stream: StreamName,
    shard: ShardId,
}

/// What is to be delivered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// This many records, or as many of them as the rate allows.
    UpTo(usize),
    /// This many records, which were delivered before.
    Again(usize),
    /// The end of the shard.
    End,
}

/// Why nothing may be delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Paused,
    RateLimit,
}

/// It is this shard's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(SemaphorePermit<'a>);

impl Default for Inner {
    fn default() -> Self {
        Self { state: Mutex::default(), turns: Semaphore::new(1), changed: Notify::new() }
    }
}

impl Deliveries {
    /// Pauses or resumes shards.
    pub(crate) fn set_paused(&self, which: &Shards, paused: bool) {
        self.with(|state| state.pauses.set(which, paused, Instant::now()));
        self.0.changed.notify_waiters();
    }

    /// Limits the records per second, or lifts the limit.
    pub(crate) fn set_rate(&self, per_second: Option<NonZeroU32>) {
        let now = Instant::now();
        self.with(|state| match (&mut state.rate, per_second) {
            (Some(rate), Some(per_second)) => rate.change(per_second, now),
            (rate, per_second) => *rate = per_second.map(|per_second| RateLimit::new(per_second, now)),
        });
        self.0.changed.notify_waiters();
    }

    pub(crate) fn rate(&self) -> Option<NonZeroU32> {
        self.with(|state| state.rate.map(|rate| rate.per_second()))
    }

    /// Those of one of the worker's shards.
    pub(crate) fn of(&self, stream: StreamName, shard: ShardId) -> ShardDeliveries {
        ShardDeliveries { worker: self.clone(), stream, shard }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wanted {
    const fn records(self) -> usize {
        match self {
            Self::UpTo(records) | Self::Again(records) => records,
            Self::End => 0,
        }
    }
}

impl ShardDeliveries {
    /// Since when the shard is paused.
    pub(crate) fn paused_since(&self) -> Option<Instant> {
        self.worker.with(|state| state.pauses.of(&self.stream, &self.shard))
    }

    /// How many records may be delivered now, of those wanted. Nobody passes those who wait for their turn.
    pub(super) fn admit(&self, turn: Option<Turn<'_>>, wanted: Wanted) -> Result<usize, Hold> {
        let Inner { turns, .. } = &*self.worker.0;
        self.worker.with(|state| {
            if state.pauses.of(&self.stream, &self.shard).is_some() {
                return Err(Hold::Paused);
            }
            let (records, divisible) = (wanted.records(), matches!(wanted, Wanted::UpTo(_)));
            let Some(rate) = state.rate.as_mut().filter(|_| records > 0) else { return Ok(records) };
            let permit = turn.map(|turn| turn.0).or_else(|| turns.try_acquire().ok());
            permit.and_then(|_turn| rate.take(Instant::now(), records, divisible)).ok_or(Hold::RateLimit)
        })
    }

    /// Waits until it is worth to ask again: with a turn, or without one when something has changed.
    ///
    /// # Cancel safety
    /// Safe; the place in the queue is given up.
    pub(super) async fn turn(&self, wanted: Wanted) -> Option<Turn<'_>> {
        let changed = self.worker.0.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        tokio::select! {
            biased;
            () = changed => None,
            turn = self.next_turn(wanted) => Some(turn),
        }
    }

    async fn next_turn(&self, wanted: Wanted) -> Turn<'_> {
        if self.paused_since().is_some() {
            return std::future::pending().await;
        }
        let turn = self.worker.0.turns.acquire().await.expect("it is never closed");
        if let Some(at) = self.worker.with(|state| state.rate.map(|rate| rate.ready_at(wanted.records()))) {
            sleep_until(at).await;
        }
        Turn(turn)
    }
}
