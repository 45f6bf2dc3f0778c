//! Splits one after the other under load: from the last batch of the parent to the first of a child. One record per part
//! of the hash space each 0.1 s.

use std::time::Duration;

use shardkeeper::types::ShardId;

use super::{
    metrics::{repeats, seconds},
    report::{Row, Sample, Target},
};
use crate::rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, WorkerSpec};

const SHARDS: u32 = 4;
/// Enough parts that every child of a child gets some.
const LOAD: LoadPlan = LoadPlan { records: 64, period: Duration::from_millis(100), size: 100 };
const SPLITS: u64 = 12;

pub(crate) async fn reshard() -> Result<Vec<Row>> {
    let (alone, pair) = tokio::try_join!(splits(&["w1"]), splits(&["w1", "w2"]))?;
    let mut same = alone.same;
    pair.same.into_iter().for_each(|gap| same.push(gap));
    Ok(vec![
        Row::new(
            "parent's last to child's first batch, same worker",
            "s",
            same.into_iter().collect::<Sample>(),
            Target::Max(0.5),
            "KCL 3.5.1 17.0, tuned 3.4; KCL 2.7.2 16.8",
        ),
        Row::new(
            "parent's last to child's first batch, other worker",
            "s",
            pair.other.into_iter().collect::<Sample>(),
            Target::Max(2.0),
            "not measured",
        ),
        Row::new("records repeated", "records", alone.repeats + pair.repeats, Target::Max(0.0), "KCL 3.5.1 0"),
        Row::new("records lost", "records", alone.lost + pair.lost, Target::Max(0.0), "KCL 3.5.1 0"),
    ])
}

#[derive(Debug, Default)]
struct Outcome {
    same: Vec<f64>,
    other: Vec<f64>,
    repeats: f64,
    lost: f64,
}

async fn splits(workers: &[&str]) -> Result<Outcome> {
    let mut fleet = Fleet::new(SHARDS, &["--no-limits"], |_| WorkerSpec::new("bench", LeaseTableKind::DynamoDb)).await?;
    let mut load = Load::start(fleet.server.kinesis.clone(), "bench", LOAD);
    for worker in workers {
        fleet.start(worker)?;
    }
    fleet.see_balance(SHARDS as usize, workers).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut outcome = Outcome::default();
    for i in 0..SPLITS {
        // The oldest open shard each time: every split takes one away and appends two.
        let parent = ShardId::from_index(i);
        let children = [ShardId::from_index(u64::from(SHARDS) + 2 * i), ShardId::from_index(u64::from(SHARDS) + 2 * i + 1)];
        fleet.split(&parent).await?;
        let gaps = fleet
            .see("the children are read", |history| {
                let last = history.shards.get(&parent)?.iter().rev().find_map(|t| Some((t.worker.clone(), t.batches.last()?.t)))?;
                let first = |child| history.shards.get(child)?.iter().find_map(|t| Some((t.worker.clone(), t.batches.first()?.t)));
                let firsts = children.iter().map(first).collect::<Option<Vec<_>>>()?;
                Some(firsts.into_iter().map(|(worker, t)| (worker == last.0, seconds(t - last.1))).collect::<Vec<_>>())
            })
            .await?;
        for (same, gap) in gaps {
            if same { &mut outcome.same } else { &mut outcome.other }.push(gap);
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    load.stop().await?;
    let put = load.put();
    let all = |history: &crate::rig::History| put.iter().all(|record| history.delivered(record)).then_some(());
    drop(fleet.see("every record is handed over", all).await);
    let history = fleet.history()?;
    outcome.lost = put.iter().filter(|record| !history.delivered(record)).count() as f64;
    outcome.repeats = repeats(&history, &put) as f64;
    Ok(outcome)
}
