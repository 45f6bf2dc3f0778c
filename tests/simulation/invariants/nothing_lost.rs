//! P1: a checkpoint never passes a record that is not processed, already when its write is sent; a shard ends only
//! when it is closed, empty, and the leases of its children exist.

use shardkeeper::types::Checkpoint;

use super::Invariant;
use crate::{
    event::{Event, Row, ShardKey},
    history::History,
};

pub(crate) struct NothingLost;

impl Invariant for NothingLost {
    fn name(&self) -> &'static str {
        "nothing_lost"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::LeaseSent { from, to, .. } = event else { return Ok(()) };
        if to.checkpoint == from.checkpoint {
            return Ok(());
        }
        let shard = ShardKey::of(to);
        let Some(facts) = history.shards.get(&shard) else {
            return Err(format!("checkpoint of a shard that the service never showed: {}", Row(to)));
        };
        let passed = facts.index_after(to.checkpoint, to.start_at);
        if passed > facts.done_until {
            return Err(format!("{} passes {} records that are not processed", Row(to), passed - facts.done_until));
        }
        if !matches!(to.checkpoint, Checkpoint::ShardEnd) {
            return Ok(());
        }
        if !facts.closed {
            return Err(format!("{} of a shard that is open", Row(to)));
        }
        if facts.gone {
            // Given up past retention: the leases of its children are made by the sync after that.
            return Ok(());
        }
        let children = history.shards.iter().filter(|(_, child)| child.parents.contains(&shard));
        for (child, _) in children {
            let ended = history.shards.get(child).is_some_and(|facts| facts.ended.is_some());
            let missing = !history.rows.contains_key(&to.sibling_key(&child.shard));
            if missing && !ended {
                return Err(format!("{} while its child {child} has no lease", Row(to)));
            }
        }
        Ok(())
    }
}
