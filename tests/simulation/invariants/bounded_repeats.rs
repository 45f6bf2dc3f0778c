//! P3: a planned move repeats nothing, and a crash repeats only what came after the last checkpoint, which is never
//! older than the checkpoint interval where nothing hinders it.

use std::time::Duration;

use super::Invariant;
use crate::{
    event::{Callback, Event, NodeId, Row, ShardKey},
    history::History,
};

/// Time for a checkpoint to reach the table on a calm network, attempts included.
const WRITE_TIME: Duration = Duration::from_secs(2);

pub(crate) struct BoundedRepeats;

impl Invariant for BoundedRepeats {
    fn name(&self) -> &'static str {
        "bounded_repeats"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        match event {
            Event::LeaseSent { node, from, to } if history.is_own(*node, from) && to.owner != from.owner => {
                moved_cleanly(history, *node, to)
            }
            Event::Killed { node } => fresh(history, *node),
            _ => Ok(()),
        }
    }
}

/// A write that gives the lease up carries all that this tenure has done.
fn moved_cleanly(history: &History, node: NodeId, to: &shardkeeper::lease::Lease) -> Result<(), String> {
    let shard = ShardKey::of(to);
    let Some((token, tenure)) = history.current_tenure(&shard) else { return Ok(()) };
    if tenure.node != node {
        return Ok(());
    }
    if let Some((Callback::Process(_), since)) = &tenure.running
        && history.now.saturating_sub(*since) < history.settings.drain_timeout
    {
        return Err(format!("{shard}#{token} is given up while its handler runs"));
    }
    let Some(facts) = history.shards.get(&shard) else { return Ok(()) };
    let written = facts.index_after(to.checkpoint, to.start_at);
    let done = tenure.done(facts);
    if written < done {
        return Err(format!("{} leaves out {} processed records of tenure {token}", Row(to), done - written));
    }
    Ok(())
}

/// What a crash makes others repeat is not older than the checkpoint interval.
fn fresh(history: &History, node: NodeId) -> Result<(), String> {
    let Some(facts) = history.nodes.get(&node) else { return Ok(()) };
    let settings = &history.settings;
    // A node that was frozen lately has not had its time.
    let bound = settings.checkpoint_interval + WRITE_TIME;
    let hindered = facts.frozen || facts.last_frozen.is_some_and(|at| history.now.saturating_sub(at) < bound + WRITE_TIME);
    if !settings.calm_network || hindered || !facts.running {
        return Ok(());
    }
    for ((shard, token), tenure) in &history.tenures {
        if tenure.node != node || tenure.over.is_some() || tenure.surrendered.is_some() {
            continue;
        }
        let row = history.rows.values().find(|row| ShardKey::of(row) == *shard);
        let (Some(row), Some(facts)) = (row, history.shards.get(shard)) else { continue };
        let durable = facts.index_after(row.checkpoint, row.start_at);
        let waiting = facts.records[durable..tenure.done(facts).max(durable)].first().and_then(|record| record.done);
        if let Some(done) = waiting
            && history.now.saturating_sub(done) > bound
        {
            return Err(format!("{shard}#{token} has not written progress made at {:.3} s", done.as_secs_f64()));
        }
    }
    Ok(())
}
