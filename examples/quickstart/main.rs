//! The main job in one process, with nothing installed: a local stream, a producer of clicks, and a fleet of workers
//! that share its shards while shards split and merge, and workers join, leave and crash.
//!
//! Run with `cargo run --example quickstart`; add `-- --svg FILE` for a picture of who held each shard when.
//! Ends by itself in under 30 s, with exit code 1 if any check fails.

mod clicks;
mod display;
mod ledger;
mod report;
mod timeline;

use std::{process::ExitCode, time::Duration};

use clicks::CountClicks;
use display::Display;
use ledger::Ledger;
use shardkeeper::{
    Error, Result,
    lease::LeaseTable,
    local::{CreateStream, LocalKinesis},
    stream::StreamReference,
    types::{InitialPosition, ShardId},
    worker::{RunReport, Worker, WorkerHandle},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Clicks put per second.
const RATE: usize = 2_000;
const APPLICATION: &str = "click-counter";

/// Workers that fell silent this long are taken for dead. The default of 10 s would make the crash a long wait.
const LEASE_DURATION: Duration = Duration::from_secs(3);

fn start_worker(name: char, kinesis: &LocalKinesis, ledger: &Ledger) -> Result<(WorkerHandle, JoinHandle<Result<RunReport>>)> {
    let ledger = ledger.clone();
    let worker = Worker::builder(APPLICATION, "clicks", move || CountClicks { worker: name, ledger: ledger.clone(), last: None })
        .local(kinesis)
        .worker_id(format!("worker-{name}"))
        .initial_position(InitialPosition::TrimHorizon)
        .lease_duration(LEASE_DURATION)
        .configure(|config| config.consumer.checkpoint_interval = Some(Duration::from_secs(1)))
        .build()?;
    Ok((worker.handle(), tokio::spawn(worker.run())))
}

async fn scenario(ledger: &Ledger, display: &Display) -> Result<()> {
    let kinesis = LocalKinesis::in_memory();
    let stream: StreamReference = "clicks".parse()?;
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 4))?;
    display.event("stream clicks with 4 shards");
    let stop_producing = tokio_util::sync::CancellationToken::new();
    let producer = tokio::spawn(clicks::produce(kinesis.clone(), stream.clone(), ledger.clone(), RATE, stop_producing.clone()));
    display.event(&format!("producing {RATE} clicks a second"));

    let (stop_a, a) = start_worker('A', &kinesis, ledger)?;
    let (_, b) = start_worker('B', &kinesis, ledger)?;
    display.event("workers A and B start");

    sleep(Duration::from_secs(4)).await;
    kinesis.split_shard(&stream, &ShardId::from_index(0), u128::MAX / 8)?;
    display.event("split shard 0 into 4 and 5");

    sleep(Duration::from_secs(2)).await;
    kinesis.merge_shards(&stream, &ShardId::from_index(2), &ShardId::from_index(3))?;
    display.event("merge shards 2 and 3 into 6");

    sleep(Duration::from_secs(2)).await;
    let (stop_c, c) = start_worker('C', &kinesis, ledger)?;
    display.event("worker C joins");

    sleep(Duration::from_secs(4)).await;
    display.event("worker A is told to stop");
    stop_a.shutdown();
    finished(a).await?;
    display.event("worker A has handed over and stopped");

    sleep(Duration::from_secs(2)).await;
    b.abort();
    drop(b.await);
    let leases = kinesis.lease_table(APPLICATION).scan().await?.leases;
    let held_by_b = leases.into_iter().filter(|l| l.owner.as_ref().is_some_and(|owner| owner.as_str() == "worker-B"));
    ledger.crashed('B', held_by_b.map(|l| (l.shard_id, l.checkpoint)).collect());
    display.event("worker B crashes");

    sleep(Duration::from_secs(6)).await;
    stop_producing.cancel();
    producer.await.map_err(|e| Error::new(shardkeeper::ErrorKind::Internal, "the producer failed").with_source(e))?;
    display.event("producer stops; waiting for the rest to be delivered");
    let deadline = Instant::now() + Duration::from_secs(6);
    while ledger.undelivered() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
    stop_c.shutdown();
    finished(c).await?;
    display.event("worker C has stopped");
    Ok(())
}

async fn finished(worker: JoinHandle<Result<RunReport>>) -> Result<()> {
    let report = worker.await.map_err(|e| Error::new(shardkeeper::ErrorKind::Internal, "a worker failed").with_source(e))??;
    for failure in report.failures() {
        println!("shard {} of {} failed: {:?}", failure.shard_id, report.worker_id, failure.ending);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let svg = match arguments.as_slice() {
        [] => None,
        [flag, file] if flag == "--svg" => Some(file.clone()),
        _ => {
            eprintln!("usage: quickstart [--svg FILE]");
            return ExitCode::from(2);
        }
    };
    let ledger = Ledger::new();
    let display = Display::new(ledger.clone(), Duration::from_secs(24));
    let showing = tokio::spawn(display.clone().run());
    let outcome = scenario(&ledger, &display).await;
    showing.abort();
    display.finish();
    if let Err(error) = outcome {
        eprintln!("quickstart failed: {error:#}");
        return ExitCode::FAILURE;
    }
    let total = ledger.now();
    let workers = [('A', "stopped gracefully"), ('B', "crashed"), ('C', "joined later, ran to the end")];
    let all_hold = report::print(&ledger, total, LEASE_DURATION, &workers);
    if let Some(file) = svg {
        if let Err(error) = std::fs::write(&file, timeline::svg(&ledger.entries().tenures, total)) {
            eprintln!("cannot write {file}: {error}");
            return ExitCode::FAILURE;
        }
        println!("picture written to {file}");
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
