//! One subscription, one task: the only one that asks it for events, since what asks must not be interrupted.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};

use crate::{
    error::Error,
    retrieval::{RECORD_OVERHEAD_BYTES, Reservation, ShardBudget},
    stream::{Subscription, SubscriptionEvent},
    task::{Spawner, Task},
};

/// Bytes that there must be room for before the first event is asked for.
pub(super) const FIRST_BYTES: u64 = 64 * 1024;

/// What a pump sends; only after an event there is more.
#[derive(Debug)]
pub(super) enum Pumped {
    /// An event and its part of the byte budget.
    Event(SubscriptionEvent, Reservation),
    /// The subscription ended by itself.
    Over,
    /// It ended with an error.
    Broke(Error),
    /// It said nothing for longer than it may.
    Silent,
    /// There was no room in the byte budget for longer than a subscription is kept open.
    Full,
}

/// An open subscription. Closed when dropped, with what it has buffered.
#[derive(Debug)]
pub(super) struct Link {
    pumped: mpsc::Receiver<Pumped>,
    task: Task<()>,
}

/// How long a subscription may be silent, and wait for room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) silence: Duration,
    pub(super) full: Duration,
}

impl Link {
    pub(super) fn start(subscription: Box<dyn Subscription>, budget: ShardBudget, patience: Patience, spawner: &Spawner) -> Self {
        let (link, pumped) = mpsc::channel(1);
        let task = spawner.spawn("subscription", tracing::Instrument::in_current_span(pump(subscription, budget, patience, link)));
        Self { pumped, task }
    }

    /// Waits for what comes next.
    ///
    /// # Cancel safety
    /// Safe: what is not returned is there for the next call.
    pub(super) async fn next(&mut self) -> Pumped {
        if let Some(pumped) = self.pumped.recv().await {
            return pumped;
        }
        // The task is gone without a last word: it panicked, or its runtime has stopped.
        let why = match self.task.join().await {
            Ok(()) => "it ended early".to_owned(),
            Err(failed) => failed.to_string(),
        };
        Pumped::Broke(Error::new(crate::error::ErrorKind::Unavailable, format!("reading the subscription was interrupted: {why}")))
    }
}

async fn pump(mut subscription: Box<dyn Subscription>, budget: ShardBudget, patience: Patience, link: mpsc::Sender<Pumped>) {
    let mut expected = FIRST_BYTES;
    // While there is no place in the link or no room in the budget, this side is the slow one: the stream is not asked,
    // and its silence does not count.
    while let Ok(place) = link.reserve().await {
        let Ok(mut reservation) = timeout(patience.full, budget.reserve(expected)).await else {
            return place.send(Pumped::Full);
        };
        // An idle shard sets nothing aside, however long it waits.
        reservation.resize(0);
        let event = match timeout(patience.silence, subscription.next()).await {
            Ok(Ok(Some(event))) => event,
            Ok(Ok(None)) => return place.send(Pumped::Over),
            Ok(Err(error)) => return place.send(Pumped::Broke(error)),
            Err(_) => return place.send(Pumped::Silent),
        };
        let bytes = event.records.iter().map(|r| r.size_bytes() as u64 + RECORD_OVERHEAD_BYTES).sum();
        reservation.resize(bytes);
        expected = bytes.max(FIRST_BYTES);
        place.send(Pumped::Event(event, reservation));
    }
}
