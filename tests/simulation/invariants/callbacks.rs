//! The contract of `RecordProcessor`: initialize, then batches, then exactly one last call; one processor per tenure,
//! one call at a time.

use super::Invariant;
use crate::{
    event::{Callback, Event},
    history::History,
};

pub(crate) struct Callbacks;

impl Invariant for Callbacks {
    fn name(&self) -> &'static str {
        "callbacks"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::CallStarted { by, call } = event else { return Ok(()) };
        let Some(tenure) = history.tenure(&by.shard, by.token).filter(|tenure| tenure.node == by.node) else {
            return Err(format!("{by} gets {} for a token that it has not taken", call.name()));
        };
        let repeats_the_end = tenure.end_failed && matches!(call, Callback::ShardEnded | Callback::LeaseLost);
        if let Some(last) = tenure.finished
            && !repeats_the_end
        {
            return Err(format!("{by} gets {} after {last}", call.name()));
        }
        if let Some((running, _)) = &tenure.running {
            return Err(format!("{by} gets {} while {} runs", call.name(), running.name()));
        }
        match (call, tenure.processor) {
            (Callback::Initialize(_), None) => Ok(()),
            (_, Some(processor)) if processor != by.processor => Err(format!("{by} is served by two processors")),
            (Callback::Initialize(_), Some(_)) if tenure.initialized => Err(format!("{by} is initialized twice")),
            // What may follow an initialize that failed is another try, or the end.
            (Callback::Process(_) | Callback::ShardEnded, _) if !tenure.initialized => {
                Err(format!("{by} gets {} without a successful initialize", call.name()))
            }
            (_, None) => Err(format!("{by} gets {} before initialize", call.name())),
            (_, Some(_)) => Ok(()),
        }
    }
}
