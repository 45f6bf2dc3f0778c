//! What the service allows: a process calls SubscribeToShard for one shard once a second at most, whatever became of the
//! call before, of the reader that made it, and of the lease.

use std::{collections::BTreeMap, time::Duration};

use shardkeeper::limits;

use super::Invariant;
use crate::{
    event::{Event, NodeId, ShardKey},
    history::History,
};

#[derive(Default)]
pub(crate) struct SubscriptionRate {
    called: BTreeMap<(NodeId, ShardKey), Duration>,
}

impl Invariant for SubscriptionRate {
    fn name(&self) -> &'static str {
        "subscription_rate"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::Subscribes { node, shard } = event else { return Ok(()) };
        match self.called.insert((*node, shard.clone()), history.now) {
            Some(before) if history.now - before < limits::SUBSCRIBE_CALL_INTERVAL => {
                Err(format!("{node} subscribes to {shard} again {:.3} s after it last did", (history.now - before).as_secs_f64()))
            }
            Some(_) | None => Ok(()),
        }
    }
}
