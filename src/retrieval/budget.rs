//! The byte budget that all shards of a worker share for what is fetched and not yet processed.
//!
//! Fairness is that of dynamic thresholds in shared-memory switches (Choudhury and Hahne, 1998): a shard may hold as
//! much as is still free. One busy shard gets half of the budget, `n` equally busy ones get `1/(n+1)` each, and
//! nothing has to be configured or counted.
//!
//! Where that is too little to be worth a call, because there are very many shards or because others hold on to what they
//! have, shards that hold nothing take turns:
//!
//! ```text
//! up to the budget             as much as is free, if that is worth a call
//! up to 10 % beyond it         turns, first come, first served: a page of a useful size, or an event
//! up to 15 % beyond it         little for each polled shard that wants little, and for all when no turn comes round any more
//! up to 20 % beyond it         one record or event for those whom little does not help then
//! ```
//! A page is made to fit what is granted, but has one record at least, however large, and nobody knows how large the first one
//! is. An event cannot be chosen: it is on its way before its size is known. A shard sets aside what it expects of
//! either, and corrects that when it is there. So shards that hold on to what they have, being blocked or paused, do not keep the
//! others from reading as long as all that is held stays within a fifth beyond the
//! budget, or one record in a budget of which that is more than a twentieth.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

/// Most of what a polled shard gets that holds nothing when it is not its turn, and what a shard may want and get at once.
const MOST_LITTLE: u64 = 64 * 1024;
/// The least of it, however many shards there are.
const LEAST_LITTLE: u64 = 4 * 1024;
/// A page of this size is worth its call: what it costs to make one is a seventh of what it costs to read it.
const WORTHWHILE: u64 = 512 * 1024;
/// The size of a page beyond the budget.
const TURN: u64 = 1024 * 1024;
/// When no turn came round for so long, the shards that hold the budget are not processed.
const STALLED: Duration = Duration::from_millis(200);
/// Nobody waits longer for a turn, if little helps.
const PATIENCE: Duration = Duration::from_secs(5);
/// When those look again whom little does not help, or not yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The budget of a worker. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity: u64,
    shards: AtomicU64,
    state: Mutex<State>,
    /// More is held now than the budget has.
    overdrawn: Notify,
}

#[derive(Debug)]
struct State {
    used: u64,
    waiting: VecDeque<Waiter>,
    /// When somebody got more than the little that is always there.
    moved: Instant,
}

#[derive(Debug)]
struct Waiter {
    shard: Arc<Part>,
    wanted: Wanted,
    granted: oneshot::Sender<Reservation>,
}

/// What bytes are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A page, which is made to fit into what is granted, but takes up `least` at the least.
    Page { bytes: u64, least: u64 },
    /// An event, expected to be of this size.
    Event(u64),
}

/// A shard's part in the budget.
#[derive(Debug, Clone)]
pub(crate) struct ShardBudget(Arc<Part>);

#[derive(Debug)]
struct Part {
    budget: ByteBudget,
    /// Bytes this shard holds. Changed under the budget's lock only.
    held: AtomicU64,
}

/// Bytes set aside; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    shard: Arc<Part>,
    bytes: u64,
}

impl ByteBudget {
    pub(crate) fn new(capacity: u64) -> Self {
        let state = State { used: 0, waiting: VecDeque::new(), moved: Instant::now() };
        Self(Arc::new(Inner { capacity, shards: AtomicU64::new(0), state: Mutex::new(state), overdrawn: Notify::new() }))
    }

    /// The part of one more shard.
    pub(crate) fn shard(&self) -> ShardBudget {
        self.0.shards.fetch_add(1, Ordering::Relaxed);
        ShardBudget(Arc::new(Part { budget: self.clone(), held: AtomicU64::new(0) }))
    }

    /// Bytes set aside by all shards.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.with(|state| state.used)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a shard that holds `held` gets now of what it wants; `None` when it has to wait. `passes` says whether it
    /// would pass others that wait for their turn.
    fn grant(&self, state: &State, held: u64, wanted: Wanted, passes: bool) -> Option<u64> {
        let capacity = self.0.capacity;
        let room = capacity.saturating_sub(state.used).saturating_sub(held);
        let turns_end = self.turns_end();
        let turn = match wanted {
            Wanted::Page { bytes, least } => {
                // What comes back is kept together for who waits for a turn, or it would go as it comes, bit by bit.
                if passes {
                    return None;
                }
                let least = least.min(capacity);
                if room >= bytes.min(self.worthwhile()).max(least) {
                    return Some(bytes.min(room));
                }
                bytes.min(TURN.min(capacity / 16)).max(least)
            }
            Wanted::Event(bytes) => {
                if room >= bytes.min(self.worthwhile()) {
                    return Some(bytes.min(room));
                }
                bytes.min(capacity)
            }
        };
        (held == 0 && !passes && (state.used == 0 || state.used + turn <= turns_end)).then_some(turn)
    }

    /// What a polled shard that holds nothing gets when it is not its turn.
    fn little(&self, wanted: Wanted) -> Option<u64> {
        let little = (self.0.capacity / 20 / self.shards()).clamp(LEAST_LITTLE, MOST_LITTLE);
        match wanted {
            Wanted::Page { bytes, least } if least <= little => Some(bytes.min(little)),
            Wanted::Page { .. } | Wanted::Event(_) => None,
        }
    }

    /// What a shard that holds nothing gets when no turn comes round any more.
    fn beyond(&self, state: &State, wanted: Wanted) -> Option<u64> {
        let capacity = self.0.capacity;
        let (Wanted::Page { least: one, .. } | Wanted::Event(one)) = wanted;
        let one = one.min(capacity);
        // In a small budget, a record may be larger than what is kept for it.
        let goes = state.used + one <= capacity.saturating_add(capacity / 5) || state.used <= capacity.saturating_add(capacity / 20 * 3);
        self.little(wanted).or_else(|| goes.then_some(one))
    }

    /// Shards that read within it, at least one.
    fn shards(&self) -> u64 {
        self.0.shards.load(Ordering::Relaxed).max(1)
    }

    fn turns_end(&self) -> u64 {
        self.0.capacity.saturating_add(self.0.capacity / 10)
    }

    fn worthwhile(&self) -> u64 {
        WORTHWHILE.min(self.0.capacity / 8)
    }

    fn release(&self, shard: &Part, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut undeliverable = Vec::new();
        self.with(|state| {
            state.used -= bytes;
            shard.held.fetch_sub(bytes, Ordering::Relaxed);
            let mut passes = false;
            let mut at = 0;
            while let Some(waiter) = state.waiting.get(at) {
                if waiter.granted.is_closed() {
                    state.waiting.remove(at);
                    continue;
                }
                let held = waiter.shard.held.load(Ordering::Relaxed);
                let Some(bytes) = self.grant(state, held, waiter.wanted, passes) else {
                    passes |= held == 0;
                    at += 1;
                    continue;
                };
                let waiter = state.waiting.remove(at).expect("it was there");
                state.moved = Instant::now();
                let reservation = waiter.shard.take(state, bytes);
                // Dropping a reservation takes the lock, so those that nobody waits for any more are dropped later.
                undeliverable.extend(waiter.granted.send(reservation).err());
            }
        });
    }
}

impl Waiter {
    /// Whether it waits for its turn, in which nobody passes it.
    fn takes_turns(&self) -> bool {
        !self.granted.is_closed() && self.shard.held.load(Ordering::Relaxed) == 0
    }
}

impl Part {
    fn take(self: &Arc<Self>, state: &mut State, bytes: u64) -> Reservation {
        self.add(state, bytes);
        Reservation { shard: Arc::clone(self), bytes }
    }

    fn add(&self, state: &mut State, bytes: u64) {
        let capacity = self.budget.0.capacity;
        let before = state.used;
        state.used += bytes;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        if before <= capacity && state.used > capacity {
            self.budget.0.overdrawn.notify_waiters();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.0.shards.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ShardBudget {
    /// Waits until this shard may hold more: all of `wanted` bytes, or as much as its share of the budget allows, but
    /// not less than `least`, which is what a page of one record takes up.
    ///
    /// # Cancel safety
    /// Safe; the place in the queue is given up.
    pub(crate) async fn reserve(&self, wanted: u64, least: u64) -> Reservation {
        self.wait_for(Wanted::Page { bytes: wanted.max(least), least }).await
    }

    /// Waits until this shard may ask for an event that is expected to have so many bytes.
    ///
    /// # Cancel safety
    /// Safe; the place in the queue is given up.
    pub(crate) async fn reserve_event(&self, expected: u64) -> Reservation {
        self.wait_for(Wanted::Event(expected)).await
    }

    async fn wait_for(&self, wanted: Wanted) -> Reservation {
        let Self(part) = self;
        let mut answer = match self.ask(wanted) {
            Ok(reservation) => return reservation,
            Err(answer) => answer,
        };
        let patience = Instant::now() + PATIENCE;
        let mut look_at = Instant::now() + STALLED;
        loop {
            tokio::select! {
                biased;
                reservation = &mut answer => return reservation.expect("a waiter leaves the queue only with a reservation"),
                () = sleep_until(look_at) => {}
            }
            let look = part.budget.with(|state| {
                if let Ok(reservation) = answer.try_recv() {
                    return Ok(reservation);
                }
                let (now, due) = (Instant::now(), patience.min(state.moved + STALLED));
                if part.held.load(Ordering::Relaxed) > 0 {
                    return Err(now + LOOK_AGAIN);
                }
                if now < due {
                    return Err(due);
                }
                part.budget.beyond(state, wanted).map(|bytes| part.take(state, bytes)).ok_or(now + LOOK_AGAIN)
            });
            match look {
                Ok(reservation) => return reservation,
                Err(again) => look_at = again,
            }
        }
    }

    /// An even part of the budget.
    pub(crate) fn even_part(&self) -> u64 {
        let Self(part) = self;
        part.budget.0.capacity / part.budget.shards()
    }

    /// Waits until the shards hold more than the budget has.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn overdrawn(&self) {
        let budget = &self.0.budget;
        loop {
            let notified = budget.0.overdrawn.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if budget.with(|state| state.used > budget.0.capacity) {
                return;
            }
            notified.await;
        }
    }

    /// What there is now, or a place in the queue.
    fn ask(&self, wanted: Wanted) -> Result<Reservation, oneshot::Receiver<Reservation>> {
        let Self(part) = self;
        let budget = &part.budget;
        budget.with(|state| {
            let held = part.held.load(Ordering::Relaxed);
            let passes = state.waiting.iter().any(Waiter::takes_turns);
            if let Some(bytes) = budget.grant(state, held, wanted, passes) {
                state.moved = Instant::now();
                return Ok(part.take(state, bytes));
            }
            let wants_little = matches!(wanted, Wanted::Page { bytes, .. } if bytes <= MOST_LITTLE);
            let stalled = state.moved.elapsed() >= STALLED;
            if held == 0
                && (wants_little || stalled)
                && let Some(bytes) = budget.little(wanted)
            {
                return Ok(part.take(state, bytes));
            }
            // Those that gave up are forgotten when the queue would grow, which is seldom.
            if state.waiting.len() == state.waiting.capacity() {
                state.waiting.retain(|waiter| !waiter.granted.is_closed());
            }
            let (granted, answer) = oneshot::channel();
            state.waiting.push_back(Waiter { shard: Arc::clone(part), wanted, granted });
            Err(answer)
        })
    }
}

impl Reservation {
    /// Bytes set aside.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Divides it: the new one has `bytes` of it, or all.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { shard: Arc::clone(&self.shard), bytes }
    }

    /// Corrects it to what was fetched indeed.
    pub(crate) fn resize(&mut self, bytes: u64) {
        let budget = &self.shard.budget;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            budget.with(|state| self.shard.add(state, more));
        } else if bytes < self.bytes {
            budget.release(&self.shard, self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shard.budget.release(&self.shard, self.bytes);
    }
}

#[cfg(test)]
#[path = "budget_test.rs"]
mod tests;
