//! P4: once another worker has the lease, no checkpoint of the former one takes effect.

use super::Evidence;
use crate::rig::Tenure;

pub(super) fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for tenures in evidence.history.shards.values() {
        for pair in tenures.windows(2) {
            let [before, after]: &[Tenure; 2] = pair.try_into().expect("windows of two");
            found.extend(late_checkpoint(before, after));
            found.extend(late_batches(before, after));
        }
    }
    found
}

/// Whatever the former owner was told is durable, the next one has seen when it began.
fn late_checkpoint(before: &Tenure, after: &Tenure) -> Option<String> {
    let last = before.checkpoints.iter().max()?;
    (*last > after.from).then(|| {
        format!(
            "P4: {} was told that {last} of {} is durable, but {} had begun it after {}",
            before.worker, before.shard, after.worker, after.from
        )
    })
}

/// A worker that was stopped in the middle may finish the batch in hand, and no more.
fn late_batches(before: &Tenure, after: &Tenure) -> Option<String> {
    let late = before.batches.iter().filter(|batch| batch.t > after.began).count();
    (late > 1).then(|| format!("P4: {} handed over {late} batches of {} after {} had begun it", before.worker, before.shard, after.worker))
}
