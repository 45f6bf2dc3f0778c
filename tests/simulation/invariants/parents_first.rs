//! P2: no record of a child shard is handed out before the leases of its parents are at their end.

use super::Invariant;
use crate::{
    event::{Callback, Event},
    history::History,
};

pub(crate) struct ParentsFirst;

impl Invariant for ParentsFirst {
    fn name(&self) -> &'static str {
        "parents_first"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::CallStarted { by, call: Callback::Process(_) } = event else { return Ok(()) };
        history.parents_ended(&by.shard).map_err(|parent| format!("{by} starts before its parent {parent} has ended"))
    }
}
