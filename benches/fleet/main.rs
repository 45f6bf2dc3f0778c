//! What an operator would see of a fleet, measured with real worker processes against the local server.
//!
//! ```text
//! cargo bench --bench fleet                                  # everything, about six minutes
//! cargo bench --bench fleet -- crash join                    # some of: crash leave join startup reshard cost throughput
//! cargo bench --bench fleet -- startup --json                # a JSON line per row
//! ```
//!
//! Load, definitions and the figures of other libraries are those of `docs/benchmarks.md`.

mod cost;
mod failover;
mod join;
mod metrics;
#[path = "../../examples/peer_consumer/peer/mod.rs"]
mod peer;
mod report;
mod reshard;
#[path = "../../integration/rig/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the integration tests use the other half")]
mod rig;
mod startup;
mod throughput;

use std::{io::Write as _, process::ExitCode};

use futures::future::LocalBoxFuture;
use report::Row;
use rig::Result;

/// A scenario and its name.
type Scenario = (&'static str, fn() -> LocalBoxFuture<'static, Result<Vec<Row>>>);

const SCENARIOS: [Scenario; 7] = [
    ("crash", || Box::pin(failover::crash())),
    ("leave", || Box::pin(failover::leave())),
    ("join", || Box::pin(join::join())),
    ("startup", || Box::pin(startup::startup())),
    ("reshard", || Box::pin(reshard::reshard())),
    ("cost", || Box::pin(cost::cost())),
    ("throughput", || Box::pin(throughput::throughput())),
];

fn main() -> ExitCode {
    if let Some(code) = rig::run_as_worker() {
        return code;
    }
    let mut json = false;
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--json" => json = true,
            name => match SCENARIOS.iter().find(|(known, _)| *known == name) {
                Some(scenario) => wanted.push(*scenario),
                None => {
                    let known: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
                    return complain(&format!("unknown argument {name}: expected --json or some of {}", known.join(" ")));
                }
            },
        }
    }
    if wanted.is_empty() {
        wanted = SCENARIOS.to_vec();
    }
    match run(&wanted, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("error: {error}")),
    }
}

fn run(wanted: &[Scenario], json: bool) -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut out = std::io::stdout().lock();
    if !json {
        writeln!(out, "{}", report::heading())?;
    }
    for (name, scenario) in wanted {
        for row in runtime.block_on(scenario())? {
            writeln!(out, "{}", if json { row.json(name) } else { row.line(name) })?;
            out.flush()?;
        }
    }
    Ok(())
}

fn complain(message: &str) -> ExitCode {
    // Nothing is left to do when stderr is closed.
    drop(writeln!(std::io::stderr(), "{message}"));
    ExitCode::FAILURE
}
