//! Rates: so much per second, with debt.

use std::time::Duration;

use crate::types::Timestamp;

const WINDOW: Duration = Duration::from_secs(1);

/// What was used of a budget that is renewed every second.
///
/// One use may overdraw the budget; then the window lasts until the debt is worked off. So an answer of 10 MiB under a
/// rate of 2 MiB per second closes the shard for five seconds, as GetRecords is documented to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Budget {
    began: Timestamp,
    used: u64,
}

impl Budget {
    fn used_at(&self, now: Timestamp, per_second: u64) -> u64 {
        let lasts = WINDOW.max(Duration::from_millis(self.used.saturating_mul(1000) / per_second.max(1)));
        // A clock set back must not close a shard for as long as it was set back.
        if now < self.began || now >= self.began.plus(lasts) { 0 } else { self.used }
    }

    /// Whether something is left; a use of unknown size may begin.
    pub(super) fn has_room(&self, now: Timestamp, per_second: Option<u64>) -> bool {
        per_second.is_none_or(|rate| self.used_at(now, rate) < rate)
    }

    /// Whether `amount` fits. More than a whole second's worth fits a fresh window.
    pub(super) fn admits(&self, now: Timestamp, amount: u64, per_second: Option<u64>) -> bool {
        per_second.is_none_or(|rate| match self.used_at(now, rate) {
            0 => true,
            used => used.saturating_add(amount) <= rate,
        })
    }

    /// When something is left again, at the earliest now.
    pub(super) fn opens_at(&self, now: Timestamp, per_second: Option<u64>) -> Timestamp {
        match per_second {
            Some(rate) if !self.has_room(now, per_second) => {
                let lasts = WINDOW.max(Duration::from_millis(self.used.saturating_mul(1000) / rate.max(1)));
                self.began.plus(lasts)
            }
            Some(_) | None => now,
        }
    }

    /// Counts a use.
    pub(super) fn charge(&mut self, now: Timestamp, amount: u64, per_second: Option<u64>) {
        let Some(rate) = per_second else { return };
        match self.used_at(now, rate) {
            0 => *self = Self { began: now, used: amount },
            used => self.used = used.saturating_add(amount),
        }
    }

    /// Counts one call, or says that there were too many.
    pub(super) fn call(&mut self, now: Timestamp, per_second: Option<u32>) -> bool {
        let rate = per_second.map(u64::from);
        let admitted = self.has_room(now, rate);
        if admitted {
            self.charge(now, 1, rate);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn five_calls_a_second() {
        let mut budget = Budget::default();
        let admitted: Vec<bool> = [0, 1, 2, 3, 4, 5, 999, 1000].into_iter().map(|t| budget.call(at(t), Some(5))).collect();
        assert_eq!(admitted, [true, true, true, true, true, false, false, true]);
    }

    #[test]
    fn an_answer_of_10_mib_closes_five_seconds() {
        let mut budget = Budget::default();
        let rate = Some(2 * MIB);
        budget.charge(at(0), 10 * MIB, rate);
        for closed in [0, 1, 1000, 4999] {
            assert!(!budget.has_room(at(closed), rate), "{closed}");
            assert_eq!(budget.opens_at(at(closed), rate), at(5000));
        }
        assert!(budget.has_room(at(5000), rate));
        assert_eq!(budget.opens_at(at(5001), rate), at(5001));
    }

    #[test]
    fn small_answers_share_the_second() {
        let mut budget = Budget::default();
        let rate = Some(2 * MIB);
        for t in 0..2 {
            assert!(budget.has_room(at(t), rate));
            budget.charge(at(t), 3 * MIB / 2, rate);
        }
        assert!(!budget.has_room(at(1499), rate));
        assert!(budget.has_room(at(1500), rate));
    }

    #[test]
    fn a_large_record_needs_a_fresh_window_and_leaves_a_debt() {
        let mut budget = Budget::default();
        let rate = Some(MIB);
        assert!(budget.admits(at(0), 4 * MIB, rate));
        budget.charge(at(0), 4 * MIB, rate);
        assert!(!budget.admits(at(3999), 1, rate));
        assert!(budget.admits(at(4000), 1, rate));
        budget.charge(at(4000), 1, rate);
        assert!(!budget.admits(at(4001), MIB, rate));
    }

    #[test]
    fn a_clock_set_back_opens_the_window() {
        let mut budget = Budget::default();
        budget.charge(at(0), 10 * MIB, Some(MIB));
        assert!(budget.has_room(at(-1), Some(MIB)));
    }

    #[test]
    fn no_rate_no_limit() {
        let mut budget = Budget::default();
        assert!((0..10_000).all(|_| budget.call(at(0), None)));
    }
}
