//! The promise of the design, one invariant per file. Each judges an event by the history before it.

mod bounded_repeats;
mod callbacks;
mod fencing;
mod nothing_lost;
mod order;
mod overrun;
mod parents_first;
mod paused;
mod spurious_loss;
mod subscription_rate;

pub(crate) mod liveness;

use crate::{event::Event, history::History};

/// One promise.
pub(crate) trait Invariant: Send {
    fn name(&self) -> &'static str;

    /// What is wrong with `event`, which happens to `history`.
    fn judge(&mut self, history: &History, event: &Event) -> Result<(), String>;
}

/// All that are judged at every event.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(nothing_lost::NothingLost),
        Box::new(order::Order),
        Box::new(parents_first::ParentsFirst),
        Box::new(bounded_repeats::BoundedRepeats),
        Box::new(fencing::Fencing),
        Box::new(overrun::Overrun),
        Box::new(callbacks::Callbacks),
        Box::new(spurious_loss::SpuriousLoss),
        Box::new(paused::Paused::default()),
        Box::new(subscription_rate::SubscriptionRate::default()),
    ]
}
