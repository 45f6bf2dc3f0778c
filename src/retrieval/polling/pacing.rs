//! When to call `GetRecords` next, and for how much. Pure: outcome of the last call in, moment and limit out.
//!
//! - *Behind* the tip: as soon as the shard's limits allow. An answer of `b` bytes is followed by `b / (2 MiB/s)` of
//!   rest, which is the service's own rule for large answers, and calls keep a fifth of a second between them.
//! - *At the tip, with records*: every `interval`.
//! - *At the tip, without*: the first time every `interval` too, since a shard that was just taken over, or has a record
//!   each `interval`, is not quiet; then twice as long each time, up to `idle_interval`.
//! - *Throttled*, because another application polls the same shard: less at once, and back to about the rate that was too
//!   much in half a minute, quickly at first and slowly there, then ever faster, should the other be gone. This is the
//!   curve of CUBIC (RFC 9438), which stays near the limit and seldom meets it.
//! - *An answer that did not come through*, as on a network that is slow or breaks: half as many records at once, and a quarter
//!   more after each answer.
//!
//! Times between calls count from the moment an answer came, less the shortest time that any call took: the service
//! counted the call after it was sent and before it was answered, so that by its own clock the rest is not shorter.

use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use crate::{limits, retrieval::RECORD_OVERHEAD_BYTES};

/// Smallest share of the full rate that throttling leads to.
const LEAST_SHARE: f64 = 1.0 / 16.0;
/// What throttling leaves of the rate: when it was not to be expected, and when the rate was close to its limit.
const LEFT_BY_SURPRISE: f64 = 0.5;
const LEFT_NEAR_LIMIT: f64 = 0.7;
/// How long a limit that was met is remembered.
const LIMIT_REMEMBERED: Duration = Duration::from_secs(120);
/// Time until the rate is back where it was too much.
const REGAINED_AFTER: Duration = Duration::from_secs(30);
/// What it has gained beyond that, as a share of the full rate, after the same time once more.
const BEYOND: f64 = 0.05;
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

/// A call that was throttled.
#[derive(Debug, Clone, Copy)]
struct Throttle {
    at: Instant,
    /// The share of the full rate that was too much.
    limit: f64,
    /// What was left of it.
    share: f64,
    /// Whether a call was answered since.
    answered: bool,
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
    /// Share of the full rate, 1 unless throttled lately.
    share: f64,
    /// The last throttling, until the rate is the full one again.
    throttle: Option<Throttle>,
    /// Empty answers at the tip in a row.
    quiet: u32,
    shortest_call: Option<Duration>,
    record_bytes: f64,
    wanted: u64,
    /// Records that an answer may have to come through: fewer than `max_records` after one that did not.
    most_records: u32,
}

impl Pacer {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            interval: config.interval,
            idle_interval: config.idle_interval.max(config.interval),
            max_records: config.max_records.clamp(1, limits::GET_RECORDS_MAX_RECORDS),
            call_spacing: Duration::from_secs(1) / config.calls_per_second.max(1),
            bytes_per_second: config.bytes_per_second.max(1) as f64,
            not_before: now,
            share: 1.0,
            throttle: None,
            quiet: 0,
            shortest_call: None,
            record_bytes: FIRST_RECORD_BYTES,
            wanted: FIRST_BYTES,
            most_records: u32::MAX,
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
        (records as u32).clamp(1, self.max_records.min(self.most_records))
    }

    /// After an answer. `random` is from 0 to 1.
    pub(super) fn answered(&mut self, call: Call, page: Page, random: f64) {
        self.regain(call.answered);
        let took = call.answered - call.sent;
        let shortest = self.shortest_call.map_or(took, |s| s.min(took));
        self.shortest_call = Some(shortest);
        let counted = call.answered - shortest;
        let rest = Duration::from_secs_f64(page.bytes as f64 / (self.bytes_per_second * self.share));
        let allowed = counted + rest.max(self.call_spacing.div_f64(self.share));

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
        // By a quarter: where only so many come through, not every other call is to fail.
        self.most_records = self.most_records.saturating_add(self.most_records / 4).saturating_add(1);
        let most = (self.bytes_per_second as u64).min(limits::READ_BYTES_PER_SECOND);
        self.wanted = if behind { most } else { (2 * page.bytes).max(LEAST_BYTES).min(most) };
    }

    /// After a throttled call. `random` is from 0 to 1.
    pub(super) fn throttled(&mut self, call: Call, random: f64) {
        let before = self.throttle;
        let met = before.is_some_and(|t| t.answered && call.answered - t.at < LIMIT_REMEMBERED);
        let left = if met { LEFT_NEAR_LIMIT } else { LEFT_BY_SURPRISE };
        let share = (self.share * left).max(LEAST_SHARE);
        // Met earlier than the last time, the limit has come down, as for a new reader: leave it room.
        let sank = before.is_some_and(|t| self.share < t.limit);
        let limit = if sank { (self.share + share) / 2.0 } else { self.share };
        self.throttle = Some(Throttle { at: call.answered, limit, share, answered: false });
        self.share = share;
        self.not_before = call.answered + self.call_spacing.div_f64(self.share).mul_f64(1.0 + random);
    }

    /// Gives back of the rate what time allows.
    fn regain(&mut self, now: Instant) {
        let Some(throttle) = &mut self.throttle else { return };
        throttle.answered = true;
        let after = (now - throttle.at).as_secs_f64() / REGAINED_AFTER.as_secs_f64() - 1.0;
        let gained = after.powi(3) * if after < 0.0 { throttle.limit - throttle.share } else { BEYOND };
        self.share = (throttle.limit + gained).max(self.share);
        if self.share >= 1.0 {
            self.share = 1.0;
            // A limit that is far away is forgotten.
            if now - throttle.at >= LIMIT_REMEMBERED {
                self.throttle = None;
            }
        }
    }

    /// After a call for `limit` records whose answer did not come through: asks for half as many, down to one. Whatever stands
    /// in the way of large answers, the same one asked for again and again would never come.
    pub(super) fn lost(&mut self, limit: u32) {
        self.most_records = (limit / 2).max(1);
        self.wanted = (self.wanted / 2).max(LEAST_BYTES);
    }

    /// After a call that failed otherwise: not again before `delay` has passed.
    pub(super) fn failed(&mut self, call: Call, delay: Duration) {
        self.not_before = call.answered + delay.max(self.call_spacing);
    }
}

#[cfg(test)]
#[path = "pacing_test.rs"]
mod tests;
