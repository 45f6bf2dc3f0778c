//! From the start of the process to the first batch on every shard. Records wait on each shard.

use std::time::Duration;

use super::{
    metrics::seconds,
    report::{Row, Sample, Target},
};
use crate::rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, Signal, WorkerSpec};

const TIMES: usize = 4;

pub(crate) async fn startup() -> Result<Vec<Row>> {
    let (mut cold_16, mut cold_64, mut warm_64, mut exit) = (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    for _ in 0..TIMES {
        cold_16.push(first_start(&mut prepared(16).await?, 16, "cold").await?);
        let mut fleet = prepared(64).await?;
        cold_64.push(first_start(&mut fleet, 64, "cold").await?);
        exit.push(stop(&mut fleet, "cold").await?);
        let _load = put(&fleet, 64).await?;
        warm_64.push(first_start(&mut fleet, 64, "warm").await?);
    }
    let mut thousand = Sample::default();
    for _ in 0..2 {
        thousand.push(first_start(&mut prepared(1000).await?, 1000, "cold").await?);
    }
    Ok(vec![
        Row::new("table exists, new worker id, 64 shards", "s", warm_64, Target::Max(2.0), "KCL 3.5.1 36.6"),
        Row::new("no table, 16 shards", "s", cold_16, Target::Max(3.0), "KCL 3.5.1 90.4"),
        Row::new("no table, 64 shards", "s", cold_64, Target::None, "KCL 3.5.1 75.6"),
        Row::new("no table, 1,000 shards", "s", thousand, Target::Max(10.0), "zio >= 200"),
        Row::new("SIGTERM to the end of the process, 64 shards", "s", exit, Target::None, "KCL 3.5.1 5.6, tuned 0.6"),
    ])
}

/// A stream with a record on each shard.
async fn prepared(shards: u32) -> Result<Fleet> {
    // More shards than the quota of an account.
    let fleet = Fleet::new(shards, &["--no-limits"], |_| WorkerSpec::new("bench", LeaseTableKind::DynamoDb)).await?;
    drop(put(&fleet, shards).await?);
    Ok(fleet)
}

/// Puts at least one record on each shard.
async fn put(fleet: &Fleet, shards: u32) -> Result<Load> {
    let mut load =
        Load::start(fleet.server.kinesis.clone(), "bench", LoadPlan { records: shards, period: Duration::from_secs(1), size: 100 });
    crate::rig::until("each shard has a record", || Ok((load.put().len() >= shards as usize).then_some(()))).await?;
    load.stop().await?;
    Ok(load)
}

async fn first_start(fleet: &mut Fleet, shards: usize, id: &str) -> Result<f64> {
    fleet.start(id)?;
    let last = fleet
        .see("each shard is read", |history| {
            let first: Vec<i64> =
                history.tenures().filter(|t| t.worker == id).filter_map(|t| t.batches.first().map(|batch| batch.t)).collect();
            if first.len() >= shards { first.into_iter().max() } else { None }
        })
        .await?;
    Ok(seconds(last - fleet.worker(id).started))
}

async fn stop(fleet: &mut Fleet, id: &str) -> Result<f64> {
    let signalled = crate::rig::now();
    fleet.signal(id, Signal::TERM)?;
    fleet.end(id).await?;
    Ok(seconds(crate::rig::now() - signalled))
}
