//! What a shard consumer is doing, for `status()` and the report of `run()`.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{ShardDeliveries, Shards};
use crate::{
    checkpoint::Checkpointer,
    clock::SharedClock,
    lease::{Lease, LeaseKey},
    retrieval::{Gauge, Reading, kpl::KplCounts},
    stream::StreamReference,
    types::{Checkpoint, ShardId, StreamName, Timestamp},
};

/// What a shard is doing, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShardPhase {
    /// Its parents are not finished yet.
    WaitingForParents {
        /// All of its parents.
        parents: BTreeSet<ShardId>,
    },
    /// `initialize` runs.
    Initializing,
    /// At the tip: there is nothing to read.
    Idle,
    /// Waiting for records that are there.
    Reading,
    /// `process_records` runs.
    Processing {
        /// Which attempt at the batch, from 1.
        attempt: u32,
    },
    /// User code failed; waiting to call it again.
    Retrying {
        /// Attempts that failed.
        attempts: u32,
        /// What the last one said.
        reason: String,
    },
    /// Paused by [`WorkerHandle::pause`](crate::WorkerHandle::pause): nothing is delivered until it is resumed.
    Paused,
    /// Records are there, and the rate limit of the worker does not let them through yet.
    RateLimited,
    /// Waiting for a subscription to the shard, or for its first event.
    Subscribing,
    /// What is fetched and not processed, by all shards of the worker, has used up `max_buffered_bytes`.
    WaitingForMemory,
    /// The stream answers that the shard is read too often, by this or by other applications.
    Throttled,
    /// Others take it away on and on, so that it is read now and then.
    Contended {
        /// Who, and what to do.
        reason: String,
    },
    /// The stream cannot be read.
    Blocked {
        /// Why.
        reason: String,
    },
    /// The worker could not renew its leases in time: user code is not called until it has.
    Suspended,
    /// Asked to stop or to move: the batch in hand is finished.
    Draining,
    /// All records are processed; `shard_ended` runs, or the end is written.
    Ending,
    /// User code failed for good. The lease is kept so that no other worker fails in the same way.
    Stopped {
        /// Why.
        reason: String,
    },
    /// The lease is gone.
    Finished,
}

impl fmt::Display for ShardPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForParents { parents } => {
                f.write_str("waits until its parents are finished:")?;
                parents.iter().try_for_each(|p| write!(f, " {p}"))
            }
            Self::Initializing => f.write_str("initializes its processor"),
            Self::Idle => f.write_str("has read everything"),
            Self::Reading => f.write_str("waits for records from the stream"),
            Self::Processing { attempt: 1 } => f.write_str("processes a batch"),
            Self::Processing { attempt } => write!(f, "processes a batch, attempt {attempt}"),
            Self::Retrying { attempts, reason } => write!(f, "waits to try again after {attempts} failed attempts: {reason}"),
            Self::Paused => f.write_str("is paused: nothing is delivered until it is resumed"),
            Self::RateLimited => f.write_str("waits for its turn in the rate limit of this worker"),
            Self::Subscribing => f.write_str("waits for its subscription; after another worker's it can take 6 seconds"),
            Self::WaitingForMemory => f.write_str("waits until other shards have processed what they hold: max_buffered_bytes is used up"),
            Self::Throttled => f.write_str("is throttled by the stream: its read limits, or those of its KMS key, are used up"),
            Self::Contended { reason } => write!(f, "is read now and then only: {reason}"),
            Self::Blocked { reason } => write!(f, "cannot be read: {reason}"),
            Self::Suspended => f.write_str("waits until this worker has renewed its leases"),
            Self::Draining => f.write_str("finishes the batch in hand before it moves or stops"),
            Self::Ending => f.write_str("is closed and processed; its end is being recorded"),
            Self::Stopped { reason } => write!(f, "stopped: {reason}"),
            Self::Finished => f.write_str("is done here"),
        }
    }
}

impl ShardPhase {
    /// Whether what comes next is a delivery, which a pause holds back.
    const fn delivers_nothing_yet(&self) -> bool {
        matches!(self, Self::Reading | Self::Paused | Self::RateLimited | Self::Retrying { .. })
    }
}

/// A look at one shard of a worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShardStatus {
    /// Its stream, as the worker was told: a name or an ARN.
    pub stream: String,
    /// Key of its lease.
    pub lease_key: LeaseKey,
    /// The shard.
    pub shard_id: ShardId,
    /// What it is doing.
    #[serde(flatten)]
    pub phase: ShardPhase,
    /// The same in words.
    pub why: String,
    /// Since when, by the worker's clock.
    pub since: Timestamp,
    /// Whether a call of user code has taken longer than `consumer.handler_timeout`.
    pub overdue: bool,
    /// Whether it is paused. What was under way then may still be: the phase says when nothing is.
    pub paused: bool,
    /// The last checkpoint known to be durable, in the text form of the lease table.
    pub checkpoint: String,
    /// How far processing is behind the tip: reading, or the batch in hand with the time for which it has been there; `None`
    /// before the first answer. When none has come for 15 seconds, or twice `polling.idle_interval` if that is longer, its
    /// age is added.
    pub millis_behind_latest: Option<u64>,
    /// Records processed by this worker in this tenure.
    pub records: u64,
    /// Calls of user code that failed or panicked.
    pub failed_calls: u64,
    /// Reads that were throttled.
    pub throttled_calls: u64,
    /// Iterators that expired between two reads, since processing or the byte budget kept the shard waiting for longer than the
    /// five minutes that they live. Nothing is lost or repeated by it.
    pub expired_iterators: u64,
    /// Subscriptions that another reader took the place of long before their end: more than a few mean that another
    /// application uses the same stream consumer.
    pub replaced_subscriptions: u64,
    /// How often reading panicked, in a stream client or in this library, and was begun anew.
    pub interrupted_reads: u64,
    /// What became of the records that were fetched, aggregated or plain: `received` counts both.
    pub kpl: KplCounts,
    /// Why the shard stopped, cannot be read, or is being retried: what the report of `run()` says if the worker is told
    /// to stop now.
    pub failure: Option<String>,
}

/// Where a shard consumer says what it is doing. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct StatusCell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: String,
    stream_name: StreamName,
    lease_key: LeaseKey,
    shard_id: ShardId,
    clock: SharedClock,
    state: Mutex<Cell>,
}

#[derive(Debug)]
struct Cell {
    phase: ShardPhase,
    since: Timestamp,
    /// Of the row as acquired, until there is a checkpointer.
    checkpoint: Checkpoint,
    checkpointer: Option<Checkpointer>,
    gauge: Gauge,
    deliveries: Option<ShardDeliveries>,
    /// How far the batch in hand was behind the tip, and since when it is in hand.
    in_hand: Option<(u64, Instant)>,
    records: u64,
    failed_calls: u64,
    failure: Option<String>,
    /// Answers until reading failed, when that is the failure: the next one shows that it is over.
    failed_reading: Option<u64>,
    /// How long a call of user code may take.
    handler_timeout: Option<Duration>,
    /// The lease was lost, and won back before the call under way has ended.
    won_back: bool,
}

impl Cell {
    /// How long the call under way has taken, if that is longer than it may.
    fn overdue(&self, now: Timestamp) -> Option<Duration> {
        let taken = match self.phase {
            ShardPhase::Initializing | ShardPhase::Processing { .. } => now.since(self.since),
            _ => return None,
        };
        (taken > self.handler_timeout?).then_some(taken)
    }

    /// What is in hand is behind what is read.
    fn lag_millis(&self, reading: &Reading) -> Option<u64> {
        let in_hand = self.in_hand.map(|(behind, since)| {
            let waits = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            behind.saturating_add(waits)
        });
        reading.lag_millis().max(in_hand)
    }

    fn why(&self, phase: &ShardPhase, trouble: Option<&str>, now: Timestamp) -> String {
        let mut why = phase.to_string();
        if let (ShardPhase::Paused, Some(trouble)) = (phase, trouble) {
            why += &format!("; it cannot be read: {trouble}");
        }
        if let Some(taken) = self.overdue(now) {
            let limit = self.handler_timeout.unwrap_or_default();
            why += &format!(", for {taken:?} now; it may take {limit:?} and was told to stop");
        }
        if self.won_back {
            why += "; the lease was lost and won back, and waits for this to end";
        }
        why
    }
}

impl StatusCell {
    pub(crate) fn new(stream: &StreamReference, lease: &Lease, clock: SharedClock) -> Self {
        let state = Mutex::new(Cell {
            phase: ShardPhase::WaitingForParents { parents: lease.parents.clone() },
            since: clock.now(),
            checkpoint: lease.checkpoint,
            checkpointer: None,
            gauge: Gauge::default(),
            deliveries: None,
            in_hand: None,
            records: 0,
            failed_calls: 0,
            failure: None,
            failed_reading: None,
            handler_timeout: None,
            won_back: false,
        });
        Self(Arc::new(Inner {
            stream: stream.to_string(),
            stream_name: stream.name(),
            lease_key: lease.key.clone(),
            shard_id: lease.shard_id.clone(),
            clock,
            state,
        }))
    }

    /// A look at it.
    pub(crate) fn snapshot(&self) -> ShardStatus {
        let now = self.0.clock.now();
        self.with(|cell| {
            let reading = cell.gauge.read();
            let lag = cell.lag_millis(&reading);
            let paused = cell.deliveries.as_ref().and_then(ShardDeliveries::paused_since);
            let held = paused.is_some() && cell.phase.delivers_nothing_yet();
            let phase = match (&cell.phase, &reading.trouble, reading.contended) {
                _ if held => ShardPhase::Paused,
                (ShardPhase::Reading, Some(reason), _) => ShardPhase::Blocked { reason: reason.clone() },
                (ShardPhase::Reading, None, Some(reason)) => ShardPhase::Contended { reason: reason.to_owned() },
                (ShardPhase::Reading, None, None) if reading.waits_for_memory() => ShardPhase::WaitingForMemory,
                (ShardPhase::Reading, None, None) if reading.throttled => ShardPhase::Throttled,
                (ShardPhase::Reading, None, None) if reading.subscribing => ShardPhase::Subscribing,
                (ShardPhase::Reading, None, None) if lag == Some(0) => ShardPhase::Idle,
                (phase, ..) => phase.clone(),
            };
            ShardStatus {
                stream: self.0.stream.clone(),
                lease_key: self.0.lease_key.clone(),
                shard_id: self.0.shard_id.clone(),
                why: cell.why(&phase, reading.trouble.as_deref(), now),
                overdue: cell.overdue(now).is_some(),
                paused: paused.is_some(),
                phase,
                since: cell.since.max(paused.filter(|_| held).map_or(cell.since, |since| now.minus(since.elapsed()))),
                checkpoint: cell.checkpointer.as_ref().map_or(cell.checkpoint, Checkpointer::durable).to_string(),
                millis_behind_latest: lag,
                records: cell.records,
                failed_calls: cell.failed_calls,
                throttled_calls: reading.throttled_calls,
                expired_iterators: reading.expired_iterators,
                replaced_subscriptions: reading.replaced_subscriptions,
                interrupted_reads: reading.interruptions,
                kpl: reading.kpl,
                failure: cell.failure.clone().filter(|_| cell.failed_reading.is_none_or(|answers| reading.answers <= answers)),
            }
        })
    }

    /// Whether it is one of these shards.
    pub(crate) fn is_of(&self, shards: &Shards) -> bool {
        shards.contain(&self.0.stream_name, &self.0.shard_id)
    }

    pub(super) fn enter(&self, phase: ShardPhase) {
        let now = self.0.clock.now();
        self.with(|cell| {
            if cell.phase == phase {
                return;
            }
            // A shard that is paused while it waits for records has nothing new to say when there are some.
            if (&cell.phase, &phase) != (&ShardPhase::Reading, &ShardPhase::Paused) {
                cell.since = now;
            }
            cell.phase = phase;
        });
    }

    pub(super) fn attach(
        &self,
        checkpointer: &Checkpointer,
        gauge: &Gauge,
        deliveries: &ShardDeliveries,
        handler_timeout: Option<Duration>,
    ) {
        self.with(|cell| {
            cell.handler_timeout = handler_timeout;
            cell.checkpointer = Some(checkpointer.clone());
            cell.gauge = gauge.clone();
            cell.deliveries = Some(deliveries.clone());
        });
    }

    /// A batch is in hand that was behind the tip by this much, or none is.
    pub(super) fn in_hand(&self, millis_behind_latest: Option<u64>) {
        self.with(|cell| cell.in_hand = millis_behind_latest.map(|behind| (behind, Instant::now())));
    }

    /// The lease is this worker's again, or no longer, while its former consumer has not ended.
    pub(crate) fn won_back(&self, again: bool) {
        self.with(|cell| cell.won_back = again);
    }

    pub(super) fn processed(&self, records: usize) {
        self.with(|cell| cell.records += records as u64);
    }

    pub(super) fn call_failed(&self) {
        self.with(|cell| cell.failed_calls += 1);
    }

    pub(super) fn set_failure(&self, failure: Option<String>) {
        self.with(|cell| {
            cell.failure = failure;
            cell.failed_reading = None;
        });
    }

    /// The shard cannot be read, until the next answer of the stream.
    pub(super) fn set_unreadable(&self, failure: String) {
        self.with(|cell| {
            cell.failure = Some(failure);
            cell.failed_reading = Some(cell.gauge.read().answers);
        });
    }

    /// Whether the shard was read since it could not be.
    pub(super) fn reads_again(&self) -> bool {
        self.with(|cell| cell.failed_reading.is_some_and(|answers| cell.gauge.read().answers > answers))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Cell) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::TokioClock, types::StreamIdentifier};

    #[tokio::test(start_paused = true)]
    async fn a_status_says_what_and_since_when_in_words_and_as_json() {
        let lease =
            Lease::new(&StreamIdentifier::Single("clicks".parse().expect("valid")), ShardId::from_index(4), Checkpoint::TrimHorizon);
        let cell =
            StatusCell::new(&"clicks".parse().expect("valid"), &lease, Arc::new(TokioClock::starting_at(Timestamp::from_millis(1000))));
        tokio::time::sleep(Duration::from_secs(2)).await;
        cell.enter(ShardPhase::Processing { attempt: 3 });
        tokio::time::sleep(Duration::from_secs(7)).await;
        cell.enter(ShardPhase::Processing { attempt: 3 });
        let json = serde_json::to_value(cell.snapshot()).expect("serializable");
        assert_eq!(json["phase"], "processing");
        assert_eq!(json["attempt"], 3);
        assert_eq!(json["why"], "processes a batch, attempt 3");
        assert_eq!(json["stream"], "clicks");
        assert_eq!(json["since"], 3000, "the same phase goes on");
        assert_eq!((json["shard_id"].as_str(), json["checkpoint"].as_str()), (Some("shardId-000000000004"), Some("TRIM_HORIZON")));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_records_has_its_reasons() {
        let lease =
            Lease::new(&StreamIdentifier::Single("clicks".parse().expect("valid")), ShardId::from_index(4), Checkpoint::TrimHorizon);
        let cell =
            StatusCell::new(&"clicks".parse().expect("valid"), &lease, Arc::new(TokioClock::starting_at(Timestamp::from_millis(1000))));
        let gauge = Gauge::default();
        cell.with(|c| c.gauge = gauge.clone());
        cell.enter(ShardPhase::Reading);
        assert_eq!(cell.snapshot().phase, ShardPhase::Reading);
        gauge.subscribing();
        assert_eq!(cell.snapshot().phase, ShardPhase::Subscribing);
        gauge.answered(0);
        assert_eq!(cell.snapshot().phase, ShardPhase::Idle);
        gauge.throttled();
        assert_eq!(cell.snapshot().phase, ShardPhase::Throttled);
        gauge.failed("no route".to_owned());
        assert_eq!(cell.snapshot().phase, ShardPhase::Blocked { reason: "no route".to_owned() });
        gauge.answered(1500);
        assert_eq!(cell.snapshot().phase, ShardPhase::Reading);
        gauge.answered(0);
        let (first, second) = (gauge.waiting_for_memory(), gauge.waiting_for_memory());
        drop(first);
        assert_eq!(cell.snapshot().phase, ShardPhase::WaitingForMemory);
        drop(second);
        assert_eq!(cell.snapshot().phase, ShardPhase::Idle);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(cell.snapshot().phase, ShardPhase::Reading, "nobody knows what there is to read");
        assert_eq!(cell.snapshot().millis_behind_latest, Some(60_000));
        gauge.answered(1500);
        assert_eq!((cell.snapshot().millis_behind_latest, cell.snapshot().throttled_calls), (Some(1500), 1));
        // One that is told to poll idle shards once a minute only.
        let gauge = Gauge::with_pause(Duration::from_secs(60));
        cell.with(|c| c.gauge = gauge.clone());
        gauge.answered(0);
        tokio::time::sleep(Duration::from_secs(110)).await;
        assert_eq!(cell.snapshot().phase, ShardPhase::Idle);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!((cell.snapshot().phase, cell.snapshot().millis_behind_latest), (ShardPhase::Reading, Some(125_000)));
    }
}
