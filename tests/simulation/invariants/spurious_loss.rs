//! A worker does not give up a lease that the table still gives to it.

use super::Invariant;
use crate::{
    event::{Callback, Event},
    history::History,
};

pub(crate) struct SpuriousLoss;

impl Invariant for SpuriousLoss {
    fn name(&self) -> &'static str {
        "spurious_loss"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::CallStarted { by, call: Callback::LeaseLost } = event else { return Ok(()) };
        let (Some(tenure), Some(node)) = (history.tenure(&by.shard, by.token), history.nodes.get(&by.node)) else { return Ok(()) };
        // After it has sent to give it up, the lease is gone for it in any case.
        if tenure.over.is_some() || tenure.surrendered.is_some() {
            return Ok(());
        }
        // Declared dead, it may not go on, though nobody has taken its leases yet.
        let alive = history.workers.get(&node.worker).is_some_and(|version| version.instance == tenure.instance);
        let believes = node.believes_since.is_some_and(|since| since + history.settings.lease_duration > history.now);
        if alive && believes { Err(format!("{by} is told that its lease is lost, but it holds it")) } else { Ok(()) }
    }
}
