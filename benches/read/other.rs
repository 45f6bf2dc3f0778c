//! Another library's consumer on the same responder: a black box that writes the event file of `examples/peer_consumer`.

use std::{process::Command, time::Duration};

use crate::{
    args::Plan,
    child::{Child, usage},
    responder,
    rig::{Process, Result, Server, until_async},
    throughput::{Figures, Window},
};

/// A Java virtual machine is compiling meanwhile.
const WARM_UP: Duration = Duration::from_secs(20);
/// Until its first batch.
const START: Duration = Duration::from_secs(300);

/// The counters of a `calls` event, which come once a second.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
struct Calls {
    t: i64,
    records: u64,
    bytes: u64,
}

pub(crate) fn measure(command: &str, plan: &Plan, endpoint: &str, responder: &Child) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(command, plan, endpoint, responder))
}

async fn run(command: &str, plan: &Plan, endpoint: &str, responder: &Child) -> Result<Figures> {
    let dir = tempfile::tempdir()?;
    // For its leases.
    let server = Server::start(dir.path(), &[]).await?;
    let events = dir.path().join("peer.jsonl");
    let mut words = command.split_whitespace();
    let mut peer = Command::new(words.next().ok_or("--peer needs a command")?);
    peer.args(words).args(["--stream", responder::STREAM, "--app", "peer", "--worker", "peer"]);
    peer.args(["--kinesis-endpoint", endpoint, "--dynamodb-endpoint", &server.dynamodb_endpoint]).arg("--events").arg(&events);
    peer.args(["--mode", &plan.mode.to_string(), "--batch-events", "off", "--checkpoint", "5", "--pause", "off"]);
    peer.args(["--set", "lease.shardSyncIntervalMillis=1000"]);
    let process = Process::spawn("peer", peer, dir.path())?;
    let last = || -> Result<Calls> {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        let calls = text.lines().rev().find(|line| line.contains("\"ev\":\"calls\"") && line.ends_with('}'));
        Ok(calls.map(serde_json::from_str).transpose()?.unwrap_or_default())
    };
    until_async("the peer reads", START, async || Ok((last()?.bytes > 0).then_some(()))).await?;
    tokio::time::sleep(WARM_UP).await;

    let mut figures = Figures::default();
    let look = || -> Result<_> { Ok((last()?, usage(process.id())?, responder.usage()?)) };
    let mut before = look()?;
    for _ in 0..plan.windows {
        tokio::time::sleep(plan.window).await;
        let after = look()?;
        let (calls, seconds) = (after.0, (after.0.t - before.0.t) as f64 / 1000.0);
        // Counters are a second apart, CPU time is of now: it is scaled to the time between the counters.
        let share = seconds / plan.window.as_secs_f64();
        figures.windows.push(Window {
            seconds,
            batches: 0,
            records: calls.records - before.0.records,
            gigabytes: (calls.bytes - before.0.bytes) as f64 / 1e9,
            cpu_seconds: (after.1.cpu_seconds - before.1.cpu_seconds) * share,
            responder_cpu_seconds: (after.2.cpu_seconds - before.2.cpu_seconds) * share,
        });
        before = after;
    }
    figures.peak_megabytes = usage(process.id())?.peak_megabytes;
    Ok(figures)
}
