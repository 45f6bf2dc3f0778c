//! No record and no end of a shard is delivered while the shard is paused.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::{
    event::{Callback, Event, NodeId},
    history::History,
};

/// What is paused now.
#[derive(Default)]
pub(crate) struct Paused(BTreeMap<NodeId, OfNode>);

#[derive(Default)]
struct OfNode {
    all: bool,
    /// Streams of which it is not as with all.
    except: BTreeSet<u32>,
}

impl Invariant for Paused {
    fn name(&self) -> &'static str {
        "paused"
    }

    fn judge(&mut self, _history: &History, event: &Event) -> Result<(), String> {
        match event {
            Event::Paused { node, stream: None, paused } => {
                self.0.insert(*node, OfNode { all: *paused, except: BTreeSet::new() });
            }
            Event::Paused { node, stream: Some(stream), paused } => {
                let of = self.0.entry(*node).or_default();
                if of.all == *paused {
                    of.except.remove(stream);
                } else {
                    of.except.insert(*stream);
                }
            }
            Event::CallStarted { by, call: Callback::Process(_) | Callback::ShardEnded }
                if self.0.get(&by.node).is_some_and(|of| of.all != of.except.contains(&by.shard.stream)) =>
            {
                return Err(format!("{by} gets something although it is paused"));
            }
            _ => {}
        }
        Ok(())
    }
}
