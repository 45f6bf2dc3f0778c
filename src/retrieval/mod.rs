//! Reading one shard: batches of records in order, then the end of the shard.
//!
//! `RecordSource` is what the shard consumer sees. [`polling`] reads with `GetRecords`, [`fan_out`] with
//! `SubscribeToShard`; a task per shard reads ahead of processing, within the byte budget that all shards of the worker
//! share (`ByteBudget`). Between fetching and processing, aggregates of the Kinesis Producer Library are taken apart
//! ([`kpl`]).

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{error::Result, types::ChildShard};

mod automatic;
mod batch;
mod budget;
pub mod fan_out;
pub mod kpl;
pub mod polling;
mod restart;
mod source;
mod stall;
mod trouble;
mod unpack;
mod unpacker;

pub(crate) use automatic::{AutomaticShard, AutomaticSource, Choice};
pub(crate) use batch::Batch;
pub(crate) use budget::{ByteBudget, Reservation, ShardBudget};
use fan_out::Registration;
pub use fan_out::{Consumer, Retrieval};
use stall::Stall;
use unpacker::Unpacker;

pub(crate) use unpack::{OpenPage, RECORD_OVERHEAD_BYTES, Unpacking};
pub(crate) use unpacker::UnpackingOfShard;

/// How the shards of one stream are read.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    Polling,
    FanOut(Registration),
    Automatic(Choice),
}

impl Access {
    /// The stream consumer that reading needs, or would like to have.
    pub(crate) fn registration(&self) -> Option<&Registration> {
        match self {
            Self::Polling => None,
            Self::FanOut(registration) => Some(registration),
            Self::Automatic(choice) => Some(choice.registration()),
        }
    }
}

/// Records of one shard, from the checkpoint on: each once, in order.
#[async_trait]
pub(crate) trait RecordSource: Debug + Send {
    /// Waits for the next batch, or the end of the shard. After the end it is not called again.
    ///
    /// # Errors
    /// What keeps the shard from being read and will not go away soon, such as `NotFound` or `AccessDenied`, once
    /// for each trouble. It is a report, not an end: calling again waits for the shard to be readable again. Errors
    /// that pass by themselves are not reported here, but in the [`Gauge`].
    ///
    /// # Cancel safety
    /// Safe: a batch is either returned or still there for the next call.
    async fn next(&mut self) -> Result<Delivery>;
}

/// What a source delivers.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// Records, at least one.
    Batch(Batch),
    /// The shard is closed and everything in it was delivered. These shards follow it, if the service named them.
    ShardEnd(Vec<ChildShard>),
}

/// How reading a shard goes, for its status. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge(Arc<Mutex<Reading>>);

/// A look at a [`Gauge`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Longest time between two answers when all is well.
    pause: Duration,
    /// As the last answer said; `None` before the first.
    pub(crate) millis_behind_latest: Option<u64>,
    /// When the last answer came.
    pub(crate) answered_at: Option<Instant>,
    /// Answers in all.
    pub(crate) answers: u64,
    /// How many wait until the byte budget has room.
    waiting_for_memory: u32,
    /// Whether a subscription is being opened, or has not delivered yet.
    pub(crate) subscribing: bool,
    /// Whether the last call was throttled.
    pub(crate) throttled: bool,
    /// Throttled calls in all.
    pub(crate) throttled_calls: u64,
    /// Iterators that lived too short for what came between two calls, in all.
    pub(crate) expired_iterators: u64,
    /// Subscriptions that others took the place of long before their end.
    pub(crate) replaced_subscriptions: u64,
    /// Why others take the shard away on and on, if they do.
    pub(crate) contended: Option<&'static str>,
    /// How often reading panicked and was begun anew.
    pub(crate) interruptions: u64,
    /// Why the last call failed.
    pub(crate) trouble: Option<String>,
    /// What became of the records fetched.
    pub(crate) kpl: kpl::KplCounts,
}

/// Age from which an answer says nothing of now, at the least: subscriptions that are read send every five seconds, and idle
/// shards are polled every second unless the settings say otherwise.
const STALE_AFTER: Duration = Duration::from_secs(15);

impl Reading {
    /// How far reading is behind: as the last answer said, and longer when there was none for long.
    pub(crate) fn lag_millis(&self) -> Option<u64> {
        let (behind, age) = (self.millis_behind_latest?, self.answered_at?.elapsed());
        if age <= STALE_AFTER.max(self.pause * 2) {
            return Some(behind);
        }
        Some(behind.saturating_add(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whether there is nothing to do but to wait for room in the byte budget.
    pub(crate) const fn waits_for_memory(&self) -> bool {
        self.waiting_for_memory > 0
    }
}

/// The byte budget is waited for as long as this is there.
#[derive(Debug)]
pub(crate) struct WaitingForMemory(Gauge);

impl Drop for WaitingForMemory {
    fn drop(&mut self) {
        self.0.update(|r| r.waiting_for_memory -= 1);
    }
}

impl Gauge {
    /// One for a shard that may go so long without an answer.
    pub(crate) fn with_pause(pause: Duration) -> Self {
        Self(Arc::new(Mutex::new(Reading { pause, ..Reading::default() })))
    }

    pub(crate) fn read(&self) -> Reading {
        self.update(|r| r.clone())
    }

    fn update<T>(&self, f: impl FnOnce(&mut Reading) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn answered(&self, millis_behind_latest: u64) {
        self.update(|r| {
            r.millis_behind_latest = Some(millis_behind_latest);
            r.answered_at = Some(Instant::now());
            r.answers += 1;
            r.subscribing = false;
            r.throttled = false;
            r.trouble = None;
        });
    }

    pub(crate) fn subscribing(&self) {
        self.update(|r| r.subscribing = true);
    }

    /// Notes that the byte budget is waited for, until what is returned is dropped.
    pub(crate) fn waiting_for_memory(&self) -> WaitingForMemory {
        self.update(|r| r.waiting_for_memory += 1);
        WaitingForMemory(self.clone())
    }

    pub(crate) fn taken_apart(&self, counts: &kpl::KplCounts) {
        self.update(|r| r.kpl.add(counts));
    }

    pub(crate) fn throttled(&self) {
        self.update(|r| {
            r.throttled = true;
            r.throttled_calls += 1;
            r.trouble = None;
        });
    }

    /// Notes an expired iterator; returns how many there were.
    pub(crate) fn iterator_expired(&self) -> u64 {
        self.update(|r| {
            r.expired_iterators += 1;
            r.expired_iterators
        })
    }

    pub(crate) fn replaced(&self) {
        self.update(|r| r.replaced_subscriptions += 1);
    }

    pub(crate) fn contended(&self, why: Option<&'static str>) {
        self.update(|r| r.contended = why);
    }

    pub(crate) fn interrupted(&self, why: String) {
        self.update(|r| r.interruptions += 1);
        self.failed(why);
    }

    pub(crate) fn failed(&self, why: String) {
        self.update(|r| {
            r.throttled = false;
            r.trouble = Some(why);
        });
    }
}
