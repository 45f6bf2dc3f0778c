//! P1: a checkpoint never passes a record that is not processed, already when its write is sent; a shard ends only
//! when it is closed, empty, and the leases of its children exist.

use shardkeeper::{lease::LeaseKey, types::Checkpoint};

use super::Invariant;
use crate::{
    event::{Event, Row},
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
        let Some(facts) = history.shards.get(&to.shard_id) else {
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
        let children = history.shards.iter().filter(|(_, child)| child.parents.contains(&to.shard_id));
        for (child, _) in children {
            let ended = history.shards.get(child).is_some_and(|facts| facts.ended.is_some());
            let missing = LeaseKey::new(child.as_str()).map_or(true, |key| !history.rows.contains_key(&key));
            if missing && !ended {
                return Err(format!("{} while its child {child} has no lease", Row(to)));
            }
        }
        Ok(())
    }
}
