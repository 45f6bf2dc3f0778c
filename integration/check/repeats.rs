//! P3: nothing before the last durable checkpoint is handed over again, and after a planned move nothing at all.

use shardkeeper::types::{Checkpoint, SequenceNumber};

use super::Evidence;
use crate::rig::Tenure;

pub(super) fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for tenures in evidence.history.shards.values() {
        for (i, tenure) in tenures.iter().enumerate() {
            for batch in tenure.batches.iter().filter(|batch| at(batch.first) <= tenure.from) {
                found.push(format!("P3: {} began {} after {} and got {} again", tenure.worker, tenure.shard, tenure.from, batch.first));
            }
            let Some(before) = i.checked_sub(1).map(|i| &tenures[i]) else { continue };
            found.extend(clean_move(evidence, before, tenure));
        }
    }
    found
}

fn clean_move(evidence: &Evidence, before: &Tenure, after: &Tenure) -> Option<String> {
    let clean = before.shutdown_requested.is_some() && !before.lost && !evidence.disturbed.contains(&before.worker);
    let last = before.last_delivered()?;
    (clean && after.from < at(last)).then(|| {
        format!("P3: {} gave {} up cleanly at {last}, but {} began it after {}", before.worker, before.shard, after.worker, after.from)
    })
}

fn at(number: SequenceNumber) -> Checkpoint {
    Checkpoint::Sequence(number.into())
}
