//! What to do with a shard's subscription next. Pure: state, event and moment in, action out.
//!
//! ```text
//!            opened                     renewal due
//! Closed ───────────▶ Open ◀──────────────────────────▶ Renewing ── old one over ──▶ Succeeding
//!   ▲  ▲               │ │      opened, or refused          │                          │
//!   │  └── over, broke ┘ │ full                             │ full         opened: Open, refused: Closed
//!   │       or silent    ▼                                  │
//!   └───── room ────── Parked ◀─────────────────────────────┘          end of the shard: Ended, from everywhere
//! ```
//!
//! How soon a subscription is tried again:
//! - never within a second of the last call, which is the service's limit per consumer and shard;
//! - after `ResourceInUse`, as after a hand-over: a second later, each time;
//! - after its end, or the first failure since an event came: at once; then from one second to ten;
//! - after trouble that seldom passes by itself: likewise, until it was met five times in a row. It is reported then,
//!   and tried again now and then, since somebody may repair it.

use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use crate::{
    error::ErrorKind,
    limits,
    retrieval::trouble::{CONFIRMATIONS, Trouble},
};

const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// How a shard's subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    Closed,
    /// It is read.
    Open,
    /// It is read, and its successor is being opened.
    Renewing,
    /// It is over, and its successor is being opened.
    Succeeding,
    /// Closed on purpose: there was no room for events for long.
    Parked,
    /// The shard is closed and was read to its end.
    Ended,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The call for a subscription, or for a successor, succeeded.
    Opened,
    /// It failed.
    Refused(ErrorKind),
    /// An event came.
    Delivered,
    /// An event without a continuation came: the end of the shard, with its children or without.
    End { children: bool },
    /// The subscription ended as subscriptions do.
    Over,
    /// It ended with an error.
    Broke(ErrorKind),
    /// It said nothing for too long.
    Silent,
    /// There was no room for its events for too long.
    Full,
    /// There is room again.
    Room,
    /// It is old enough.
    RenewalDue,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Subscribe after the last event taken over, not before the moment. With `find`, the consumer may be gone: look for
    /// it, and register it if it is.
    Subscribe { at: Instant, find: bool },
    /// Read on, and say so when the moment of the renewal has come.
    Read { renew_at: Instant },
    /// Open a successor, and read on meanwhile.
    Renew,
    /// Read on while the successor is being opened.
    ReadOn,
    /// Wait for the successor.
    AwaitSuccessor,
    /// Deliver what was taken over, and wait until there is room for events.
    AwaitRoom,
    /// Deliver the end of the shard.
    Finish,
}

/// An action, and whether the error that led to it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) report: bool,
}

/// The plan for one shard.
#[derive(Debug)]
pub(super) struct Plan {
    state: State,
    renew_after: Duration,
    blocked_retry_interval: Duration,
    /// When the last call for a subscription was answered.
    called: Option<Instant>,
    renew_at: Instant,
    /// Failures in a row.
    failures: u32,
    trouble: Trouble,
    /// The shard seemed to end, but named no children. Every closed shard has children unless they are past retention,
    /// so that it is asked once more before it is believed.
    doubtful: bool,
}

impl Plan {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            state: State::Closed,
            renew_after: config.renew_after,
            blocked_retry_interval: config.blocked_retry_interval,
            called: None,
            renew_at: now,
            failures: 0,
            trouble: Trouble::default(),
            doubtful: false,
        }
    }

    #[cfg(test)]
    const fn state(&self) -> State {
        self.state
    }

    /// Takes a step. `random` is from 0 to 1.
    ///
    /// # Panics
    /// For an event that cannot happen in the present state.
    pub(super) fn on(&mut self, event: Event, now: Instant, random: f64) -> Step {
        if matches!(event, Event::Opened | Event::Refused(_)) {
            self.called = Some(now);
        }
        match (self.state, event) {
            (State::Closed | State::Renewing | State::Succeeding, Event::Opened) => {
                self.state = State::Open;
                self.renew_at = now + self.renew_after.mul_f64(1.0 - 0.1 * random);
                self.read()
            }
            (State::Open, Event::RenewalDue) => {
                self.state = State::Renewing;
                step(Action::Renew)
            }
            // What is wrong with the successor shows when the old one is over. Until then there is nothing to mend.
            (State::Renewing, Event::Refused(_)) => {
                self.state = State::Open;
                self.renew_at = now + limits::SUBSCRIBE_CALL_INTERVAL.mul_f64(1.0 + 4.0 * random);
                self.read()
            }
            (State::Open | State::Renewing | State::Parked, Event::Delivered) => {
                self.failures = 0;
                self.trouble.over();
                self.doubtful = false;
                self.read()
            }
            (State::Open | State::Renewing | State::Parked, Event::End { children }) => {
                if children || self.doubtful {
                    self.state = State::Ended;
                    return step(Action::Finish);
                }
                self.doubtful = true;
                self.closed(now)
            }
            // The service ends a subscription with an error when its successor takes its place.
            (State::Renewing, Event::Over | Event::Broke(_) | Event::Silent) => {
                self.state = State::Succeeding;
                step(Action::AwaitSuccessor)
            }
            (State::Open, Event::Over) => self.closed(now),
            (State::Open, Event::Silent) => self.failed(ErrorKind::Timeout, now, random),
            (State::Open, Event::Broke(kind)) | (State::Closed | State::Succeeding, Event::Refused(kind)) => self.failed(kind, now, random),
            (State::Open | State::Renewing, Event::Full) => {
                self.state = State::Parked;
                step(Action::AwaitRoom)
            }
            (State::Parked, Event::Room) => self.closed(now),
            (state, event) => panic!("{event:?} cannot happen in {state:?}"),
        }
    }

    const fn read(&self) -> Step {
        step(match self.state {
            State::Renewing => Action::ReadOn,
            State::Parked => Action::AwaitRoom,
            _ => Action::Read { renew_at: self.renew_at },
        })
    }

    /// Begins anew as soon as allowed.
    fn closed(&mut self, now: Instant) -> Step {
        self.again(now, false)
    }

    fn again(&mut self, at: Instant, find: bool) -> Step {
        self.state = State::Closed;
        let allowed = self.called.map(|called| called + limits::SUBSCRIBE_CALL_INTERVAL);
        step(Action::Subscribe { at: allowed.map_or(at, |allowed| allowed.max(at)), find })
    }

    fn failed(&mut self, kind: ErrorKind, now: Instant, random: f64) -> Step {
        match kind {
            ErrorKind::ResourceInUse => self.again(now, false),
            ErrorKind::Throttled
            | ErrorKind::LimitExceeded
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::ExpiredIterator
            | ErrorKind::ExpiredToken
            | ErrorKind::Shutdown => {
                self.trouble.over();
                let delay = self.delay(random);
                self.again(now + delay, false)
            }
            ErrorKind::NotFound
            | ErrorKind::AccessDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::Mismatch
            | ErrorKind::LeaseLost
            | ErrorKind::Processor
            | ErrorKind::Internal => {
                let met = self.trouble.met(kind);
                let delay = self.delay(random);
                let delay = if met < CONFIRMATIONS { delay } else { self.blocked_retry_interval.mul_f64(0.5 + 0.5 * random) };
                let next = self.again(now + delay, kind == ErrorKind::NotFound);
                Step { report: met == CONFIRMATIONS, ..next }
            }
        }
    }

    /// Nothing for the first failure, then from one second to ten.
    fn delay(&mut self, random: f64) -> Duration {
        let doublings = self.failures.checked_sub(1);
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = doublings else { return Duration::ZERO };
        let delay = limits::SUBSCRIBE_CALL_INTERVAL.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX));
        delay.mul_f64(1.0 + random).min(LONGEST_DELAY)
    }
}

const fn step(action: Action) -> Step {
    Step { action, report: false }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
