//! The fetch loop of one shard.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Cursor, ShardReader,
    pacing::{Call, Pacer, Page},
};
use crate::{
    error::{Error, ErrorKind, Result},
    limits,
    retrieval::{
        Delivery, OpenPage, RECORD_OVERHEAD_BYTES, Reservation, Stall, Unpacker,
        trouble::{self, CONFIRMATIONS, Trouble},
    },
    retry::{Backoff, RetryConfig},
    stream::{RecordsPage, ShardIterator},
    types::ChildShard,
};

/// Waits after failures of the service: from a tenth of a second to ten, without end.
const FAILURES: RetryConfig = RetryConfig { max_attempts: None, min_delay: Duration::from_millis(100), max_delay: Duration::from_secs(10) };

pub(super) struct Fetcher {
    reader: ShardReader,
    cursor: Cursor,
    pacer: Pacer,
    iterator: Option<Held>,
    unpacker: Unpacker,
    /// Waits of the failures in a row.
    failures: Option<Backoff>,
    trouble: Trouble,
    stall: Stall,
    end: End,
}

/// An iterator for the next call.
struct Held {
    iterator: ShardIterator,
    since: Instant,
    /// How much of the time since then the byte budget was waited for.
    waited: Duration,
}

impl Held {
    fn new(iterator: ShardIterator) -> Self {
        Self { iterator, since: Instant::now(), waited: Duration::ZERO }
    }

    /// Why it has expired at this age.
    fn why_expired(&self, age: Duration) -> &'static str {
        // It was made a little before it came.
        if age < limits::SHARD_ITERATOR_TTL.mul_f64(0.9) {
            "the service says so"
        } else if self.waited * 2 > age {
            "max_buffered_bytes was used up"
        } else {
            "processing was slower"
        }
    }
}

/// Whether the shard has ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// An answer had no next iterator, and named no children either. Every closed shard has children unless they are
    /// past retention, so that it is asked once more before it is believed.
    Doubtful,
    /// An answer had no next iterator. These shards follow.
    Reached(Vec<ChildShard>),
}

/// What a turn of the loop leads to.
enum Turn {
    Again,
    Deliver(Delivery),
    Report(Error),
}

impl Fetcher {
    pub(super) fn new(reader: ShardReader, cursor: Cursor) -> Self {
        let pacer = Pacer::new(&reader.config, Instant::now());
        let ShardReader { stream, shard_id, unpacking, random, gauge, config, .. } = &reader;
        let unpacker = Unpacker::new(stream, shard_id, unpacking.clone(), random, gauge, config.max_records);
        Self {
            reader,
            cursor,
            pacer,
            iterator: None,
            unpacker,
            failures: None,
            trouble: Trouble::default(),
            stall: Stall::default(),
            end: End::NotYet,
        }
    }

    /// Fetches until the shard ends, or nobody listens any more.
    pub(super) async fn run(mut self, queue: mpsc::Sender<Result<Delivery>>) {
        while let Ok(slot) = queue.reserve().await {
            let delivery = loop {
                match self.turn().await {
                    Turn::Again => {}
                    Turn::Deliver(delivery) => break Ok(delivery),
                    Turn::Report(error) => break Err(error),
                }
            };
            let ended = matches!(delivery, Ok(Delivery::ShardEnd(_)));
            slot.send(delivery);
            if ended {
                return;
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        if let Some(batch) = self.unpacker.next().await {
            return Turn::Deliver(Delivery::Batch(batch));
        }
        if let End::Reached(children) = &mut self.end {
            return Turn::Deliver(Delivery::ShardEnd(std::mem::take(children)));
        }
        sleep_until(self.pacer.not_before()).await;
        if self.iterator.is_none() {
            let sent = Instant::now();
            let position = self.cursor.position();
            match self.reader.client.shard_iterator(&self.reader.stream, &self.reader.shard_id, position).await {
                Ok(iterator) => self.iterator = Some(Held::new(iterator)),
                Err(error) if error.kind() == ErrorKind::InvalidInput && self.cursor.refused() => {
                    tracing::warn!(%error, "the start of reading is refused as a moment to come; trying an earlier one");
                    return Turn::Again;
                }
                Err(error) => {
                    let call = Call { sent, answered: Instant::now() };
                    return match error.kind() {
                        ErrorKind::Throttled | ErrorKind::LimitExceeded => self.unopened(call, &error),
                        _ => self.failed(call, error),
                    };
                }
            }
        }
        let Some(held) = &mut self.iterator else { return Turn::Again };
        let (waiting, asked) = (self.reader.gauge.waiting_for_memory(), Instant::now());
        let wanted = self.pacer.wanted_bytes(self.reader.budget.even_part());
        let reservation = self.reader.budget.reserve(wanted, self.pacer.least_bytes()).await;
        held.waited += asked.elapsed();
        drop(waiting);
        let limit = self.pacer.limit(reservation.bytes());
        let sent = Instant::now();
        let answer = self.reader.client.get_records(&self.reader.stream, &held.iterator, limit).await;
        let call = Call { sent, answered: Instant::now() };
        match answer {
            Ok(page) => self.answered(call, page, limit, reservation),
            Err(error) => {
                // What breaks off in its midst looks like a service that is not available.
                if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable) {
                    self.pacer.lost(limit);
                }
                self.failed(call, error)
            }
        }
    }

    fn answered(&mut self, call: Call, page: RecordsPage, limit: u32, mut reservation: Reservation) -> Turn {
        self.failures = None;
        self.trouble.over();
        if let Some(lasted) = self.stall.over() {
            tracing::info!(?lasted, "the shard is read again");
        }
        self.reader.gauge.answered(page.millis_behind_latest);
        let count = u32::try_from(page.records.len()).unwrap_or(u32::MAX);
        let bytes = page.records.iter().map(|r| r.size_bytes() as u64).sum();
        let summary = Page { records: count, bytes, limit, millis_behind_latest: page.millis_behind_latest };
        self.pacer.answered(call, summary, self.random());

        let records = self.cursor.advance(page.records);
        self.iterator = page.next_iterator.map(Held::new);
        if self.iterator.is_some() {
            self.end = End::NotYet;
        } else if page.child_shards.is_empty() && self.end == End::NotYet {
            self.end = End::Doubtful;
        } else {
            self.end = End::Reached(page.child_shards);
        }
        reservation.resize(bytes + RECORD_OVERHEAD_BYTES * u64::from(count));
        self.unpacker.feed(OpenPage::new(records, page.millis_behind_latest, reservation));
        Turn::Again
    }

    /// Iterators have a limit of their own, so that this says nothing about the pace of reading.
    fn unopened(&mut self, call: Call, error: &Error) -> Turn {
        self.note_stall(error);
        self.reader.gauge.throttled();
        self.back_off(call);
        Turn::Again
    }

    fn note_stall(&mut self, error: &Error) {
        if let Some(lasts) = self.stall.met() {
            let fix = fix(error.kind());
            tracing::warn!(error = format!("{error:#}"), fix, ?lasts, "the shard is not read, trying on");
        }
    }

    fn failed(&mut self, call: Call, error: Error) -> Turn {
        self.note_stall(&error);
        match error.kind() {
            ErrorKind::Throttled | ErrorKind::LimitExceeded => {
                let random = self.random();
                self.pacer.throttled(call, random);
                self.reader.gauge.throttled();
                // Now and then it is how applications share a shard.
                if self.stall.lasts() {
                    self.reader.gauge.failed(format!("{error:#} ({})", fix(error.kind())));
                }
                Turn::Again
            }
            ErrorKind::ExpiredIterator => {
                self.expired();
                self.pacer.failed(call, Duration::ZERO);
                Turn::Again
            }
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::ResourceInUse | ErrorKind::ExpiredToken | ErrorKind::Shutdown => {
                self.trouble.over();
                self.back_off(call);
                self.reader.gauge.failed(format!("{error:#}"));
                tracing::debug!(%error, "cannot read the shard, trying again");
                Turn::Again
            }
            kind @ (ErrorKind::NotFound
            | ErrorKind::AccessDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::Mismatch
            | ErrorKind::LeaseLost
            | ErrorKind::Processor
            | ErrorKind::Internal) => self.blocked(call, kind, error),
        }
    }

    /// Reading goes on where it was, with another iterator: no error, but whoever reads the log should hear once that
    /// processing does not keep up.
    fn expired(&mut self) {
        let Some(held) = self.iterator.take() else { return };
        let age = held.since.elapsed();
        let why = held.why_expired(age);
        if self.reader.gauge.iterator_expired() == 1 {
            tracing::info!(?age, why, "an iterator has expired, reading goes on where it was");
        } else {
            tracing::debug!(?age, why, "an iterator has expired again, reading goes on where it was");
        }
    }

    /// Trouble that seldom passes by itself: reported when it has been confirmed, and tried again for as long as the
    /// shard is ours, since somebody may repair it.
    fn blocked(&mut self, call: Call, kind: ErrorKind, error: Error) -> Turn {
        // The iterator itself may be what is refused.
        self.iterator = None;
        self.reader.gauge.failed(format!("{error:#}"));
        let met = self.trouble.met(kind);
        if met < CONFIRMATIONS {
            self.back_off(call);
        } else {
            self.pacer.failed(call, self.reader.random.jittered(self.reader.config.blocked_retry_interval));
        }
        if met == CONFIRMATIONS { Turn::Report(self.explain(kind, error)) } else { Turn::Again }
    }

    fn explain(&self, kind: ErrorKind, error: Error) -> Error {
        let fix = fix(kind);
        let ShardReader { client, stream, shard_id, .. } = &self.reader;
        Error::new(kind, format!("cannot read shard {shard_id} of stream {stream} at {client} ({fix})")).with_source(error)
    }

    fn back_off(&mut self, call: Call) {
        let failures = self.failures.get_or_insert_with(|| FAILURES.backoff(&self.reader.random));
        let delay = failures.next_delay().unwrap_or(FAILURES.max_delay);
        self.pacer.failed(call, delay);
    }

    /// From 0 to 1.
    fn random(&self) -> f64 {
        self.reader.random.in_range(0..1000) as f64 / 1000.0
    }
}

/// What somebody can do about an error that does not pass.
const fn fix(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "check the stream's name, account and region, and that it was not deleted",
        ErrorKind::AccessDenied => "allow kinesis:GetShardIterator and kinesis:GetRecords on the stream, and check the credentials",
        ErrorKind::Throttled | ErrorKind::LimitExceeded => {
            "others use up what the shard gives: set polling.calls_per_second and bytes_per_second lower in those that poll it, read by \
             enhanced fan-out, or add shards; a KMS key has a request quota of its own"
        }
        other => trouble::fix(other),
    }
}
