//! How much of a shard this reader takes when other applications poll it, too. Pure: outcomes of calls in, rate out.
//!
//! Readers know nothing of each other but that calls are throttled. If each holds back a little when that happens and comes
//! forward again, those that happened to be slower stay so for minutes. But the service's limit is known, and so is what a fair
//! share must be: a half, a third, a quarter of it. Who keeps just below such a rate, as all others do, is not throttled at all.
//!
//! ```text
//!           throttled twice           30 answers, or 25 s
//!  All ───────────────────▶ Contest ──────────────────────▶ Keeping 1/n ◀──── throttled ──── Probing 1/(n-1)
//!   ▲                                                        │   │  ▲ │ ▲                        ▲  │
//!   │                                  throttled on and on ──┘   │  │ └─┼── quiet for long ──────┘  │
//!   └──────────────────── 1/1 ───────────────────────────────────┘  └───┴──── not throttled ────────┘
//! ```
//!
//! - *Contest*: everybody tries for the full rate, with small pages at random moments. What a reader gets is its fair share by
//!   symmetry; the fraction that it is nearest to is kept from then on.
//! - *Keeping*: calls come at equal distances, which gives readers of equal rates a place each in the service's second. A throttled
//!   call is left out; one that follows soon means that two are in each other's way, and moves the calls to other moments.
//!   When it does not end the share is too large.
//! - *Probing*: after a quiet time the next larger share is tried. The first throttled call ends it, at the moments kept
//!   before, and the next attempt comes later: a failed one costs each of the others about a call.
//!
//! What it comes to with readers at full load, by the model of `sharing_test.rs`, from 30 s to 15 min after the start and on
//! average over seeds: what the one that got least had of an equal part, and which calls of all were throttled.
//!
//! | | windows of a second | saved up for a second |
//! |---|---|---|
//! | two | 94 %, 1.3 % | 95 %, 1.1 % |
//! | three | 91 to 94 %, 2.0 % | 91 to 94 %, 1.9 to 3 % |
//! | five | 93 %, 0.7 % | 79 to 83 %, 5 to 6 % |
//! | one joins two, until 5 min later | 60 to 80 %, 3 % | 85 to 94 %, 2 to 4 % |
//! | one of three leaves, until 5 min later | 75 to 85 %, 1.2 % | 88 to 90 %, 1 % |
//!
//! The columns are ways in which the service may count, which is not documented; the local stream counts in windows, which
//! begin with the first call after the last. More than `KEPT` of the whole is not to be had in these without being throttled more
//! often, since they do not begin when a reader's second does. Where the service saves up, the last of five readers cannot
//! tell 1/5 from 1/4: what it takes too much is five calls of a hundred. A joiner that finds the shard used up to `KEPT` must
//! wait until the others' strikes add up, which bounds how evenly the first minutes can go.

use std::time::Duration;

use tokio::time::Instant;

/// The part of a fair share that is used: the rest leaves room for moments that do not fit.
const KEPT: f64 = 0.94;
/// Most readers that are told apart.
const MOST_READERS: f64 = 16.0;
/// What a page has at most, as a part of the bytes of a second: with more, one reader's page keeps the others out for long.
pub(super) const PAGE: f64 = 0.25;

/// A contest lasts for so many answers, or so long.
const CONTEST_ANSWERS: u32 = 30;
const CONTEST_LASTS: Duration = Duration::from_secs(25);
/// Two throttled calls within this are the beginning of one.
const BY_CHANCE: Duration = Duration::from_secs(60);
/// Of the full rate: what is nearer to it than this is no share, but all.
const ALL: f64 = 0.9;
/// What is below this is taken for one of equal shares. What is above is what others leave that do not share.
const EQUAL: f64 = 0.62;
/// From the fourth reader on the estimate is uncertain. It is rounded down, since what is free is found by probing.
const UNCERTAIN: f64 = 3.4;

/// What an answer takes off the strikes: 2.5 % of calls may be throttled.
const FORGIVEN: f64 = 1.0 / 40.0;
/// Strikes from which a share is too large, for each reader that it leaves room for: who has more is to yield first. It is
/// about as many as it takes to find moments to oneself.
const STRIKES: f64 = 3.0;
/// The same for shares with which calls are about a second apart, which need not be looked for.
const STRIKES_OF_SLOW: f64 = 4.0;
const SLOW: f64 = 0.25;
/// Strikes below which a throttled call is one by itself.
const ALONE: f64 = 0.5;

/// First time without a throttled call before the next larger share is tried.
const QUIET: Duration = Duration::from_secs(30);
/// The same after a throttled call, which probing of others may have brought.
const QUIET_AFTER: Duration = Duration::from_secs(20);
/// Longest such time, and the same for one reader; it grows with the square of their number, since each probes and each
/// is met by it.
const LONGEST_QUIET: Duration = Duration::from_secs(100);
const LONGEST_QUIET_SQUARED: Duration = Duration::from_secs(15);
/// How long a larger share has to go well.
const PROBE: Duration = Duration::from_secs(12);

/// Longest wait after a throttled call; it grows after this many in a row.
const RETRY: Duration = Duration::from_millis(250);
const PATIENT: u32 = 8;
const LONGEST_RETRY: Duration = Duration::from_millis(3200);

/// A call as sharing sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) sent: Instant,
    /// When it was counted, or throttled.
    pub(super) at: Instant,
    /// From 0 to 1.
    pub(super) random: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// At `kept`.
    Keeping,
    Contest {
        since: Instant,
        calls: u32,
        answers: u32,
        /// In seconds of the full rate.
        bytes: f64,
    },
    /// Tries `share`; calls were at this moment and distance before.
    Probing { since: Instant, share: f64, slot: Instant, distance: Duration },
}

/// One reader's share.
#[derive(Debug)]
pub(super) struct Sharing {
    mode: Mode,
    /// Share of the full rate that is kept, at most 1.
    kept: f64,
    /// At the full rate: the last throttled call.
    throttled: Option<Instant>,
    /// Throttled calls that were not forgiven yet.
    strikes: f64,
    /// Throttled calls in a row.
    in_a_row: u32,
    /// When the next larger share is tried, if nothing is throttled until then, and how long that was to last.
    probe_at: Instant,
    quiet_for: Duration,
    /// Time that the last answer uses up at the full rate.
    cost: Duration,
    spacing: Duration,
}

impl Sharing {
    /// `spacing` is the time between calls at the full rate.
    pub(super) fn new(spacing: Duration, now: Instant) -> Self {
        // Of a limit that is none, nothing is left.
        let spacing = spacing.max(Duration::from_micros(1));
        Self {
            mode: Mode::Keeping,
            kept: 1.0,
            throttled: None,
            strikes: 0.0,
            in_a_row: 0,
            probe_at: now,
            quiet_for: QUIET,
            cost: spacing,
            spacing,
        }
    }

    /// Share of the full rate to read at.
    pub(super) const fn share(&self) -> f64 {
        match self.mode {
            Mode::Keeping => self.kept,
            Mode::Contest { .. } => 1.0,
            Mode::Probing { share, .. } => share,
        }
    }

    /// Whether others read the shard, as far as that is known.
    pub(super) fn is_shared(&self) -> bool {
        self.kept < 1.0 || matches!(self.mode, Mode::Contest { .. })
    }

    /// Notes an answer that uses up `cost` at the full rate, of which `bytes` are by its bytes. Returns the earliest moment of
    /// the next call.
    pub(super) fn answered(&mut self, call: Sent, cost: Duration, bytes: Duration) -> Instant {
        let Sent { sent, at, random } = call;
        self.in_a_row = 0;
        self.strikes = (self.strikes - FORGIVEN).max(0.0);
        let cost = cost.max(self.spacing);
        self.cost = cost;
        if let Mode::Contest { calls, answers, bytes: all, .. } = &mut self.mode {
            *calls += 1;
            *answers += 1;
            *all += bytes.as_secs_f64();
        }
        self.proceed(call);
        let distance = cost.div_f64(self.share());
        match self.mode {
            // In step with another reader, one would be throttled each time.
            Mode::Contest { .. } => at + distance.mul_f64(1.0 + 0.4 * random),
            Mode::Probing { share, .. } if share >= 1.0 => at + distance.mul_f64(1.0 + 0.25 * random),
            Mode::Keeping if self.kept >= 1.0 => at + distance,
            Mode::Keeping | Mode::Probing { .. } => sent + distance,
        }
    }

    /// Notes a throttled call. Returns the moment of the next one.
    pub(super) fn throttled(&mut self, call: Sent) -> Instant {
        let Sent { sent, at, random } = call;
        let first = self.in_a_row == 0;
        self.in_a_row += 1;
        match &mut self.mode {
            Mode::Contest { calls, .. } => {
                *calls += 1;
                self.proceed(call);
                if matches!(self.mode, Mode::Contest { .. }) {
                    return at + self.spacing.mul_f64(0.6 + 0.8 * random);
                }
            }
            Mode::Probing { slot, distance, .. } => {
                let (slot, distance) = (*slot, *distance);
                self.mode = Mode::Keeping;
                self.quiet_for = (2 * self.quiet_for).min(self.longest_quiet()).mul_f64(0.75 + 0.5 * random);
                self.probe_at = at + self.quiet_for;
                let turns = (at + self.spacing / 4 - slot).as_secs_f64() / distance.as_secs_f64();
                return slot + distance.mul_f64(turns.ceil());
            }
            Mode::Keeping if self.kept >= 1.0 => {
                let again = self.throttled.replace(at).is_some_and(|before| at - before < BY_CHANCE);
                if again {
                    self.throttled = None;
                    self.mode = Mode::Contest { since: at, calls: 0, answers: 0, bytes: 0.0 };
                }
            }
            Mode::Keeping => {
                let by_itself = first && self.strikes < ALONE;
                self.strikes += f64::from(u8::from(first));
                self.probe_at = self.probe_at.max(at + QUIET_AFTER);
                if self.strikes >= if self.kept < SLOW { STRIKES_OF_SLOW } else { STRIKES * self.readers().round() } {
                    self.keep(KEPT / (self.readers().round() + 1.0).min(MOST_READERS), call);
                } else if by_itself {
                    return sent + self.cost.div_f64(self.kept);
                }
            }
        }
        let longest = (RETRY * (1 << self.in_a_row.saturating_sub(PATIENT).min(8))).min(LONGEST_RETRY);
        at + longest.min(self.cost.div_f64(self.share()).max(RETRY)).mul_f64(0.1 + 0.9 * random)
    }

    /// Does what time brings about.
    fn proceed(&mut self, call: Sent) {
        let Sent { sent, at: now, .. } = call;
        match self.mode {
            Mode::Contest { since, calls, answers, bytes } => {
                let lasted = (now - since).as_secs_f64();
                if (answers >= CONTEST_ANSWERS && lasted > 0.0) || now - since >= CONTEST_LASTS {
                    let possible = lasted / self.spacing.as_secs_f64();
                    let got = (f64::from(answers) / possible).max(bytes / lasted);
                    // Who has little to ask for is not in the others' way.
                    let asked = if f64::from(calls) < 0.6 * possible { f64::from(answers) / f64::from(calls.max(1)) } else { 0.0 };
                    self.keep(share_of(got.max(asked)), call);
                }
            }
            Mode::Probing { since, share, .. } if now - since >= PROBE => self.keep(share, call),
            Mode::Keeping if self.kept < 1.0 && now >= self.probe_at => {
                let readers = (self.readers() - 0.01).ceil() - 1.0;
                let share = if readers <= 1.0 { 1.0 } else { KEPT / readers };
                self.mode = Mode::Probing { since: now, share, slot: sent, distance: self.cost.div_f64(self.kept) };
            }
            Mode::Keeping | Mode::Probing { .. } => {}
        }
    }

    fn keep(&mut self, share: f64, call: Sent) {
        self.mode = Mode::Keeping;
        self.kept = share;
        self.strikes = 0.0;
        self.quiet_for = QUIET.mul_f64(0.5 + call.random);
        self.probe_at = call.at + self.quiet_for;
    }

    /// How many readers there are, as this one's share says.
    fn readers(&self) -> f64 {
        if self.kept >= 1.0 { 1.0 } else { KEPT / self.kept }
    }

    fn longest_quiet(&self) -> Duration {
        LONGEST_QUIET_SQUARED.mul_f64(self.readers().powi(2)).max(LONGEST_QUIET)
    }
}

/// What to keep of a rate that was got in a contest.
fn share_of(got: f64) -> f64 {
    if got >= ALL {
        return 1.0;
    }
    if got > EQUAL {
        return got * KEPT;
    }
    let readers = 1.0 / got.max(1.0 / MOST_READERS);
    let rounded = if readers > UNCERTAIN { (readers + 0.8).floor() } else { readers.round().max(2.0) };
    KEPT / rounded.min(MOST_READERS)
}

#[cfg(test)]
#[path = "sharing_test.rs"]
mod tests;
