//! When to call `GetRecords` next, and for how much. Pure: outcome of the last call in, moment and limit out.
//!
//! - *Behind* the tip: as soon as the shard's limits allow. An answer of `b` bytes is followed by `b / (2 MiB/s)` of
//!   rest, which is the service's own rule for large answers, and calls keep a fifth of a second between them.
//! - *At the tip, with records*: every `interval`.
//! - *At the tip, without*: the first time every `interval` too, since a shard that was just taken over, or has a record
//!   each `interval`, is not quiet; then twice as long each time, up to `idle_interval`.
//! - *Throttled*, because another application polls the same shard: at the share of the full rate that `sharing` finds, and
//!   with small pages, so that no reader keeps the others out for long.
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

/// Wanted by the first call, when nothing is known about the shard.
const FIRST_BYTES: u64 = 1024 * 1024;
/// Wanted at the least.
const LEAST_BYTES: u64 = 64 * 1024;
/// Size of a record, for the first call: large, so that it asks for few, and a worker that starts on many shards of
/// large records does not fetch the service's 10 MiB from each.
const FIRST_RECORD_BYTES: f64 = 32.0 * 1024.0;

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
    record_bytes: f64,
    wanted: u64,
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
            record_bytes: FIRST_RECORD_BYTES,
            wanted: FIRST_BYTES,
        }
    }

    /// When the next call may be sent.
    pub(super) const fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Bytes worth setting aside for the next call.
    pub(super) const fn wanted_bytes(&self) -> u64 {
        self.wanted
    }

    /// Records to ask for, to fit into `bytes`.
    pub(super) fn limit(&self, bytes: u64) -> u32 {
        let records = bytes as f64 / (self.record_bytes + RECORD_OVERHEAD_BYTES as f64);
        (records as u32).clamp(1, self.max_records)
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
            self.record_bytes = average.max(0.8 * self.record_bytes + 0.2 * average);
        }
        let second = self.bytes_per_second.min(limits::READ_BYTES_PER_SECOND as f64);
        let most = (if self.sharing.is_shared() { second * PAGE } else { second }) as u64;
        self.wanted = if behind { most } else { (2 * page.bytes).max(LEAST_BYTES).min(most) };
    }

    /// After a throttled call. `random` is from 0 to 1.
    pub(super) fn throttled(&mut self, call: Call, random: f64) {
        self.not_before = self.sharing.throttled(Sent { sent: call.sent, at: call.answered, random });
    }

    /// After a call that failed otherwise: not again before `delay` has passed.
    pub(super) fn failed(&mut self, call: Call, delay: Duration) {
        self.not_before = call.answered + delay.max(self.call_spacing);
    }
}

#[cfg(test)]
#[path = "pacing_test.rs"]
mod tests;
