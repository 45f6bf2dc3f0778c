//! P5: once faults are over, every shard has a living owner and moves within `2 x lease duration + 1 s`; then the
//! fleet is balanced, and leases stay where they are. Looked at from outside, at moments that the run chooses.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    event::{NodeId, Row},
    history::History,
};

/// Leases whose parents have ended and that no running worker holds.
pub(crate) fn orphans(history: &History, settled_for: Duration) -> Vec<String> {
    let mut orphans = Vec::new();
    for row in history.rows.values() {
        if row.checkpoint.is_shard_end() || history.parents_ended(&row.shard_id).is_err() {
            continue;
        }
        // A child of a shard that has just ended needs its own time.
        let since = history.shards.get(&row.shard_id).map_or(Duration::ZERO, |facts| {
            facts.parents.iter().filter_map(|p| history.shards.get(p)?.ended).max().unwrap_or_default()
        });
        if history.now.saturating_sub(since) < settled_for {
            continue;
        }
        let held = row.owner.as_ref().zip(row.owner_instance).and_then(|(owner, instance)| history.running_node(owner, instance));
        if held.is_none() {
            orphans.push(Row(row).to_string());
        }
    }
    orphans
}

/// Shards that take records and have no lease at all.
pub(crate) fn uncovered(history: &History) -> Vec<String> {
    let leased = |id: &shardkeeper::types::ShardId| history.rows.values().any(|row| row.shard_id == *id);
    let open = history.shards.iter().filter(|(_, facts)| !facts.closed);
    open.filter(|(id, _)| !leased(id) && history.parents_ended(id).is_ok()).map(|(id, _)| id.to_string()).collect()
}

/// Leases that are not at their end, per running worker.
pub(crate) fn shares(history: &History) -> BTreeMap<NodeId, usize> {
    let running = history.nodes.iter().filter(|(_, node)| node.running);
    let mut shares: BTreeMap<NodeId, usize> = running.map(|(id, _)| (*id, 0)).collect();
    for row in history.rows.values().filter(|row| !row.checkpoint.is_shard_end()) {
        if let Some((owner, instance)) = row.owner.as_ref().zip(row.owner_instance)
            && let Some((node, _)) = history.running_node(owner, instance)
        {
            *shares.entry(node).or_default() += 1;
        }
    }
    shares
}

/// How far the workers with most and fewest leases are apart.
pub(crate) fn spread(history: &History) -> usize {
    let shares = shares(history);
    shares.values().max().copied().unwrap_or(0) - shares.values().min().copied().unwrap_or(0)
}
