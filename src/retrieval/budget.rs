//! The byte budget that all shards of a worker share for what is fetched and not yet processed.
//!
//! Fairness is that of dynamic thresholds in shared-memory switches (Choudhury and Hahne, 1998): a shard may hold as
//! much as is still free. One busy shard gets half of the budget, `n` equally busy ones get `1/(n+1)` each, and
//! nothing has to be configured or counted.
//!
//! What a shard gets that holds nothing when the others have used the budget up depends on how it is read:
//! - *Polled*, it always gets a small reservation. What is fetched for it may exceed that by one record at the least.
//! - *Subscribed*, it cannot choose how much comes: an event is of whatever size, and on its way before it is known. Such a
//!   shard sets aside what it expects before it asks for an event, and those that hold nothing take turns within a fifth
//!   of the budget on top.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, oneshot};

/// What a polled shard with nothing buffered gets at the least.
const MIN_GRANT: u64 = 64 * 1024;
/// Below this it is not worth a call to fetch ahead.
const WORTHWHILE: u64 = 256 * 1024;
/// The part of the budget that the events of shards with nothing buffered may take up beyond it.
const OVERDRAFT: u64 = 5;

/// The budget of a worker. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity: u64,
    state: Mutex<State>,
    /// More is held now than the budget has.
    overdrawn: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    shard: Arc<AtomicU64>,
    wanted: Wanted,
    granted: oneshot::Sender<Reservation>,
}

/// What bytes are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A page, which is made to fit into what is granted.
    Page(u64),
    /// An event, expected to be of this size.
    Event(u64),
}

/// A shard's part in the budget.
#[derive(Debug, Clone)]
pub(crate) struct ShardBudget {
    budget: ByteBudget,
    /// Bytes this shard holds. Changed under the budget's lock only.
    held: Arc<AtomicU64>,
}

/// Bytes set aside; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    shard: ShardBudget,
    bytes: u64,
}

impl ByteBudget {
    pub(crate) fn new(capacity: u64) -> Self {
        Self(Arc::new(Inner { capacity, state: Mutex::default(), overdrawn: Notify::new() }))
    }

    /// The part of one more shard.
    pub(crate) fn shard(&self) -> ShardBudget {
        ShardBudget { budget: self.clone(), held: Arc::default() }
    }

    /// Bytes set aside by all shards.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.with(|state| state.used)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a shard that holds `held` gets now of the bytes it wants; `None` when it has to wait. `passes` says whether it
    /// would pass others that wait for their turn.
    fn grant(&self, used: u64, held: u64, wanted: Wanted, passes: bool) -> Option<u64> {
        let capacity = self.0.capacity;
        let room = capacity.saturating_sub(used).saturating_sub(held);
        let (Wanted::Page(bytes) | Wanted::Event(bytes)) = wanted;
        if room >= bytes.min(WORTHWHILE) {
            return Some(bytes.min(room));
        }
        if held > 0 {
            return None;
        }
        match wanted {
            Wanted::Page(bytes) => Some(bytes.min(room.max(MIN_GRANT))),
            Wanted::Event(bytes) => {
                let bytes = bytes.min(capacity);
                (used == 0 || (!passes && used + bytes <= capacity + capacity / OVERDRAFT)).then_some(bytes)
            }
        }
    }

    fn release(&self, shard: &AtomicU64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut undeliverable = Vec::new();
        self.with(|state| {
            state.used -= bytes;
            shard.fetch_sub(bytes, Ordering::Relaxed);
            let waiting = std::mem::take(&mut state.waiting);
            // Events that wait for their turn do not pass each other, or small ones would keep large ones waiting.
            let mut passes = false;
            for waiter in waiting {
                let Some(bytes) = self.grant(state.used, waiter.shard.load(Ordering::Relaxed), waiter.wanted, passes) else {
                    passes |= waiter.takes_turns() && !waiter.granted.is_closed();
                    state.waiting.push_back(waiter);
                    continue;
                };
                let shard = ShardBudget { budget: self.clone(), held: waiter.shard };
                let reservation = shard.take(state, bytes);
                // Dropping a reservation takes the lock, so those that nobody waits for any more are dropped later.
                undeliverable.extend(waiter.granted.send(reservation).err());
            }
        });
    }
}

impl Waiter {
    /// Whether it waits for its turn to go beyond the budget.
    fn takes_turns(&self) -> bool {
        matches!(self.wanted, Wanted::Event(_)) && self.shard.load(Ordering::Relaxed) == 0
    }
}

impl ShardBudget {
    /// Waits until this shard may hold more: all of `wanted` bytes, or as much as its share of the budget allows.
    ///
    /// # Cancel safety
    /// Safe; the place in the queue is given up.
    pub(crate) async fn reserve(&self, wanted: u64) -> Reservation {
        self.wait_for(Wanted::Page(wanted)).await
    }

    /// Waits until this shard may ask for an event that is expected to have so many bytes.
    ///
    /// # Cancel safety
    /// Safe; the place in the queue is given up.
    pub(crate) async fn reserve_event(&self, expected: u64) -> Reservation {
        self.wait_for(Wanted::Event(expected)).await
    }

    /// Waits until the shards hold more than the budget has.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn overdrawn(&self) {
        loop {
            let notified = self.budget.0.overdrawn.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.budget.with(|state| state.used > self.budget.0.capacity) {
                return;
            }
            notified.await;
        }
    }

    async fn wait_for(&self, wanted: Wanted) -> Reservation {
        let answer = self.budget.with(|state| {
            let held = self.held.load(Ordering::Relaxed);
            state.waiting.retain(|w| !w.granted.is_closed());
            let passes = state.waiting.iter().any(Waiter::takes_turns);
            match self.budget.grant(state.used, held, wanted, passes) {
                Some(bytes) => Ok(self.take(state, bytes)),
                None => {
                    let (granted, answer) = oneshot::channel();
                    state.waiting.push_back(Waiter { shard: Arc::clone(&self.held), wanted, granted });
                    Err(answer)
                }
            }
        });
        match answer {
            Ok(reservation) => reservation,
            Err(answer) => answer.await.expect("a waiter leaves the queue only with a reservation"),
        }
    }

    fn take(&self, state: &mut State, bytes: u64) -> Reservation {
        self.add(state, bytes);
        Reservation { shard: self.clone(), bytes }
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

impl Reservation {
    /// Bytes set aside.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Divides it: the new one has `bytes` of it, or all.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { shard: self.shard.clone(), bytes }
    }

    /// Corrects it to what was fetched indeed.
    pub(crate) fn resize(&mut self, bytes: u64) {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            self.shard.budget.with(|state| self.shard.add(state, more));
        } else if bytes < self.bytes {
            self.shard.budget.release(&self.shard.held, self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shard.budget.release(&self.shard.held, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn busy_shards_share_evenly_and_an_empty_one_always_gets_something() {
        let budget = ByteBudget::new(12 * MIB);
        let (a, b, c) = (budget.shard(), budget.shard(), budget.shard());
        let fill = |shard: &ShardBudget| {
            let mut held = Vec::new();
            while let Some(r) = shard.reserve(MIB).now_or_never() {
                held.push(r);
            }
            held
        };
        let of_a = fill(&a);
        assert_eq!(a.held.load(Ordering::Relaxed), 6 * MIB, "one busy shard gets half");
        let of_b = fill(&b);
        assert!(b.held.load(Ordering::Relaxed) >= 2 * MIB);
        drop(of_a);
        let _again = fill(&a);
        assert!(a.held.load(Ordering::Relaxed) >= 4 * MIB);
        let big = c.reserve(20 * MIB).now_or_never().expect("a shard with nothing buffered never waits");
        assert!(big.bytes() >= MIN_GRANT && big.bytes() <= 12 * MIB);
        drop((of_b, big));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_when_bytes_come_back_and_leaves_nothing_behind() {
        let budget = ByteBudget::new(2 * MIB);
        let shard = budget.shard();
        let first = shard.reserve(MIB).await;
        let mut second = Box::pin(shard.reserve(MIB));
        assert!(futures::poll!(&mut second).is_pending());
        let third = Box::pin(shard.reserve(MIB));
        drop(third);
        drop(first);
        let second = second.await;
        assert_eq!(budget.used(), second.bytes());
        let mut given_up = Box::pin(shard.reserve(2 * MIB));
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(second);
        drop(given_up);
        assert_eq!(budget.used(), 0, "a grant that nobody took comes back");
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_but_for_the_least_grants(wants in prop::collection::vec((0usize..6, 1u64..4 * MIB, any::<bool>()), 1..120)) {
            let budget = ByteBudget::new(8 * MIB);
            let shards: Vec<_> = (0..6).map(|_| budget.shard()).collect();
            let mut held: Vec<(usize, Reservation)> = Vec::new();
            for (shard, wanted, give_back) in wants {
                if give_back && !held.is_empty() {
                    held.remove(wanted as usize % held.len());
                }
                let was_empty = held.iter().all(|(s, _)| *s != shard);
                match shards[shard].reserve(wanted).now_or_never() {
                    Some(reservation) => held.push((shard, reservation)),
                    None => prop_assert!(!was_empty, "nothing buffered, yet it had to wait"),
                }
                let sum: u64 = held.iter().map(|(_, r)| r.bytes()).sum();
                prop_assert_eq!(budget.used(), sum);
                prop_assert!(sum <= 8 * MIB + 6 * MIN_GRANT);
            }
            drop(held);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
