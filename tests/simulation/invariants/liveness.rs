//! P5: once faults are over, every shard has a living owner and moves within `2 x lease duration + 1 s`; then the
//! fleet is balanced, and leases stay where they are. Looked at from outside, at moments that the run chooses.

use std::{collections::BTreeMap, time::Duration};

use shardkeeper::lease::Lease;

use crate::{
    event::{NodeId, Row, ShardKey},
    history::History,
};

/// Leases whose parents have ended and that no running worker holds.
pub(crate) fn orphans(history: &History, settled_for: Duration) -> Vec<String> {
    let mut orphans = Vec::new();
    for row in history.rows.values() {
        if row.checkpoint.is_shard_end() || history.parents_ended(&ShardKey::of(row)).is_err() {
            continue;
        }
        // A child of a shard that has just ended needs its own time.
        let since = history
            .shards
            .get(&ShardKey::of(row))
            .map_or(Duration::ZERO, |facts| facts.parents.iter().filter_map(|p| history.shards.get(p)?.ended).max().unwrap_or_default());
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
pub(crate) fn uncovered(history: &History, settled_for: Duration) -> Vec<String> {
    let leased = |id: &ShardKey| history.rows.values().any(|row| ShardKey::of(row) == *id);
    // One whose records went past retention is given up by its owner, who needs the time of a recovery to become it. That
    // it is given up at all shows when its children are drained.
    let given_up = |parent: &ShardKey| match history.shards.get(parent) {
        Some(facts) if facts.gone && leased(parent) => facts.ended.is_some_and(|at| history.now.saturating_sub(at) >= settled_for),
        Some(_) | None => true,
    };
    let open = history.shards.iter().filter(|(_, facts)| facts.shown && !facts.closed);
    open.filter(|(id, facts)| !leased(id) && history.parents_ended(id).is_ok() && facts.parents.iter().all(given_up))
        .map(|(id, _)| id.to_string())
        .collect()
}

/// Leases that are not at their end, per running worker.
pub(crate) fn shares(history: &History) -> BTreeMap<NodeId, usize> {
    let running = history.nodes.iter().filter(|(_, node)| node.running);
    let mut shares: BTreeMap<NodeId, usize> = running.map(|(id, _)| (*id, 0)).collect();
    held(history).for_each(|(node, _)| *shares.entry(node).or_default() += 1);
    shares
}

/// Leases that are not at their end and that a running worker holds.
fn held(history: &History) -> impl Iterator<Item = (NodeId, &Lease)> {
    let leases = history.rows.values().filter(|row| !row.checkpoint.is_shard_end());
    leases.filter_map(|row| Some((history.running_node(row.owner.as_ref()?, row.owner_instance?)?.0, row)))
}

/// Whether the fullest worker should give a lease to the emptiest: it has at least two more, and the lightest of them
/// would not even lift the emptiest to the average load. Measured load may well justify uneven counts.
pub(crate) fn is_uneven(history: &History) -> bool {
    let shares = shares(history);
    let (Some((full, most)), Some((empty, fewest))) =
        (shares.iter().max_by_key(|(_, count)| **count), shares.iter().min_by_key(|(_, count)| **count))
    else {
        return false;
    };
    if most - fewest < 2 {
        return false;
    }
    let leases: Vec<(NodeId, f64)> = held(history).map(|(node, row)| (node, row.throughput_kbps.unwrap_or(0.0))).collect();
    let total: f64 = leases.iter().map(|(_, load)| load).sum();
    let mean = total / leases.len() as f64;
    // As the planner weighs them: an idle lease is a tenth of a mean one.
    let weight = |load: &f64| load + mean / 10.0;
    let sum = |node: &NodeId| leases.iter().filter(|(owner, _)| owner == node).map(|(_, load)| weight(load)).sum::<f64>();
    let lightest = leases.iter().filter(|(owner, _)| owner == full).map(|(_, load)| weight(load)).fold(f64::INFINITY, f64::min);
    sum(empty) + lightest <= (total + mean / 10.0 * leases.len() as f64) / shares.len() as f64
}
