//! A limit to the records that are delivered per second, over all shards of a worker: a token bucket. Pure.
//!
//! Credit grows with time, by the record and exactly: it is counted in billionths. It begins with none, and what nobody
//! uses counts for 0.4 seconds (or one record, if that is more), so that no ten seconds have more than the rate and a
//! twenty-fifth. Records are given out in *portions* of what a tenth of a second allows, or more when there is more
//! credit: a batch that is larger is divided, user code is not called more than ten times a second for the limit's sake,
//! and there is a timer for each portion and none for each record.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// How long credit is kept: less than the twentieth of ten seconds by which they may exceed the rate.
const KEPT: Duration = Duration::from_millis(400);
/// What is waited for at the most before records are given out, in parts of a second.
const PORTIONS_PER_SECOND: u32 = 10;
/// What is owed at the most.
const LONGEST_DEBT: Duration = Duration::from_secs(10);
/// The credit that a record takes.
const RECORD: i128 = 1_000_000_000;

/// The bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateLimit {
    per_second: NonZeroU32,
    /// In billionths of a record, as of `at`; below zero after a batch that could not be divided.
    credit: i128,
    at: Instant,
}

impl RateLimit {
    pub(super) const fn new(per_second: NonZeroU32, now: Instant) -> Self {
        Self { per_second, credit: 0, at: now }
    }

    pub(super) const fn per_second(&self) -> NonZeroU32 {
        self.per_second
    }

    /// Goes on with another rate. What was earned or owed up to now stays.
    pub(super) fn change(&mut self, per_second: NonZeroU32, now: Instant) {
        self.earn(now);
        self.per_second = per_second;
    }

    /// When [`take`](RateLimit::take) gives something to whoever wants this many records, if nobody takes any before.
    pub(super) fn ready_at(&self, wanted: usize) -> Instant {
        let missing = (self.portion(wanted) - self.credit).max(0);
        let nanos = (missing + self.rate() - 1) / self.rate();
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many of the records wanted may be delivered now, at least one; `None` when they have to wait. What cannot be
    /// divided is delivered as a whole, and owed for afterwards, for [`LONGEST_DEBT`] at the most.
    pub(super) fn take(&mut self, now: Instant, wanted: usize, divisible: bool) -> Option<usize> {
        self.earn(now);
        if self.credit < self.portion(wanted) {
            return None;
        }
        let there = usize::try_from(self.credit / RECORD).unwrap_or(usize::MAX);
        let taken = if divisible { wanted.min(there) } else { wanted };
        // A batch of ten thousand that is tried again at ten a second is not to keep all shards waiting for a quarter of an hour.
        let deepest = -(self.rate() * LONGEST_DEBT.as_nanos().cast_signed());
        self.credit = (self.credit - records(taken)).max(deepest);
        Some(taken)
    }

    fn earn(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        let earned = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_mul(self.rate());
        let most = (self.rate() * KEPT.as_nanos().cast_signed()).max(RECORD);
        self.credit = self.credit.saturating_add(earned).min(most);
        self.at = self.at.max(now);
    }

    /// The credit that there must be before some of `wanted` records are given out.
    fn portion(&self, wanted: usize) -> i128 {
        let portion = (self.per_second.get() / PORTIONS_PER_SECOND).max(1);
        records(wanted).min(i128::from(portion) * RECORD)
    }

    fn rate(&self) -> i128 {
        i128::from(self.per_second.get())
    }
}

fn records(n: usize) -> i128 {
    i128::try_from(n).unwrap_or(i128::MAX / RECORD) * RECORD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(per_second: u32) -> (RateLimit, Instant) {
        let now = Instant::now();
        (RateLimit::new(NonZeroU32::new(per_second).expect("not zero"), now), now)
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn portions_are_given_out_when_they_are_earned() {
        // Rate, milliseconds since the start, wanted, what is given.
        let table: [(u32, u64, usize, Option<usize>); 13] = [
            (100, 0, 1, None),
            (100, 9, 1, None),
            (100, 10, 1, Some(1)),
            (100, 99, 10_000, None),
            (100, 100, 10_000, Some(10)),
            (100, 399, 10_000, Some(39)),
            (100, 3_600_000, 10_000, Some(40)),
            (100, 3_600_000, 7, Some(7)),
            (1, 999, 500, None),
            (1, 1000, 500, Some(1)),
            (1, 60_000, 500, Some(1)),
            (25, 80, 500, Some(2)),
            (u32::MAX, 100, 10_000, Some(10_000)),
        ];
        for (rate, after, wanted, given) in table {
            let (mut limit, start) = limit(rate);
            assert_eq!(limit.take(start + millis(after), wanted, true), given, "{wanted} wanted after {after} ms at {rate}/s");
        }
    }

    #[test]
    fn what_cannot_be_divided_is_owed_for() {
        let (mut limit, start) = limit(100);
        assert_eq!(limit.take(start + millis(100), 1000, false), Some(1000));
        assert_eq!(limit.ready_at(1), start + millis(10_010));
        assert_eq!(limit.take(start + millis(10_009), 1, true), None);
        assert_eq!(limit.take(start + millis(10_010), 1, true), Some(1));
    }

    #[test]
    fn a_large_batch_that_is_tried_again_is_not_owed_for_longer_than_ten_seconds() {
        let (mut limit, start) = limit(10);
        assert_eq!(limit.take(start + millis(100), 10_000, false), Some(10_000));
        assert_eq!(limit.ready_at(1), start + millis(10_200));
    }

    #[test]
    fn another_rate_counts_from_the_moment_in_which_it_is_set() {
        let (mut limit, start) = limit(100);
        assert_eq!(limit.take(start + millis(100), 110, false), Some(110));
        // A hundred records are owed.
        limit.change(NonZeroU32::new(1000).expect("not zero"), start + millis(600));
        assert_eq!(limit.ready_at(1), start + millis(651));
        limit.change(NonZeroU32::new(1).expect("not zero"), start + millis(640));
        assert_eq!(limit.ready_at(1), start + millis(11_640));
        assert_eq!(limit.per_second().get(), 1);
        // Credit of a high rate is none at a low one.
        let (mut limit, start) = self::limit(1_000_000);
        limit.change(NonZeroU32::new(10).expect("not zero"), start + millis(1000));
        assert_eq!(limit.take(start + millis(1000), 10_000, true), Some(4));
    }

    proptest! {
        /// Whoever asks when, and for however much: no span of time has more than the rate allows.
        #[test]
        fn no_span_exceeds_the_rate(
            rate in prop_oneof![1u32..20, 20u32..5000, Just(u32::MAX)],
            asks in prop::collection::vec((0u64..3000, 1usize..20_000), 1..200),
        ) {
            let (mut limit, mut now) = limit(rate);
            let mut given: Vec<(Instant, usize)> = Vec::new();
            for (pause, wanted) in asks {
                now += millis(pause);
                let ready = limit.ready_at(wanted) <= now;
                let taken = limit.take(now, wanted, true);
                prop_assert_eq!(taken.is_some(), ready, "it comes when it was said to come, and not before");
                prop_assert!(taken.is_none_or(|n| (1..=wanted).contains(&n)));
                given.extend(taken.map(|n| (now, n)));
            }
            for (i, (from, _)) in given.iter().enumerate() {
                let mut sum = 0;
                for (to, n) in &given[i..] {
                    sum += n;
                    let allowed = f64::from(rate) * (*to - *from + KEPT).as_secs_f64() + 1.0;
                    prop_assert!(sum as f64 <= allowed, "{sum} in {:?}, {allowed} allowed", *to - *from);
                }
            }
        }

        /// With a backlog and calls of up to 0.3 seconds, every ten seconds have the rate within 5 %, but for one record.
        #[test]
        fn with_a_backlog_every_ten_seconds_have_the_rate(
            rate in prop_oneof![1u32..20, 20u32..50_000],
            calls in prop::collection::vec(0u64..300, 320),
        ) {
            let (mut limit, start) = limit(rate);
            let (mut now, mut given) = (start, Vec::new());
            for call in calls {
                now = now.max(limit.ready_at(1_000_000));
                given.push((now, limit.take(now, 1_000_000, true).expect("it is ready")));
                now += millis(call);
            }
            for from in (1..=20).map(|n| start + millis(n * 1000)) {
                let within = given.iter().filter(|(at, _)| (from..from + millis(10_000)).contains(at));
                let (sum, expected) = (within.map(|(_, n)| n).sum::<usize>() as f64, 10.0 * f64::from(rate));
                prop_assert!((sum - expected).abs() <= 0.05 * expected + 1.0, "{sum} records in ten seconds of {rate}/s");
            }
        }
    }
}
