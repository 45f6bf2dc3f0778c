//! A second worker joins a first one that reads 10 shards: how long until both have five, and how long the moved shards
//! pause. One record per shard each 0.2 s.

use std::time::Duration;

use super::{
    metrics::{any_phase, moves, repeats, seconds},
    report::{Row, Sample, Target},
};
use crate::rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, WorkerSpec};

const SHARDS: u32 = 10;
const LOAD: LoadPlan = LoadPlan { records: SHARDS, period: Duration::from_millis(200), size: 100 };
const TIMES: usize = 8;

pub(crate) async fn join() -> Result<Vec<Row>> {
    let (mut even, mut pauses, mut hand_overs, mut repeated) = (Sample::default(), Sample::default(), Sample::default(), 0.0);
    for _ in 0..TIMES {
        let mut fleet = Fleet::new(SHARDS, &[], |_| WorkerSpec::new("bench", LeaseTableKind::DynamoDb)).await?;
        let mut load = Load::start(fleet.server.kinesis.clone(), "bench", LOAD);
        fleet.start("w1")?;
        fleet.see_balance(SHARDS as usize, &["w1"]).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        any_phase().await;
        fleet.start("w2")?;
        fleet
            .see("five shards are read by each", |history| {
                let moved = moves(history).into_iter().filter(|m| m.to == "w2").count();
                (moved == SHARDS as usize / 2).then_some(())
            })
            .await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        load.stop().await?;
        let history = fleet.history()?;
        let moved = moves(&history);
        let last = moved.iter().map(|m| m.at).max().unwrap_or_default();
        even.push(seconds(last - fleet.worker("w2").started));
        for m in &moved {
            pauses.push(seconds(m.gap_ms));
            m.hand_over_ms.into_iter().for_each(|ms| hand_overs.push(seconds(ms)));
        }
        repeated += repeats(&history, &load.put()) as f64;
    }
    Ok(vec![
        Row::new(
            "start of the second process to 5/5, read",
            "s",
            even,
            Target::Max(1.5),
            "KCL 3.5.1 268.7, tuned 23.4; KCL 2.7.2 85.3; harlow 1.8",
        ),
        Row::new("pause of a moved shard", "s", pauses, Target::Median(0.3), "KCL 3.5.1 12.9, tuned 1.5; KCL 2.7.2 3.2"),
        Row::new("of it: the lease given up to the lease held", "s", hand_overs, Target::None, ""),
        Row::new("records repeated in all joins", "records", repeated, Target::Max(0.0), "KCL 3.5.1 0; KCL 2.7.2 38 per join"),
    ])
}
