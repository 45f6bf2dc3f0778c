//! What is read out of a history.

use std::{collections::BTreeMap, time::Duration};

use shardkeeper::random::Randomness;

use crate::rig::{Event, Fleet, History, PutRecord, Result, Tenure, What};

/// A shard that went from one worker to another.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) from: String,
    pub(crate) to: String,
    /// When the new worker got its first batch, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// From the last batch of the old worker to the first of the new one.
    pub(crate) gap_ms: i64,
    /// From the moment the old worker was asked to stop to the moment the new one had the lease: the pause without the
    /// time between two polls. None after a crash.
    pub(crate) hand_over_ms: Option<i64>,
}

/// All changes of worker with batches on both sides.
pub(crate) fn moves(history: &History) -> Vec<Move> {
    let mut found = Vec::new();
    for tenures in history.shards.values() {
        let read: Vec<&Tenure> = tenures.iter().filter(|tenure| !tenure.batches.is_empty()).collect();
        for pair in read.windows(2) {
            if pair[0].worker != pair[1].worker {
                let (last, first) = (pair[0].batches[pair[0].batches.len() - 1].t, pair[1].batches[0].t);
                found.push(Move {
                    from: pair[0].worker.clone(),
                    to: pair[1].worker.clone(),
                    at: first,
                    gap_ms: first - last,
                    hand_over_ms: pair[0].shutdown_requested.map(|asked| pair[1].began - asked),
                });
            }
        }
    }
    found
}

/// Waits for some part of a second, so that polls and signals are not in step from one repetition to the next.
pub(crate) async fn any_phase() {
    tokio::time::sleep(Duration::from_millis(Randomness::from_system().in_range(0..1000))).await;
}

/// Times between batches of one tenure: what a reader sees when nothing happens.
pub(crate) fn undisturbed_gaps(history: &History) -> Vec<f64> {
    let gaps = |tenure: &Tenure| tenure.batches.windows(2).map(|pair| seconds(pair[1].t - pair[0].t)).collect::<Vec<_>>();
    history.tenures().flat_map(gaps).collect()
}

/// How often records were handed over beyond once each.
pub(crate) fn repeats(history: &History, put: &[PutRecord]) -> usize {
    let mut found = 0;
    for record in put {
        let tenures = history.shards.get(&record.shard).map_or(&[][..], Vec::as_slice);
        let times = tenures.iter().flat_map(|tenure| &tenure.batches).filter(|batch| batch.contains(record.sequence_number)).count();
        found += times.saturating_sub(1);
    }
    found
}

pub(crate) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Calls by operation of all workers, per second, between two moments, from their counters.
pub(crate) fn calls_per_second(fleet: &mut Fleet, from: i64, to: i64) -> Result<BTreeMap<String, f64>> {
    let mut total: BTreeMap<String, f64> = BTreeMap::new();
    for worker in &mut fleet.workers {
        let ticks = |limit: i64| move |event: &&Event| event.t <= limit && matches!(event.what, What::Calls { .. });
        let events = worker.events()?;
        let (Some(before), Some(after)) = (events.iter().rev().find(ticks(from)), events.iter().rev().find(ticks(to))) else { continue };
        let (What::Calls { calls: old, .. }, What::Calls { calls: new, .. }) = (&before.what, &after.what) else { continue };
        let span = seconds(after.t - before.t);
        for (operation, count) in new {
            let more = count - old.get(operation).copied().unwrap_or(0);
            *total.entry(operation.clone()).or_default() += more as f64 / span;
        }
    }
    Ok(total)
}

/// Calls that write.
pub(crate) fn writes(calls: &BTreeMap<String, f64>) -> f64 {
    let write = |name: &str| ["UpdateItem", "PutItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"].contains(&name);
    calls.iter().filter(|(name, _)| name.strip_prefix("dynamodb.").is_some_and(write)).map(|(_, rate)| rate).sum()
}

/// Calls that read the lease table.
pub(crate) fn reads(calls: &BTreeMap<String, f64>) -> f64 {
    let read = |name: &str| ["GetItem", "BatchGetItem", "Query", "Scan"].contains(&name);
    calls.iter().filter(|(name, _)| name.strip_prefix("dynamodb.").is_some_and(read)).map(|(_, rate)| rate).sum()
}

/// Resident megabytes and threads of a process, where the system tells.
pub(crate) fn footprint(id: u32) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some((field("VmRSS")? * 1024.0 / 1e6, field("Threads")?))
}
