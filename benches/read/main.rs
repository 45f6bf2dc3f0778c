//! What reading costs the client, beside a bare loop on the AWS SDK that reads the same.
//!
//! ```text
//! cargo bench --bench read                                                   # 16 shards, polling
//! cargo bench --bench read -- --shards 100 --mode fan-out --aggregated --json
//! cargo bench --bench read -- --matrix                                       # all cells of docs/benchmarks.md
//! ```
//!
//! ```text
//! this process ─┬─ responder: answers from pre-rendered bodies, as fast as it is asked
//!               ├─ worker:    a Shardkeeper worker that counts what it gets       ◀─┐ in turns: one runs,
//!               └─ loop:      aws-sdk-kinesis, a task per shard, that counts too  ◀─┘ the other is stopped
//! ```
//!
//! Each is a process of its own, this executable in another role, so that CPU time and memory are those of the client
//! alone. Delays are measured apart, of both at once, against the local server.

mod args;
mod bare_loop;
mod child;
mod counters;
mod job;
mod latency;
mod other;
#[path = "../../examples/peer_consumer/peer/mod.rs"]
mod peer;
mod report;
mod responder;
#[path = "../../integration/rig/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the integration tests use the other half")]
mod rig;
mod shardkeeper_worker;
mod throughput;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use crate::{args::Args, job::Job, report::Cell, rig::Result};

fn main() -> ExitCode {
    let outcome = match Job::of_this_process() {
        Some(job) => job.and_then(Job::run),
        None => run(&Args::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when stderr is closed.
            drop(writeln!(std::io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(out, "{}", report::heading())?;
    }
    for plan in args.plans() {
        let throughput = if args.no_throughput { None } else { Some(throughput::measure(&plan, args.peer.as_deref())?) };
        let latency = if args.no_latency { None } else { Some(latency::measure(&plan)?) };
        let cell = Cell { plan, throughput, latency };
        writeln!(out, "{}", if args.json { cell.json() } else { cell.line() })?;
        out.flush()?;
    }
    Ok(())
}
