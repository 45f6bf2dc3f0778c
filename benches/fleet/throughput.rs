//! How near to the service's 2 MiB a second a shard that is behind is read, with the limits enforced.

use std::time::Duration;

use super::report::{Row, Sample, Target};
use crate::rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, What, WorkerSpec};

const SHARDS: u32 = 4;
/// As much as a shard takes: 1 MiB a second.
const RECORDS_PER_ROUND: u32 = 400;
const SIZE: usize = 10_000;
const PERIOD: Duration = Duration::from_millis(980);
/// Bytes to leave behind on each shard, several times the 10 MiB of one answer.
const BEHIND: usize = 45 * 1024 * 1024;
const LIMIT: f64 = 2.0 * 1024.0 * 1024.0;

pub(crate) async fn throughput() -> Result<Vec<Row>> {
    let mut fleet = Fleet::new(SHARDS, &[], |_| WorkerSpec::new("bench", LeaseTableKind::DynamoDb)).await?;
    let mut load = Load::start(fleet.server.kinesis.clone(), "bench", LoadPlan { records: RECORDS_PER_ROUND, period: PERIOD, size: SIZE });
    crate::rig::until("there is enough to read", || Ok((load.put().len() * SIZE >= BEHIND * SHARDS as usize).then_some(()))).await?;
    load.stop().await?;
    let put = load.put();
    fleet.start("w1")?;
    fleet.see("everything is read", |history| put.iter().all(|record| history.delivered(record)).then_some(())).await?;

    let history = fleet.history()?;
    let mut share = Sample::default();
    for tenure in history.tenures() {
        let (Some(first), Some(last)) = (tenure.batches.first(), tenure.batches.last()) else { continue };
        // The last batch comes when those before it are paid for.
        let records: usize = tenure.batches[..tenure.batches.len() - 1].iter().map(|batch| batch.records).sum();
        let seconds = super::metrics::seconds(last.t - first.t);
        share.push((records * SIZE) as f64 / seconds / LIMIT * 100.0);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = fleet.worker("w1").events()?;
    let throttles = events.iter().rev().find_map(|event| match &event.what {
        What::Calls { errors, .. } => Some(errors.get("kinesis.GetRecords:400").copied().unwrap_or(0)),
        _ => None,
    });
    Ok(vec![
        Row::new("share of 2 MiB/s on each of 4 shards that are behind", "%", share, Target::AtLeast(95.0), "not measured"),
        Row::new("throttled GetRecords calls", "calls", throttles.unwrap_or(u64::MAX) as f64, Target::Max(0.0), "not measured"),
    ])
}
