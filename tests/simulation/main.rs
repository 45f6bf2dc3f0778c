//! Whole fleets of real workers on the local stream and a memory table, in one thread of virtual time, from one seed.
//!
//! ```text
//! cargo test --test simulation                                  a few seeds, the same each time
//! SEEDS=0..1000 cargo test --release --test simulation          that range; seeds per minute at the end
//! SEED=42 cargo test --release --test simulation                one seed with a readable timeline
//! FLEET=500x4000 cargo test --release --test simulation         so many workers and shards: how fast do they converge?
//! ```
//!
//! ```text
//! plan ─▶ nemesis ─▶ fleet of processes ─▶ weather (network) ─▶ local stream, memory table
//!                        │ handlers                                 │
//!                        └───────────▶ world: log, history ◀────────┘ ─▶ invariants
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

mod dice;
mod event;
mod fleet;
mod handler;
mod history;
mod hostile;
mod invariants;
mod large_fleet;
mod log;
mod nemesis;
mod plan;
mod producer;
mod run;
mod runner;
mod scenarios;
mod watched_stream;
mod watched_table;
mod weather;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// The stream that all runs read.
const STREAM: &str = "simulated";

/// Seeds of a plain `cargo test`.
const FEW_SEEDS: std::ops::Range<u64> = 0..32;

fn main() -> ExitCode {
    world::count_panics();
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(text) = variable("SEED") {
        return match text.trim().parse() {
            Ok(seed) => runner::replay(seed),
            Err(_) => complain("SEED", &text, "expected a number, such as SEED=42"),
        };
    }
    if let Some(text) = variable("SEEDS") {
        return match runner::parse_range(&text) {
            Some(seeds) => runner::report(&runner::run(seeds)),
            None => complain("SEEDS", &text, "expected a range, such as SEEDS=0..1000"),
        };
    }
    if let Some(text) = variable("FLEET") {
        return match large_fleet::parse(&text) {
            Some((workers, shards)) => large_fleet::show(workers, shards),
            None => complain("FLEET", &text, "expected workers and shards, such as FLEET=500x4000"),
        };
    }
    let arguments = Arguments::from_args();
    let scenarios = scenarios::ALL.into_iter().map(|(name, run)| Trial::test(name, move || run().map_err(Failed::from)));
    let mut trials = vec![
        Trial::test("same_seed_same_log", || runner::same_seed_same_log(FEW_SEEDS.start..FEW_SEEDS.start + 4).map_err(Failed::from)),
        Trial::test("no_seed_breaks_a_promise", || {
            let summary = runner::run(FEW_SEEDS);
            runner::print(&summary);
            if summary.failures.is_empty() { Ok(()) } else { Err(Failed::from("a promise was broken, see above")) }
        }),
        Trial::test("a_large_fleet_converges", || large_fleet::check(20, 160).map_err(Failed::from)),
    ];
    trials.extend(scenarios);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn complain(name: &str, value: &str, fix: &str) -> ExitCode {
    eprintln!("{name}={value} is not understood: {fix}");
    ExitCode::from(2)
}
