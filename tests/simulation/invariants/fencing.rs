//! P4, of the table: every write on a lease continues the row as it is, a checkpoint never goes back, only the
//! tenure that holds the lease moves it, and nobody takes a lease from an owner that may still believe in it.

use shardkeeper::lease::Lease;

use super::Invariant;
use crate::{
    event::{Event, NodeId, Row, ShardKey},
    history::History,
};

pub(crate) struct Fencing;

impl Invariant for Fencing {
    fn name(&self) -> &'static str {
        "fencing"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        match event {
            Event::LeaseCreated { lease, .. } if history.rows.contains_key(&lease.key) => Err(format!("{} replaces a row", Row(lease))),
            Event::LeaseUpdated { node, from, to } => updated(history, *node, from, to),
            Event::LeaseDeleted { from, .. } => match history.rows.get(&from.key) {
                Some(row) if row.counter == from.counter => deleted(history, row),
                _ => Err(format!("a row that is no more {} was deleted", Row(from))),
            },
            _ => Ok(()),
        }
    }
}

fn updated(history: &History, node: NodeId, from: &Lease, to: &Lease) -> Result<(), String> {
    let Some(row) = history.rows.get(&to.key) else { return Err(format!("{} was written where no row is", Row(to))) };
    if row.checkpoint > to.checkpoint {
        return Err(format!("{} moves the checkpoint of {} back", Row(to), Row(row)));
    }
    if row.counter != from.counter || to.counter != row.counter + 1 {
        return Err(format!("{} does not continue {}", Row(to), Row(row)));
    }
    let own = history.is_own(node, row);
    // What is past retention unread is given up by whoever finds it so.
    let gone = to.checkpoint.is_shard_end() && history.shards.get(&ShardKey::of(row)).is_some_and(|facts| facts.gone);
    if row.checkpoint != to.checkpoint && !own && !gone {
        return Err(format!("{node} moves the checkpoint of {}, which it does not hold", Row(row)));
    }
    let takes = to.owner_instance.is_some() && to.owner_instance != row.owner_instance;
    if takes
        && !own
        && let (Some(owner), Some(instance)) = (&row.owner, row.owner_instance)
        && let Some((id, holder)) = history.running_node(owner, instance)
        && let Some(until) = holder.believes_until(instance, history.settings.lease_duration)
        && until > history.now
    {
        return Err(format!("{node} takes {} from {id}, which may process for {:?} more", Row(row), until - history.now));
    }
    Ok(())
}

/// A row is deleted only when it is at its end.
fn deleted(history: &History, row: &Lease) -> Result<(), String> {
    if !row.checkpoint.is_shard_end() {
        return Err(format!("{} was deleted before its end", Row(row)));
    }
    let follows = |child: &Lease| child.stream == row.stream && child.parents.contains(&row.shard_id);
    let waiting = history.rows.values().find(|child| follows(child) && child.owner.is_none() && child.counter == 0);
    match waiting {
        Some(child) => Err(format!("{} was deleted before its child {} was begun", Row(row), Row(child))),
        None => Ok(()),
    }
}
