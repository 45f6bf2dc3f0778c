//! A worker crashes, or leaves: how long its shards pause.
//!
//! 8 shards, one record per shard each 0.16 s, two workers. A *gap* is the time on one shard from the last batch of the
//! old worker to the first of the new one; the worst is that of the slowest of the shards that had to move. It holds the
//! time between two polls, which is there when nothing happens as well.

use std::time::Duration;

use super::{
    metrics::{Move, any_phase, moves, repeats, seconds, undisturbed_gaps},
    report::{Row, Sample, Target},
};
use crate::rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, Signal, WorkerSpec, now};

const SHARDS: u32 = 8;
const LOAD: LoadPlan = LoadPlan { records: SHARDS, period: Duration::from_millis(160), size: 100 };
/// Of each kind.
const CRASHES: usize = 5;
const LEAVES: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Leader,
    Other,
}

#[derive(Debug, Default)]
struct Outcome {
    /// By repetition, in seconds.
    worst: Sample,
    /// By shard: the gap, from the signal to the first batch elsewhere, and the hand-over of the lease alone.
    gaps: Sample,
    since_signal: Sample,
    hand_overs: Sample,
    repeats: f64,
    lost: f64,
    undisturbed: Sample,
}

pub(crate) async fn crash() -> Result<Vec<Row>> {
    // They wait for timers, so that they can do so side by side.
    let (other, leader, short) = tokio::try_join!(
        cycles(Signal::KILL, Victim::Other, "10", CRASHES),
        cycles(Signal::KILL, Victim::Leader, "10", CRASHES),
        cycles(Signal::KILL, Victim::Other, "2", CRASHES),
    )?;
    let lost = other.lost + leader.lost + short.lost;
    Ok(vec![
        Row::new("crash, lease 10 s: worst gap", "s", other.worst, Target::Max(11.0), "KCL 3.5.1 71.2, tuned 13.1; KCL 2.7.2 42.3"),
        Row::new("crash of the coordinating worker: worst gap", "s", leader.worst, Target::Max(11.0), "KCL 3.5.1 172.3, tuned 19.1"),
        Row::new("crash, lease 2 s: worst gap", "s", short.worst, Target::Max(3.0), ""),
        Row::new("records lost in all of these", "records", lost, Target::Max(0.0), "KCL 0"),
    ])
}

pub(crate) async fn leave() -> Result<Vec<Row>> {
    let (other, leader) =
        tokio::try_join!(cycles(Signal::TERM, Victim::Other, "10", LEAVES), cycles(Signal::TERM, Victim::Leader, "10", LEAVES))?;
    let both = |a: f64, b: f64| a + b;
    Ok(vec![
        Row::new("SIGTERM to the first record elsewhere, each shard", "s", other.since_signal, Target::Median(0.3), ""),
        Row::new("the same, of the coordinating worker", "s", leader.since_signal, Target::Median(0.3), ""),
        Row::new("SIGTERM: worst gap", "s", other.worst, Target::Max(2.0), "KCL 3.5.1 62.9, tuned 13.2; KCL 2.7.2 39.7"),
        Row::new("SIGTERM of the coordinating worker: worst gap", "s", leader.worst, Target::Max(2.0), "KCL 3.5.1 70.9, tuned 14.5"),
        Row::new("gap of each shard", "s", other.gaps, Target::None, "KCL 3.5.1 40.1, the smallest"),
        Row::new("of it: the lease given up to the lease held", "s", other.hand_overs, Target::None, ""),
        Row::new("for comparison: between batches when nothing happens", "s", other.undisturbed, Target::None, ""),
        Row::new("records repeated in all of these", "records", both(other.repeats, leader.repeats), Target::Max(0.0), "KCL 3.5.1 0"),
        Row::new("records lost in all of these", "records", both(other.lost, leader.lost), Target::Max(0.0), "KCL 0"),
    ])
}

/// Joins and removes workers again and again in one fleet.
async fn cycles(signal: Signal, victim: Victim, lease_seconds: &str, times: usize) -> Result<Outcome> {
    let spec = WorkerSpec::new("bench", LeaseTableKind::DynamoDb).flags(["--lease-seconds", lease_seconds]);
    let mut fleet = Fleet::new(SHARDS, &[], |_| spec).await?;
    let mut load = Load::start(fleet.server.kinesis.clone(), "bench", LOAD);
    let mut outcome = Outcome::default();
    fleet.start("w0")?;
    let mut stays = "w0".to_owned();
    for cycle in 1..=times {
        let joins = format!("w{cycle}");
        fleet.start(&joins)?;
        fleet.see_balance(SHARDS as usize, &[&stays, &joins]).await?;
        // So that both have read their shards, and one of them says that it leads.
        tokio::time::sleep(Duration::from_secs(2)).await;
        any_phase().await;
        let stays_leads = fleet.worker(&stays).leads()?;
        let goes = if stays_leads == (victim == Victim::Leader) { stays.clone() } else { joins.clone() };
        let survivor = if goes == stays { joins } else { stays };
        let moved = fleet.history()?.owned_by(&goes).len();
        let signalled = now();
        fleet.signal(&goes, signal)?;
        let seen = fleet
            .see("all shards are read again", |history| {
                let seen: Vec<Move> = moves(history).into_iter().filter(|m| m.from == goes && m.at >= signalled).collect();
                (seen.len() == moved).then_some(seen)
            })
            .await?;
        fleet.end(&goes).await?;
        outcome.worst.push(seen.iter().map(|m| seconds(m.gap_ms)).fold(0.0, f64::max));
        for moved in seen {
            outcome.gaps.push(seconds(moved.gap_ms));
            outcome.since_signal.push(seconds(moved.at - signalled));
            moved.hand_over_ms.into_iter().for_each(|ms| outcome.hand_overs.push(seconds(ms)));
        }
        stays = survivor;
    }
    load.stop().await?;
    let put = load.put();
    let all = |history: &crate::rig::History| put.iter().all(|record| history.delivered(record)).then_some(());
    // A missing record is a result, not a failure of the measurement.
    drop(fleet.see("every record is handed over", all).await);
    let history = fleet.history()?;
    outcome.lost = put.iter().filter(|record| !history.delivered(record)).count() as f64;
    outcome.repeats = repeats(&history, &put) as f64;
    outcome.undisturbed = undisturbed_gaps(&history).into_iter().collect();
    Ok(outcome)
}
