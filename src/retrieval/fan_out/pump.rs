//! One subscription, one task: the only one that asks it for events, since what asks must not be interrupted.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    clock::until,
    error::Error,
    retrieval::{Gauge, RECORD_OVERHEAD_BYTES, Reservation, ShardBudget},
    stream::{Heard, Subscription, SubscriptionEvent},
    task::{Spawner, Task},
};

/// Bytes that there must be room for before the first event is asked for: of a shard with a backlog it is a large one.
pub(super) const FIRST_BYTES: u64 = 1024 * 1024;
/// Bytes that there must be room for at the least, before any event is asked for.
const LEAST_BYTES: u64 = 64 * 1024;
/// How long room is kept for the first event. A shard with a backlog sends at once, one without may have nothing to send
/// for five seconds.
const FIRST_WAIT: Duration = Duration::from_millis(500);

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
    pub(super) fn start(
        subscription: Box<dyn Subscription>,
        budget: ShardBudget,
        gauge: Gauge,
        patience: Patience,
        spawner: &Spawner,
    ) -> Self {
        let (link, pumped) = mpsc::channel(1);
        let task = spawner.spawn("subscription", tracing::Instrument::in_current_span(pump(subscription, budget, gauge, patience, link)));
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

async fn pump(subscription: Box<dyn Subscription>, budget: ShardBudget, gauge: Gauge, patience: Patience, link: mpsc::Sender<Pumped>) {
    let heard = subscription.heard();
    let mut pump = Pump { subscription, heard, budget, gauge, patience, backlog: Backlog::Unknown };
    // While there is no place in the link or no room in the budget, this side is the slow one: the stream is not asked,
    // and its silence does not count.
    while let Ok(place) = link.reserve().await {
        let pumped = pump.next().await;
        let goes_on = matches!(pumped, Pumped::Event(..));
        place.send(pumped);
        if !goes_on {
            return;
        }
    }
}

/// What is known about records that wait in the shard.
#[derive(Debug, Clone, Copy)]
enum Backlog {
    Unknown,
    /// There are: the next event is at hand, and is about as large as the last ones.
    Some {
        expected: u64,
    },
    /// There were none. The last event was of this size.
    None {
        last: u64,
    },
}

/// How long room is kept for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Until(Instant),
    Throughout,
    No,
}

/// The silence of a subscription that is listened to.
struct Silence<'a> {
    since: Instant,
    heard: &'a Heard,
    limit: Duration,
}

impl Silence<'_> {
    /// Waits until nothing has come in for as long as may be.
    ///
    /// # Cancel safety
    /// Safe.
    async fn lasts(&self) {
        loop {
            let over = self.since.max(self.heard.at()) + self.limit;
            if over <= Instant::now() {
                return;
            }
            sleep_until(over).await;
        }
    }

    /// Leaves out a time in which it was not listened to.
    fn suspend(&mut self, paused: Duration) {
        self.since = self.since.max(self.heard.at()) + paused;
    }
}

struct Pump {
    subscription: Box<dyn Subscription>,
    heard: Heard,
    budget: ShardBudget,
    gauge: Gauge,
    patience: Patience,
    backlog: Backlog,
}

impl Pump {
    /// Waits for room, then for the next event.
    ///
    /// Events that are certain to come are waited for with their room set aside, or all shards with a backlog would ask
    /// for one at the moment in which there is room for one. An idle shard sets nothing aside, however long it waits;
    /// instead it stops to listen while the budget is overdrawn.
    async fn next(&mut self) -> Pumped {
        let Self { subscription, heard, budget, gauge, patience, backlog } = self;
        let room = async |bytes| {
            let _waiting = gauge.waiting_for_memory();
            timeout(patience.full, budget.reserve_event(bytes)).await
        };
        let wanted = match *backlog {
            Backlog::Unknown => FIRST_BYTES,
            Backlog::Some { expected } => expected,
            Backlog::None { last } => last,
        };
        let Ok(mut reservation) = room(wanted.max(LEAST_BYTES)).await else { return Pumped::Full };
        let mut kept = match backlog {
            Backlog::Unknown => Kept::Until(Instant::now() + FIRST_WAIT),
            Backlog::Some { .. } => Kept::Throughout,
            Backlog::None { .. } => Kept::No,
        };
        let next = subscription.next();
        tokio::pin!(next);
        let mut silence = Silence { since: Instant::now(), heard, limit: patience.silence };
        let answer = loop {
            if kept == Kept::No {
                reservation.resize(0);
                tokio::select! {
                    biased;
                    () = budget.overdrawn() => {}
                    answer = &mut next => break answer,
                    () = silence.lasts() => return Pumped::Silent,
                }
                // What comes now may be a burst on all shards. Whoever is not listened to keeps it in the connection.
                let paused = Instant::now();
                let Ok(reserved) = room(FIRST_BYTES).await else { return Pumped::Full };
                reservation = reserved;
                silence.suspend(paused.elapsed());
                kept = Kept::Until(Instant::now() + FIRST_WAIT);
            } else {
                let given_up = if let Kept::Until(at) = kept { Some(at) } else { None };
                tokio::select! {
                    biased;
                    answer = &mut next => break answer,
                    () = silence.lasts() => return Pumped::Silent,
                    // As long as something of it comes in, it is about to be there.
                    () = until(given_up) => match heard.at() + FIRST_WAIT {
                        later if later > Instant::now() => kept = Kept::Until(later),
                        _ => kept = Kept::No,
                    },
                }
            }
        };
        let event = match answer {
            Ok(Some(event)) => event,
            Ok(None) => return Pumped::Over,
            Err(error) => return Pumped::Broke(error),
        };
        let bytes: u64 = event.records.iter().map(|r| r.size_bytes() as u64 + RECORD_OVERHEAD_BYTES).sum();
        reservation.resize(bytes);
        *backlog = match (event.millis_behind_latest, *backlog) {
            (0, _) => Backlog::None { last: bytes },
            (_, Backlog::Some { expected }) => Backlog::Some { expected: bytes.max(expected / 2) },
            (_, Backlog::Unknown | Backlog::None { .. }) => Backlog::Some { expected: bytes },
        };
        Pumped::Event(event, reservation)
    }
}

#[cfg(test)]
#[path = "pump_test.rs"]
mod tests;
