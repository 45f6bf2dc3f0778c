//! Runs ranges of seeds, compares runs of one seed, and replays.

use std::{
    collections::BTreeMap,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    plan::Plan,
    run,
    world::{Verdict, Violation},
};

/// Seeds side by side.
const THREADS: usize = 2;

/// More failing seeds tell nothing new; `FAILURES=1` stops at the first.
fn enough_failures() -> usize {
    std::env::var("FAILURES").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// What a range of seeds came to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) failures: BTreeMap<u64, Violation>,
    wall: Duration,
    simulated: Duration,
    events: u64,
    put: u64,
    delivered: u64,
    repeated: u64,
    takes: u64,
    workers: u64,
    shards: u64,
    faults: u64,
    probes: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn add(&mut self, plan: &Plan, verdict: Verdict) {
        self.seeds += 1;
        self.simulated += if plan.absence { verdict.elapsed.saturating_sub(run::ABSENT) } else { verdict.elapsed };
        self.events += verdict.events;
        self.put += verdict.put;
        self.delivered += verdict.delivered;
        self.repeated += verdict.repeated;
        self.takes += verdict.takes;
        self.workers += u64::from(plan.workers);
        self.shards += u64::from(plan.shards);
        self.faults += plan.faults.len() as u64;
        for (probe, count) in verdict.probes {
            *self.probes.entry(probe).or_default() += count;
        }
        if let Some(violation) = verdict.violations.into_iter().next() {
            self.failures.insert(plan.seed, violation);
        }
    }
}

/// `0..1000`, with the end left out.
pub(crate) fn parse_range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.trim().split_once("..")?;
    let range = from.trim().parse().ok()?..to.trim().parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// The machine's time: the one thing here that is measured outside of the simulation.
#[expect(clippy::disallowed_methods, reason = "speed is a matter of real time")]
pub(crate) fn stopwatch() -> impl Fn() -> Duration {
    let started = std::time::Instant::now();
    move || started.elapsed()
}

/// Runs all seeds of the range.
pub(crate) fn run(seeds: Range<u64>) -> Summary {
    let elapsed = stopwatch();
    let enough = enough_failures();
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let locked = || summary.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || locked().failures.len() >= enough {
                        return;
                    }
                    let plan = Plan::of(seed);
                    let verdict = run::run(plan.clone(), false);
                    if let Some(violation) = verdict.violations.first() {
                        eprintln!("seed {seed}: {violation}\n    replay: {}", replay_command(seed));
                    }
                    locked().add(&plan, verdict);
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.wall = elapsed();
    summary
}

fn replay_command(seed: u64) -> String {
    format!("SEED={seed} cargo test --release --test simulation")
}

/// Prints the account of a range.
pub(crate) fn print(summary: &Summary) {
    let Summary { seeds, failures, wall, simulated, events, put, delivered, repeated, takes, workers, shards, faults, probes } = summary;
    let each = |total: &u64| *total as f64 / (*seeds).max(1) as f64;
    println!(
        "{seeds} seeds in {:.1} s: {:.0} seeds per minute; {:.1} hours simulated, {:.0} times real time",
        wall.as_secs_f64(),
        *seeds as f64 * 60.0 / wall.as_secs_f64(),
        simulated.as_secs_f64() / 3600.0,
        simulated.as_secs_f64() / wall.as_secs_f64()
    );
    println!(
        "on average {:.1} workers, {:.1} shards at the start, {:.1} faults, {:.0} records, {:.0} leases taken, {:.0} events",
        each(workers),
        each(shards),
        each(faults),
        each(put),
        each(takes),
        each(events)
    );
    println!("records put {put}, delivered {delivered}, of these repeated {repeated}");
    for (probe, count) in probes {
        println!("reached: {probe} {count} times");
    }
    println!("failing seeds: {}", failures.len());
    for (seed, violation) in failures {
        println!("  seed {seed}: {violation}\n    replay: {}", replay_command(*seed));
    }
}

/// Prints the account, and that runs can be repeated.
pub(crate) fn report(summary: &Summary) -> ExitCode {
    print(summary);
    match same_seed_same_log(0..4) {
        Ok(()) => println!("seeds 0..4 run twice: same log"),
        Err(difference) => {
            println!("{difference}");
            return ExitCode::FAILURE;
        }
    }
    if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs each seed twice: if the logs differ, no other result counts.
pub(crate) fn same_seed_same_log(seeds: Range<u64>) -> Result<(), String> {
    for seed in seeds {
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| run::run(Plan::of(seed), true));
            let second = run::run(Plan::of(seed), true);
            (first.join().expect("the harness does not panic"), second)
        });
        if first.hash == second.hash {
            continue;
        }
        let at = first.lines.iter().zip(&second.lines).position(|(a, b)| a != b);
        let lines = at.map_or_else(
            || "in what is not shown".to_owned(),
            |at| format!("at line {at}:\n  {}\n  {}", first.lines[at], second.lines[at]),
        );
        return Err(format!("two runs of seed {seed} differ {lines}"));
    }
    Ok(())
}

/// Runs one seed and shows all that happens.
pub(crate) fn replay(seed: u64) -> ExitCode {
    let plan = Plan::of(seed);
    println!("{plan:#?}");
    let elapsed = stopwatch();
    let verdict = run::run(plan.clone(), true);
    let everything = std::env::var("TIMELINE").is_ok_and(|value| value == "all");
    let noise = |line: &str| !everything && ([" beat ", " send ", " signal to "].iter().any(|kind| line.contains(kind)));
    verdict.lines.iter().filter(|line| !noise(line)).for_each(|line| println!("{line}"));
    println!("log hash {:016x}", verdict.hash);
    let failed = !verdict.violations.is_empty();
    for violation in &verdict.violations {
        println!("VIOLATION {violation}");
    }
    let mut summary = Summary::default();
    summary.add(&plan, verdict);
    summary.wall = elapsed();
    print(&summary);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
