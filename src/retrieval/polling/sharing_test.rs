use super::*;
use crate::{
    random::Randomness,
    retrieval::polling::{
        Config,
        pacing::{Call, Pacer, Page},
    },
};

const MIB: f64 = 1024.0 * 1024.0;
const CALLS_PER_SECOND: f64 = 5.0;
const BYTES_PER_SECOND: f64 = 2.0 * MIB;

/// How the service counts, of which nothing is documented but the numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Limiter {
    /// So much in a second, which begins with the first call in it; longer when bytes were overdrawn. As the local stream.
    Windows { calls_from: f64, calls: f64, bytes_from: f64, bytes: f64 },
    /// A second's worth saved up at the most.
    Buckets { at: f64, calls: f64, bytes: f64 },
}

impl Limiter {
    const WINDOWS: Self = Self::Windows { calls_from: -9.0, calls: 0.0, bytes_from: -9.0, bytes: 0.0 };
    const BUCKETS: Self = Self::Buckets { at: 0.0, calls: CALLS_PER_SECOND, bytes: BYTES_PER_SECOND };

    fn admits(&mut self, now: f64, size: f64) -> bool {
        match self {
            Self::Windows { calls_from, calls, bytes_from, bytes } => {
                if now >= *calls_from + 1.0 {
                    *calls = 0.0;
                }
                if now >= *bytes_from + (*bytes / BYTES_PER_SECOND).max(1.0) {
                    *bytes = 0.0;
                }
                if *calls >= CALLS_PER_SECOND || *bytes >= BYTES_PER_SECOND {
                    return false;
                }
                if *calls == 0.0 {
                    *calls_from = now;
                }
                if *bytes == 0.0 {
                    *bytes_from = now;
                }
                *calls += 1.0;
                *bytes += size;
            }
            Self::Buckets { at, calls, bytes } => {
                let since = now - std::mem::replace(at, now);
                *calls = (*calls + since * CALLS_PER_SECOND).min(CALLS_PER_SECOND);
                *bytes = (*bytes + since * BYTES_PER_SECOND).min(BYTES_PER_SECOND);
                if *calls < 1.0 || *bytes <= 0.0 {
                    return false;
                }
                *calls -= 1.0;
                *bytes -= size;
            }
        }
        true
    }
}

/// One application that polls the shard, behind all the time, from one second to another.
#[derive(Debug, Clone, Copy)]
struct Application {
    from: f64,
    to: f64,
    /// One that does not share: so many calls a second, whatever the answer.
    fixed: Option<f64>,
}

const ALWAYS: Application = Application { from: 0.0, to: f64::MAX, fixed: None };

/// What one application got.
#[derive(Debug, Clone, Copy, Default)]
struct Got {
    answered: u32,
    throttled: u32,
    bytes: f64,
}

#[derive(Debug, Clone, Copy)]
struct Scenario<'a> {
    applications: &'a [Application],
    limiter: Limiter,
    record_bytes: f64,
    /// Seconds that count.
    counted: (f64, f64),
}

/// Polls by virtual time.
fn run(scenario: Scenario<'_>, seed: u64) -> Vec<Got> {
    let Scenario { applications, mut limiter, record_bytes, counted } = scenario;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let start = runtime.block_on(async { Instant::now() });
    let random = Randomness::seeded(seed);
    let dice = || random.in_range(0..1000) as f64 / 1000.0;
    let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
    // Not in step.
    let starts: Vec<f64> = applications.iter().map(|a| a.from + 0.2 * dice()).collect();
    let mut pacers: Vec<_> = starts.iter().map(|from| Pacer::new(&Config::default(), after(*from))).collect();
    let mut fixed_next = starts;
    let mut got = vec![Got::default(); applications.len()];
    loop {
        let due = |i: usize| match applications[i].fixed {
            None => (pacers[i].not_before() - start).as_secs_f64(),
            Some(_) => fixed_next[i],
        };
        let next = (0..applications.len()).filter(|i| due(*i) < applications[*i].to).min_by(|a, b| due(*a).total_cmp(&due(*b)));
        let Some((i, now)) = next.map(|i| (i, due(i))).filter(|(_, now)| *now < counted.1) else { return got };
        let limit = pacers[i].limit(pacers[i].wanted_bytes(1024 * 1024));
        let size = f64::from(limit) * record_bytes;
        let size = if applications[i].fixed.is_some() { size.min(record_bytes * 10.0) } else { size };
        let call = Call { sent: after(now), answered: after(now + 0.005 * (1.0 + dice())) };
        let admitted = limiter.admits(now + 0.002, size);
        match applications[i].fixed {
            Some(rate) => fixed_next[i] += 1.0 / rate,
            None if admitted => {
                let page = Page { records: limit, bytes: size as u64, limit, millis_behind_latest: 5000 };
                pacers[i].answered(call, page, dice());
            }
            None => pacers[i].throttled(call, dice()),
        }
        if now >= counted.0 {
            let Got { answered, throttled, bytes } = &mut got[i];
            *answered += u32::from(admitted);
            *throttled += u32::from(!admitted);
            *bytes += if admitted { size } else { 0.0 };
        }
    }
}

/// Of many seeds: what the worst of the applications got of its part of the shard, on average and in the worst run; how
/// much of the shard was used; how many of all calls were throttled, in percent.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    least: f64,
    least_of_all: f64,
    used: f64,
    throttled: f64,
}

fn figures(scenario: Scenario<'_>, sharers: usize, seeds: u64) -> Figures {
    let seconds = scenario.counted.1 - scenario.counted.0;
    let mut figures = Figures { least_of_all: f64::MAX, ..Figures::default() };
    for seed in 0..seeds {
        let got = &run(scenario, seed)[..sharers];
        let used = |g: &Got| (f64::from(g.answered) / CALLS_PER_SECOND).max(g.bytes / BYTES_PER_SECOND) / seconds;
        let least = got.iter().map(used).fold(f64::MAX, f64::min) * sharers as f64;
        let (answered, throttled) = got.iter().fold((0, 0), |(a, t), g| (a + g.answered, t + g.throttled));
        figures.least += least / seeds as f64;
        figures.least_of_all = figures.least_of_all.min(least);
        figures.used += got.iter().map(used).sum::<f64>() / seeds as f64;
        figures.throttled += 100.0 * f64::from(throttled) / f64::from(answered + throttled) / seeds as f64;
    }
    figures
}

/// For how long, in seconds, and what applications, of which so many share.
type Case<'a> = (&'a str, &'a [Application], usize, (f64, f64));

/// Runs the case in all four ways: bound by calls and by bytes, counted in windows and in buckets.
fn in_all_ways((name, applications, sharers, counted): Case<'_>, check: impl Fn(&str, Limiter, Figures)) {
    for (counts, limiter) in [("windows", Limiter::WINDOWS), ("buckets", Limiter::BUCKETS)] {
        for (bound, record_bytes) in [("calls", 10.0), ("bytes", 50_000.0)] {
            let figures = figures(Scenario { applications, limiter, record_bytes, counted }, sharers, 20);
            check(&format!("{name}, {bound}, {counts}: {figures:.3?}"), limiter, figures);
        }
    }
}

#[test]
fn equal_applications_share_a_shard_evenly_and_are_seldom_throttled() {
    let long = (30.0, 930.0);
    in_all_ways(("one", &[ALWAYS], 1, long), |name, _, figures| {
        assert!(figures.least_of_all > 0.98 && figures.throttled == 0.0, "{name}");
    });
    for (name, applications) in [("two", &[ALWAYS; 2][..]), ("three", &[ALWAYS; 3]), ("five", &[ALWAYS; 5])] {
        in_all_ways((name, applications, applications.len(), long), |name, limiter, figures| {
            let (least, throttled) = match (limiter, applications.len()) {
                (Limiter::Windows { .. }, 5) => (0.90, 1.0),
                (Limiter::Windows { .. }, _) => (0.88, 2.3),
                (Limiter::Buckets { .. }, 5) => (0.75, 7.0),
                (Limiter::Buckets { .. }, _) => (0.85, 3.6),
            };
            assert!(figures.least > least && figures.used > 0.9 && figures.throttled < throttled, "{name}");
        });
    }
}

#[test]
fn an_application_that_joins_gets_its_part_and_what_one_leaves_is_taken() {
    let joins = [ALWAYS, ALWAYS, Application { from: 200.0, ..ALWAYS }];
    in_all_ways(("one joins", &joins, 3, (230.0, 530.0)), |name, _, figures| {
        assert!(figures.least > 0.57 && figures.used > 0.8 && figures.throttled < 5.0, "{name}");
    });
    let leaves = [ALWAYS, ALWAYS, Application { to: 200.0, ..ALWAYS }];
    in_all_ways(("one leaves", &leaves, 2, (230.0, 530.0)), |name, _, figures| {
        assert!(figures.least > 0.70 && figures.used > 0.8 && figures.throttled < 1.6, "{name}");
    });
    in_all_ways(("two leave", &[ALWAYS, leaves[2], leaves[2]], 1, (700.0, 800.0)), |name, _, figures| {
        assert!(figures.least_of_all > 0.98 && figures.throttled == 0.0, "{name}");
    });
}

#[test]
fn what_others_take_that_do_not_share_is_left_to_them() {
    let beside = [ALWAYS, ALWAYS, Application { fixed: Some(1.0), ..ALWAYS }];
    in_all_ways(("two beside one that polls once a second", &beside, 2, (30.0, 930.0)), |name, _, figures| {
        assert!(figures.least > 0.58 && figures.throttled < 5.5, "{name}");
    });
}

/// A reader that calls as soon as it may, and at the most so often.
struct Reader {
    sharing: Sharing,
    next: Instant,
    idle: Duration,
}

impl Reader {
    fn new(idle: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let next = runtime.block_on(async { Instant::now() });
        Self { sharing: Sharing::new(SPACING, next), next, idle }
    }

    /// Returns when it was sent.
    fn call(&mut self, admitted: bool) -> Instant {
        let sent = self.next;
        let call = Sent { sent, at: sent + Duration::from_millis(5), random: 0.5 };
        self.next = if admitted { self.sharing.answered(call, SPACING, Duration::ZERO) } else { self.sharing.throttled(call) };
        self.next = self.next.max(sent + self.idle);
        sent
    }
}

const SPACING: Duration = Duration::from_millis(200);

#[test]
fn a_call_that_is_throttled_by_chance_changes_nothing() {
    let mut reader = Reader::new(Duration::ZERO);
    for n in 0..5000 {
        // Once in 80 seconds.
        reader.call(n % 400 != 0);
        assert!(!reader.sharing.is_shared(), "call {n}");
    }
}

#[test]
fn a_shard_that_is_throttled_each_time_is_asked_ever_less_often() {
    let mut reader = Reader::new(Duration::ZERO);
    let start = reader.next;
    let mut calls = 0;
    while reader.next < start + Duration::from_secs(3600) {
        reader.call(false);
        calls += u32::from(reader.next > start + Duration::from_secs(60));
    }
    assert!((1800..2400).contains(&calls), "{calls} calls in an hour");
    // It is read again at once, and at the full rate after a while.
    while reader.sharing.is_shared() {
        reader.call(true);
    }
    let took = reader.next - start - Duration::from_secs(3600);
    assert!(took < Duration::from_secs(900), "{took:?}");
}

#[test]
fn a_reader_with_little_to_ask_for_is_not_held_back() {
    let mut reader = Reader::new(Duration::from_secs(1));
    reader.call(false);
    reader.call(false);
    assert!(reader.sharing.is_shared(), "a contest");
    for _ in 0..30 {
        reader.call(true);
    }
    assert!((reader.sharing.share() - 1.0).abs() < 1e-9, "all that it asked for was answered: {:?}", reader.sharing);
}

#[test]
fn a_larger_share_that_cannot_be_had_is_left_for_the_moments_of_before() {
    let mut reader = Reader::new(Duration::ZERO);
    while !(reader.sharing.is_shared() && reader.sharing.mode == Mode::Keeping) {
        // Two of three, as for a third reader.
        reader.call(reader.sharing.in_a_row == 2);
    }
    assert!((reader.sharing.share() - KEPT / 3.0).abs() < 1e-9, "{:?}", reader.sharing);
    let mut last = reader.call(true);
    while reader.sharing.mode == Mode::Keeping {
        last = reader.call(true);
    }
    assert!((reader.sharing.share() - KEPT / 2.0).abs() < 1e-9, "{:?}", reader.sharing);
    reader.call(true);
    reader.call(false);
    assert_eq!(reader.sharing.mode, Mode::Keeping);
    let turns = (reader.next - last).as_secs_f64() / SPACING.div_f64(KEPT / 3.0).as_secs_f64();
    assert!((turns - turns.round()).abs() < 1e-6 && turns > 1.5, "{turns} turns after the last call kept");
}
