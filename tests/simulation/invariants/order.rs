//! P2: within a tenure, user code gets one run of the shard's records without gap or repeat, from the checkpoint at
//! acquisition on, one batch at a time; a batch comes again only after it failed.

use super::Invariant;
use crate::{
    event::{Callback, Event},
    history::History,
};

pub(crate) struct Order;

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String> {
        let Event::CallStarted { by, call: Callback::Process(records) } = event else { return Ok(()) };
        let Some(tenure) = history.tenure(&by.shard, by.token) else {
            return Err(format!("{by} processes without any lease of that token"));
        };
        if let Some((running, since)) = &tenure.running {
            return Err(format!("{by} processes while its {} of {:.3} s is running", running.name(), since.as_secs_f64()));
        }
        let Some(facts) = history.shards.get(&by.shard) else { return Err(format!("{by} processes an unknown shard")) };
        let Some(first) = records.first() else { return Err(format!("{by} got an empty batch")) };
        let Some(index) = facts.index_of(*first) else { return Err(format!("{by} got a record that nobody put there")) };
        let next = tenure.next(facts);
        if index > next {
            return Err(format!("{by} skips {} records", index - next));
        }
        if index < next {
            let kind = if index < tenure.first(facts) { "before its checkpoint" } else { "that it has processed in this tenure" };
            return Err(format!("{by} gets {} records again {kind}", next - index));
        }
        let expected = facts.records[index..].iter().map(|record| record.position);
        if !expected.take(records.len()).eq(records.iter().copied()) {
            return Err(format!("{by} got a batch with a gap or out of order"));
        }
        Ok(())
    }
}
