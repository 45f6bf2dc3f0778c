//! P2: records of a shard in the order of their sequence numbers; children after their parents.

use shardkeeper::types::ShardId;

use super::Evidence;
use crate::rig::{Batch, Tenure};

/// A shard and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    pub(crate) child: ShardId,
    pub(crate) parents: Vec<ShardId>,
}

pub(super) fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = evidence.history.tenures().flat_map(within_shard).collect();
    for lineage in &evidence.parents {
        for parent in &lineage.parents {
            found.extend(parent_first(evidence, parent, &lineage.child));
        }
    }
    found
}

/// Within a tenure everything comes once and in order: these processors never fail.
fn within_shard(tenure: &Tenure) -> Vec<String> {
    let mut found = Vec::new();
    for pair in tenure.batches.windows(2) {
        let [one, next]: &[Batch; 2] = pair.try_into().expect("windows of two");
        if next.first <= one.last {
            found.push(format!("P2: {} got {} of {} after {}", tenure.worker, next.first, tenure.shard, one.last));
        }
    }
    found
}

/// A record of the child is handed over only when every record of the parent was, and its end told.
fn parent_first(evidence: &Evidence, parent: &ShardId, child: &ShardId) -> Vec<String> {
    let mut found = Vec::new();
    let tenures = |shard| evidence.history.shards.get(shard).map_or(&[][..], Vec::as_slice);
    let Some(child_began) = tenures(child).iter().flat_map(|tenure| &tenure.batches).map(|batch| batch.t).min() else {
        return found;
    };
    if !tenures(parent).iter().any(|tenure| tenure.shard_ended.is_some_and(|t| t <= child_began)) {
        found.push(format!("P2: {child} began before the end of its parent {parent} was told"));
    }
    for record in evidence.put.iter().filter(|record| record.shard == *parent) {
        let batches = tenures(parent).iter().flat_map(|tenure| &tenure.batches);
        let first = batches.filter(|batch| batch.contains(record.sequence_number)).map(|batch| batch.t).min();
        if first.is_some_and(|t| t > child_began) {
            found.push(format!("P2: {} of {parent} was first handed over after its child {child} began", record.sequence_number));
        }
    }
    found
}
