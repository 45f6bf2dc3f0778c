//! What coordination costs: calls by operation, counted in the clients as HTTP attempts; memory and threads.
//!
//! 64 shards; under load one record per shard and second, automatic checkpoints each 5 s; then idle.

use std::time::Duration;

use super::{
    metrics::{calls_per_second, footprint, reads, writes},
    report::{Row, Sample, Target},
};
use crate::rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, WorkerSpec, now};

const SHARDS: u32 = 64;
const LOAD: LoadPlan = LoadPlan { records: SHARDS, period: Duration::from_secs(1), size: 100 };
/// Until a change of load has worked through.
const SETTLE: Duration = Duration::from_secs(8);
const WINDOW: Duration = Duration::from_secs(25);

pub(crate) async fn cost() -> Result<Vec<Row>> {
    let (fleet, alone) = tokio::try_join!(four_workers(), one_worker())?;
    Ok(fleet.into_iter().chain(alone).collect())
}

async fn start(workers: &[&str]) -> Result<(Fleet, Load)> {
    let spec = WorkerSpec::new("bench", LeaseTableKind::DynamoDb).flags(["--checkpoint", "5"]);
    let mut fleet = Fleet::new(SHARDS, &[], |_| spec).await?;
    let load = Load::start(fleet.server.kinesis.clone(), "bench", LOAD);
    for worker in workers {
        fleet.start(worker)?;
    }
    fleet.see_balance(SHARDS as usize, workers).await?;
    Ok((fleet, load))
}

async fn window(fleet: &mut Fleet) -> Result<std::collections::BTreeMap<String, f64>> {
    tokio::time::sleep(SETTLE).await;
    let from = now();
    tokio::time::sleep(WINDOW).await;
    calls_per_second(fleet, from, now())
}

async fn four_workers() -> Result<Vec<Row>> {
    let (mut fleet, mut load) = start(&["w1", "w2", "w3", "w4"]).await?;
    let busy = window(&mut fleet).await?;
    load.stop().await?;
    let idle = window(&mut fleet).await?;
    let per_minute = |calls: &std::collections::BTreeMap<String, f64>, name: &str| calls.get(name).copied().unwrap_or(0.0) * 60.0;
    Ok(vec![
        Row::new("64 shards, 4 workers, idle: lease-table writes", "1/s", writes(&idle), Target::Max(2.0), "KCL 3.5.1 19.7"),
        Row::new("64 shards, 4 workers, idle: lease-table reads", "1/s", reads(&idle), Target::None, "KCL 3.5.1 0.7"),
        Row::new(
            "64 shards, 4 workers, load: lease-table writes",
            "1/s",
            writes(&busy),
            Target::Max(10.0),
            "KCL 3.5.1 62, a checkpoint per batch",
        ),
        Row::new(
            "of it, by shard and interval of 5 s",
            "writes",
            (writes(&busy) - writes(&idle)) * 5.0 / f64::from(SHARDS),
            Target::Max(1.02),
            "",
        ),
        Row::new(
            "ListShards of the fleet",
            "1/min",
            per_minute(&busy, "kinesis.ListShards").max(per_minute(&idle, "kinesis.ListShards")),
            Target::Max(1.0),
            "KCL 0; zio 3 per worker",
        ),
        Row::new(
            "GetRecords per shard, idle",
            "1/min",
            per_minute(&idle, "kinesis.GetRecords") / f64::from(SHARDS),
            Target::Max(61.0),
            "KCL 3.5.1 40",
        ),
    ])
}

async fn one_worker() -> Result<Vec<Row>> {
    let (mut fleet, mut load) = start(&["w1"]).await?;
    load.stop().await?;
    tokio::time::sleep(SETTLE + WINDOW).await;
    let (memory, threads) = match footprint(fleet.worker("w1").process.id()) {
        Some((memory, threads)) => (Sample::from(memory), Sample::from(threads)),
        // Only Linux tells.
        None => return Ok(Vec::new()),
    };
    Ok(vec![
        Row::new("64 shards idle, one worker: resident memory", "MB", memory, Target::Max(30.0), "KCL 3.5.1 268"),
        Row::new("64 shards idle, one worker: threads", "threads", threads, Target::Max(8.0), "KCL 3.5.1 139"),
    ])
}
