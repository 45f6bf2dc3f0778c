//! When to call `GetRecords` next, and for how much. Pure: outcome of the last call in, moment and limit out.
//!
//! - *Behind* the tip: as soon as the shard's limits allow. An answer of `b` bytes is followed by `b / (2 MiB/s)` of
//!   rest, which is the service's own rule for large answers, and calls keep a fifth of a second between them.
//! - *At the tip, with records*: every `interval`.
//! - *At the tip, without*: the first time every `interval` too, since a shard that was just taken over, or has a record
//!   each `interval`, is not quiet; then twice as long each time, up to `idle_interval`.
//! - *Throttled*, because another application polls the same shard: at the share of the full rate that `sharing` finds, and
//!   with small pages, so that no reader keeps the others out for long.
//! - *An answer that did not come through*, as on a network that is slow or breaks: half as many records at once, and a quarter
//!   more after each answer.
//!
//! Times between calls count from the moment an answer came, less the shortest time that any call took: the service
//! counted the call after it was sent and before it was answered, so that by its own clock the rest is not shorter.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Config,
    sharing::{PAGE, Sent, Sharing},
};
use crate::{limits, retrieval::RECORD_OVERHEAD_BYTES};

/// Size of a record, for the first call, as far as it is a guess about many.
const FIRST_RECORD_BYTES: u64 = 32 * 1024;
/// What any record of the first call may have: the largest that a stream takes unless it is set otherwise.
const SUSPECTED_RECORD_BYTES: u64 = 1024 * 1024;
/// The largest answer of the service.
const ANSWER_BYTES: u64 = 10 * 1024 * 1024;
/// Wanted at the least.
const LEAST_BYTES: u64 = 64 * 1024;

/// When a call was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

/// An answer with records, or without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// Records in it.
    pub(super) records: u32,
    /// Payload and keys.
    pub(super) bytes: u64,
    /// Records asked for.
    pub(super) limit: u32,
    pub(super) millis_behind_latest: u64,
}

/// The pace of one shard.
#[derive(Debug)]
pub(super) struct Pacer {
    interval: Duration,
    idle_interval: Duration,
    max_records: u32,
    call_spacing: Duration,
    bytes_per_second: f64,
    not_before: Instant,
    sharing: Sharing,
    /// Empty answers at the tip in a row.
    quiet: u32,
    shortest_call: Option<Duration>,
    /// Of a record, once there was one.
    record_bytes: Option<f64>,
    /// For the next call, once there was an answer.
    wanted: Option<u64>,
    /// Records that an answer may have to come through: fewer than `max_records` after one that did not.
    most_records: u32,
}

impl Pacer {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let call_spacing = Duration::from_secs(1) / config.calls_per_second.max(1);
        Self {
            interval: config.interval,
            idle_interval: config.idle_interval.max(config.interval),
            max_records: config.max_records.clamp(1, limits::GET_RECORDS_MAX_RECORDS),
            call_spacing,
            bytes_per_second: config.bytes_per_second.max(1) as f64,
            not_before: now,
            sharing: Sharing::new(call_spacing, now),
            quiet: 0,
            shortest_call: None,
            record_bytes: None,
            wanted: None,
            most_records: u32::MAX,
        }
    }

    /// When the next call may be sent.
    pub(super) const fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Bytes worth setting aside for the next call. A shard of which nothing is known contents itself with an even part of
    /// the budget, since many shards are begun at once, and what they want stands for what they may get.
    pub(super) fn wanted_bytes(&self, even_part: u64) -> u64 {
        match self.wanted {
            Some(wanted) if self.record_bytes.is_some() || self.quiet > 0 => wanted,
            Some(_) | None => even_part.clamp(SUSPECTED_RECORD_BYTES, ANSWER_BYTES),
        }
    }

    /// What an answer of one record takes up, as far as one can tell.
    pub(super) fn least_bytes(&self) -> u64 {
        self.record_bytes.map_or_else(|| self.suspected(), |bytes| bytes as u64 + RECORD_OVERHEAD_BYTES)
    }

    /// The size of records that nobody has seen. What comes into an empty shard between two calls is not a backlog.
    const fn suspected(&self) -> u64 {
        if self.quiet > 0 { FIRST_RECORD_BYTES } else { SUSPECTED_RECORD_BYTES }
    }

    /// Records to ask for, to fit into `bytes`.
    pub(super) fn limit(&self, bytes: u64) -> u32 {
        let records = match self.record_bytes {
            Some(record_bytes) => (bytes as f64 / (record_bytes + RECORD_OVERHEAD_BYTES as f64)) as u32,
            // However large they are.
            None if bytes >= ANSWER_BYTES => (SUSPECTED_RECORD_BYTES / FIRST_RECORD_BYTES) as u32,
            None => (bytes / self.suspected()) as u32,
        };
        records.clamp(1, self.max_records.min(self.most_records))
    }

    /// After an answer. `random` is from 0 to 1.
    pub(super) fn answered(&mut self, call: Call, page: Page, random: f64) {
        let took = call.answered - call.sent;
        let shortest = self.shortest_call.map_or(took, |s| s.min(took));
        self.shortest_call = Some(shortest);
        let rest = Duration::from_secs_f64(page.bytes as f64 / self.bytes_per_second);
        let counted = Sent { sent: call.sent, at: call.answered - shortest, random };
        let allowed = self.sharing.answered(counted, rest.max(self.call_spacing), rest);

        let behind = page.millis_behind_latest > 0 || page.records >= page.limit;
        self.quiet = if behind || page.records > 0 { 0 } else { self.quiet.saturating_add(1) };
        let useful = if behind {
            Duration::ZERO
        } else {
            let doubled = self.interval.saturating_mul(1u32.checked_shl(self.quiet.saturating_sub(1)).unwrap_or(u32::MAX));
            // A little longer than said, so that the shards of a worker do not poll in step.
            doubled.min(self.idle_interval).mul_f64(1.0 + 0.05 * random)
        };
        self.not_before = allowed.max(call.sent + useful);

        if page.records > 0 {
            let average = page.bytes as f64 / f64::from(page.records);
            // Larger records are believed at once, smaller ones by and by: too small a guess costs memory.
            self.record_bytes = Some(self.record_bytes.map_or(average, |before| average.max(0.8 * before + 0.2 * average)));
        }
        // By a quarter: where only so many come through, not every other call is to fail.
        self.most_records = self.most_records.saturating_add(self.most_records / 4).saturating_add(1);
        let second = self.bytes_per_second.min(limits::READ_BYTES_PER_SECOND as f64);
        let most = (if self.sharing.is_shared() { second * PAGE } else { second }) as u64;
        self.wanted = Some(if behind { most } else { (2 * page.bytes).max(LEAST_BYTES).min(most) });
    }

    /// After a throttled call. `random` is from 0 to 1.
    pub(super) fn throttled(&mut self, call: Call, random: f64) {
        self.not_before = self.sharing.throttled(Sent { sent: call.sent, at: call.answered, random });
    }

    /// After a call for `limit` records whose answer did not come through: asks for half as many, down to one. Whatever stands
    /// in the way of large answers, the same one asked for again and again would never come.
    pub(super) fn lost(&mut self, limit: u32) {
        self.most_records = (limit / 2).max(1);
        self.wanted = self.wanted.map(|wanted| (wanted / 2).max(LEAST_BYTES));
    }

    /// After a call that failed otherwise: not again before `delay` has passed.
    pub(super) fn failed(&mut self, call: Call, delay: Duration) {
        self.not_before = call.answered + delay.max(self.call_spacing);
    }
}

#[cfg(test)]
#[path = "pacing_test.rs"]
mod tests;
