//! P4, of user code: no call starts when the fence has lapsed, when the write that gives the lease up has been sent,
//! or when another tenure has begun.

use super::Invariant;
use crate::{
    event::{Callback, Event},
    history::History,
};

pub(crate) struct Overrun;

impl Invariant for Overrun {
    fn name(&self) -> &'static str {
        "overrun"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::CallStarted { by, call: Callback::Process(_) } = event else { return Ok(()) };
        let (Some(tenure), Some(node)) = (history.tenure(&by.shard, by.token), history.nodes.get(&by.node)) else { return Ok(()) };
        if let Some(sent) = tenure.surrendered {
            return Err(format!("{by} processes after it sent, at {:.3} s, a write that gives the lease up", sent.as_secs_f64()));
        }
        let Some(since) = node.believes_since else { return Err(format!("{by} processes before any heartbeat was answered")) };
        let until = since + history.settings.lease_duration;
        if history.now >= until {
            return Err(format!("{by} processes although its lease lapsed at {:.3} s", until.as_secs_f64()));
        }
        if let Some(over) = tenure.over {
            return Err(format!("{by} processes although its tenure was over at {:.3} s", over.as_secs_f64()));
        }
        Ok(())
    }
}
