//! Very many workers and shards at once: how long until every shard has its worker and the load is even.

use std::{process::ExitCode, sync::Arc, time::Duration};

use crate::{
    invariants::liveness,
    plan::{Plan, Start},
    run::Stage,
    weather::Noise,
};

/// Virtual time in which any fleet has to converge.
const BOUND: Duration = Duration::from_secs(30);

/// `500x4000`: workers and shards.
pub(crate) fn parse(text: &str) -> Option<(u32, u32)> {
    let (workers, shards) = text.trim().split_once('x')?;
    let pair = (workers.parse().ok()?, shards.parse().ok()?);
    (pair.0 > 0 && pair.1 > 0).then_some(pair)
}

fn plan(workers: u32, shards: u32) -> Plan {
    let mut plan = Plan::of(0);
    plan.workers = workers;
    plan.shards = shards;
    plan.lease_duration = Duration::from_secs(10);
    plan.start = Start::TrimHorizon;
    plan.noise = Noise { latency: (2, 8), ..Noise::default() };
    plan.shuffle = 0.0;
    plan.faults = Vec::new();
    plan.records_per_second = 0.0;
    plan
}

/// What such a fleet came to.
struct Convergence {
    /// All shards are held.
    held: Option<Duration>,
    /// And evenly.
    even: Option<Duration>,
    takes: u64,
    wall: Duration,
}

fn converge(workers: u32, shards: u32) -> Convergence {
    let elapsed = crate::runner::stopwatch();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let outcome = runtime.block_on(watch(workers, shards));
        runtime.shutdown_background();
        outcome
    });
    let (held, even, takes) = thread.join().expect("the harness does not panic");
    Convergence { held, even, takes, wall: elapsed() }
}

async fn watch(workers: u32, shards: u32) -> (Option<Duration>, Option<Duration>, u64) {
    let plan = Arc::new(plan(workers, shards));
    let stage = Stage::set(&plan, false);
    stage.boot_all();
    let (mut held, mut even) = (None, None);
    while stage.world.now() < BOUND * 2 && even.is_none() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (leased, uneven, orphans) = stage
            .world
            .look(|history| (history.rows.len(), liveness::is_uneven(history), liveness::orphans(history, Duration::ZERO).len()));
        if leased == shards as usize && orphans == 0 {
            held.get_or_insert(stage.world.now());
            if !uneven {
                even = Some(stage.world.now());
            }
        }
    }
    let takes = stage.world.look(|history| history.takes);
    (held, even, takes)
}

/// Shows how fast a fleet converges.
pub(crate) fn show(workers: u32, shards: u32) -> ExitCode {
    let outcome = converge(workers, shards);
    let seconds = |at: Option<Duration>| at.map_or_else(|| "never".to_owned(), |at| format!("after {:.1} s", at.as_secs_f64()));
    println!(
        "{workers} workers, {shards} shards: all held {}, evenly {} of virtual time; {} leases taken; {:.1} s of real time",
        seconds(outcome.held),
        seconds(outcome.even),
        outcome.takes,
        outcome.wall.as_secs_f64()
    );
    if outcome.even.is_some_and(|at| at <= BOUND) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks that a fleet converges in time.
pub(crate) fn check(workers: u32, shards: u32) -> Result<(), String> {
    match converge(workers, shards).even {
        Some(at) if at <= BOUND => Ok(()),
        Some(at) => Err(format!("{workers} workers took {:.1} s to share {shards} shards evenly", at.as_secs_f64())),
        None => Err(format!("{workers} workers never shared {shards} shards evenly")),
    }
}
