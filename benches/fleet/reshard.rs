//! From the last batch of a parent to the first of its child, under load: splits one after the other, and merges of
//! shards that two workers have, since the child of a split begins where its parent was. One record per part of the hash
//! space each 0.1 s.

use std::time::Duration;

use shardkeeper::types::ShardId;

use super::{
    metrics::{any_phase, repeats, seconds},
    report::{Row, Sample, Target},
};
use crate::rig::{Fleet, History, LeaseTableKind, Load, LoadPlan, Result, WorkerSpec};

/// Enough parts that every child of a child gets some.
const LOAD: LoadPlan = LoadPlan { records: 64, period: Duration::from_millis(100), size: 100 };
const SPLITS: u64 = 12;

pub(crate) async fn reshard() -> Result<Vec<Row>> {
    let (split, merge) = tokio::try_join!(splits(), merges())?;
    let same: Sample = split.same.into_iter().chain(merge.same).collect();
    let other: Sample = merge.other.into_iter().collect();
    Ok(vec![
        Row::new(
            "parent's last to child's first batch, same worker",
            "s",
            same,
            Target::Max(0.5),
            "KCL 3.5.1 17.0, tuned 3.4; KCL 2.7.2 16.8",
        ),
        Row::new("parent's last to child's first batch, other worker", "s", other, Target::Max(2.0), "not measured"),
        Row::new("records repeated", "records", split.repeats + merge.repeats, Target::Max(0.0), "KCL 3.5.1 0"),
        Row::new("records lost", "records", split.lost + merge.lost, Target::Max(0.0), "KCL 3.5.1 0"),
    ])
}

#[derive(Debug, Default)]
struct Outcome {
    same: Vec<f64>,
    other: Vec<f64>,
    repeats: f64,
    lost: f64,
}

impl Outcome {
    /// Waits until the child is read, and notes the gap after the last batch of any parent.
    async fn note(&mut self, fleet: &mut Fleet, parents: &[ShardId], child: &ShardId) -> Result {
        let (same, gap) = fleet
            .see("the child is read", |history| {
                let first = history.shards.get(child)?.iter().find_map(|t| Some((t.worker.clone(), t.batches.first()?.t)))?;
                let last = |parent| history.shards.get(parent)?.iter().rev().find_map(|t| Some((t.worker.clone(), t.batches.last()?.t)));
                let lasts = parents.iter().map(last).collect::<Option<Vec<_>>>()?;
                let newest = lasts.iter().map(|(_, t)| *t).max()?;
                Some((lasts.iter().all(|(worker, _)| *worker == first.0), seconds(first.1 - newest)))
            })
            .await?;
        if same { &mut self.same } else { &mut self.other }.push(gap);
        Ok(())
    }

    async fn finish(mut self, mut fleet: Fleet, mut load: Load) -> Result<Self> {
        load.stop().await?;
        let put = load.put();
        let all = |history: &History| put.iter().all(|record| history.delivered(record)).then_some(());
        // A missing record is a result, not a failure of the measurement.
        drop(fleet.see("every record is handed over", all).await);
        let history = fleet.history()?;
        self.lost = put.iter().filter(|record| !history.delivered(record)).count() as f64;
        self.repeats = repeats(&history, &put) as f64;
        Ok(self)
    }
}

async fn start(shards: u32, workers: &[&str]) -> Result<(Fleet, Load)> {
    let mut fleet = Fleet::new(shards, &["--no-limits"], |_| WorkerSpec::new("bench", LeaseTableKind::DynamoDb)).await?;
    let load = Load::start(fleet.server.kinesis.clone(), "bench", LOAD);
    for worker in workers {
        fleet.start(worker)?;
    }
    fleet.see_balance(shards as usize, workers).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((fleet, load))
}

async fn splits() -> Result<Outcome> {
    let first_child = 4;
    let (mut fleet, load) = start(4, &["w1"]).await?;
    let mut outcome = Outcome::default();
    for i in 0..SPLITS {
        // The oldest open shard each time: every split takes one away and appends two.
        let parent = [ShardId::from_index(i)];
        fleet.split(&parent[0]).await?;
        for child in [first_child + 2 * i, first_child + 2 * i + 1] {
            outcome.note(&mut fleet, &parent, &ShardId::from_index(child)).await?;
        }
        any_phase().await;
    }
    outcome.finish(fleet, load).await
}

async fn merges() -> Result<Outcome> {
    let (mut fleet, load) = start(32, &["w1", "w2"]).await?;
    let mut outcome = Outcome::default();
    let mut child = 32;
    let mut left = 0;
    while left < 31 {
        let pair = [ShardId::from_index(left), ShardId::from_index(left + 1)];
        let history = fleet.history()?;
        let owners = history.owners();
        let owner = |shard| owners.get(shard).map(|tenure| &tenure.worker);
        if owner(&pair[0]) == owner(&pair[1]) {
            left += 1;
            continue;
        }
        fleet.merge(&pair[0], &pair[1]).await?;
        outcome.note(&mut fleet, &pair, &ShardId::from_index(child)).await?;
        any_phase().await;
        child += 1;
        left += 2;
    }
    outcome.finish(fleet, load).await
}
