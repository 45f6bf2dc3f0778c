//! Who should own what: a pure function from the leases and live workers of a moment to the moves that are worth
//! making.
//!
//! ```text
//! leases, workers ─▶ place ─▶ relieve ⇄ level ─▶ what differs from the present owners
//!                    │        │         └ by count: the fullest gives to the emptiest while they differ by two
//!                    │        └ by load: a worker above the trigger gives to the least loaded
//!                    └ what nobody alive owns, and what must leave its owner, heaviest first
//! ```
//!
//! A lease weighs its measured load plus a tenth of the mean load, so that idle shards are spread too. Two levels
//! keep the plan calm: a worker is *settled* up to a third of the dead band above the average (or one mean lease,
//! whichever is more), and only above the *trigger*, a whole dead band higher, does load alone move leases away,
//! until three quarters of the band are left: what left a worker in one measurement then does not fit again in the
//! next. Each move lowers the loads above the settled level, or leaves them and lowers the differences in count; so the passes
//! end, a plan applied to its own result is empty, and noise smaller than the dead band moves nothing back.
//!
//! The cost is O((leases + workers + moves) log (leases + workers)).

use std::collections::BTreeSet;

use crate::{lease::LeaseKey, types::WorkerId};

/// A lease as the planner sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedLease<'a> {
    pub(crate) key: &'a LeaseKey,
    /// Index of the live worker that owns it; `None` when nobody alive does.
    pub(crate) owner: Option<usize>,
    /// KiB/s; `None` when not measured yet: then the mean of the others is assumed.
    pub(crate) load: Option<f64>,
    /// Index of the live worker to which it is on its way. It counts as that worker's, and is left alone.
    pub(crate) moving_to: Option<usize>,
    /// Whether its owner may be asked to hand it over.
    pub(crate) movable: bool,
}

/// A live worker as the planner sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedWorker<'a> {
    pub(crate) id: &'a WorkerId,
    /// Most leases it wants; `None` for no limit.
    pub(crate) max_leases: Option<u32>,
    /// Whether it gives everything away.
    pub(crate) leaving: bool,
}

/// Tuning of the planner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    /// Share of the mean load per worker by which a worker may rise above its settled level before load alone moves
    /// leases away from it. Measurements that differ by a third of it never cause a move back. Infinity plans by
    /// count only.
    pub(crate) dead_band: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dead_band: 0.15 }
    }
}

/// A lease that should have another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Index of the lease.
    pub(crate) lease: usize,
    /// Index of its next owner.
    pub(crate) to: usize,
    /// Index of its present owner, who is to hand it over; `None` when it can be taken.
    pub(crate) from: Option<usize>,
}

/// Weight of the mean lease; integers make the plan exact and independent of the order of summing.
const UNIT: u64 = 1 << 20;
/// Senders that are tried for one receiver, which bounds the cost where load forbids most moves.
const TRIES: usize = 8;
/// Turns of relieving and levelling. Two or three settle any fleet seen; the rest is a guard.
const ROUNDS: usize = 32;

/// Plans the moves. Independent of the order of `leases` and `workers`; ties go by id. Assignments come in the
/// order of the leases' keys. Leases without a living owner are left out only when no worker has room.
pub(crate) fn plan(leases: &[PlannedLease<'_>], workers: &[PlannedWorker<'_>], settings: &Settings) -> Vec<Assignment> {
    let mut by_key: Vec<usize> = (0..leases.len()).collect();
    by_key.sort_by_key(|&index| leases[index].key);
    let mut staying: Vec<usize> = (0..workers.len()).filter(|&index| !workers[index].leaving).collect();
    staying.sort_by_key(|&index| workers[index].id);
    if staying.is_empty() {
        return Vec::new();
    }
    let mut seat_of = vec![None; workers.len()];
    for (seat, &worker) in staying.iter().enumerate() {
        seat_of[worker] = Some(seat);
    }

    let weights = weights(by_key.iter().map(|&index| leases[index].load));
    let seats = staying.iter().map(|&worker| Seat::new(workers[worker].max_leases)).collect();
    let mut fleet = Fleet { weights, seats, homes: vec![None; leases.len()], places: vec![None; leases.len()], receivers: BTreeSet::new() };

    let mut unowned = Vec::new();
    let mut draining = Vec::new();
    for (rank, &index) in by_key.iter().enumerate() {
        let lease = &leases[index];
        match lease.moving_to.or(lease.owner) {
            None => unowned.push(rank),
            Some(worker) => match seat_of[worker] {
                Some(seat) => fleet.seat(rank, seat, lease.movable && lease.moving_to.is_none()),
                None if lease.movable && lease.moving_to.is_none() => draining.push(rank),
                None => {}
            },
        }
    }
    fleet.place(unowned, draining);
    fleet.balance(settings);

    let mut assignments = Vec::new();
    for (rank, &index) in by_key.iter().enumerate() {
        let Some(seat) = fleet.places[rank] else { continue };
        let to = staying[seat];
        if leases[index].moving_to.or(leases[index].owner) != Some(to) {
            assignments.push(Assignment { lease: index, to, from: leases[index].owner });
        }
    }
    assignments
}

/// Weights with a mean of 1.1 units, in the order of the loads.
fn weights(loads: impl Iterator<Item = Option<f64>>) -> Vec<u64> {
    let loads: Vec<Option<f64>> = loads.map(|load| load.filter(|l| l.is_finite() && *l >= 0.0)).collect();
    let known: Vec<f64> = loads.iter().flatten().copied().collect();
    let mean = if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
    loads
        .into_iter()
        .map(|load| {
            let share = match load {
                Some(load) if mean > 0.0 => load / mean,
                Some(_) | None => 1.0,
            };
            (share * UNIT as f64).round() as u64 + UNIT / 10
        })
        .collect()
}

/// One worker that stays, and what it holds. Leases are ranks in the order of their keys.
#[derive(Debug)]
struct Seat {
    room: usize,
    count: usize,
    load: u64,
    /// Leases it owns and may be asked for, by weight.
    kept: BTreeSet<(u64, usize)>,
    /// Leases that this plan has given to it, by weight: changing that again costs nobody anything.
    given: BTreeSet<(u64, usize)>,
}

impl Seat {
    fn new(max_leases: Option<u32>) -> Self {
        let room = max_leases.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        Self { room, count: 0, load: 0, kept: BTreeSet::new(), given: BTreeSet::new() }
    }

    fn has_room(&self) -> bool {
        self.count < self.room
    }

    fn has_movable(&self) -> bool {
        !self.kept.is_empty() || !self.given.is_empty()
    }

    /// The lease whose weight is nearest to `wanted` and at most `limit`; one that costs no move, if possible.
    fn nearest(&self, wanted: u64, limit: u64) -> Option<usize> {
        [&self.given, &self.kept].into_iter().find_map(|leases| {
            let below = leases.range(..=(wanted.min(limit), usize::MAX)).next_back();
            // Of equal weights the first key is taken, from whichever side it is found.
            let below = below.and_then(|&(weight, _)| leases.range((weight, 0)..).next());
            let above = leases.range((wanted.saturating_add(1), 0)..).next().filter(|(weight, _)| *weight <= limit);
            match (below, above) {
                (Some(b), Some(a)) if a.0 - wanted < wanted - b.0 => Some(a.1),
                (Some(b), _) => Some(b.1),
                (None, a) => a.map(|a| a.1),
            }
        })
    }
}

/// Levels of load, in weight.
#[derive(Debug, Clone, Copy)]
struct Levels {
    mean: u64,
    settled: u64,
    relieved: u64,
    trigger: u64,
    /// What of the giver's load the receiver may reach, where it rises above the settled level.
    relief: f64,
    leases_per_seat: usize,
}

#[derive(Debug)]
struct Fleet {
    weights: Vec<u64>,
    seats: Vec<Seat>,
    /// Seat of the present owner.
    homes: Vec<Option<usize>>,
    /// Seat in the plan.
    places: Vec<Option<usize>>,
    /// Seats with room by load.
    receivers: BTreeSet<(u64, usize)>,
}

impl Fleet {
    /// Takes note of a lease that a seat has, or is about to get.
    fn seat(&mut self, lease: usize, seat: usize, movable: bool) {
        self.places[lease] = Some(seat);
        self.homes[lease] = Some(seat);
        let holder = &mut self.seats[seat];
        holder.count += 1;
        holder.load += self.weights[lease];
        if movable {
            holder.kept.insert((self.weights[lease], lease));
        }
    }

    fn change(&mut self, seat: usize, f: impl FnOnce(&mut Seat)) {
        self.receivers.remove(&(self.seats[seat].load, seat));
        f(&mut self.seats[seat]);
        if self.seats[seat].has_room() {
            self.receivers.insert((self.seats[seat].load, seat));
        }
    }

    fn give(&mut self, lease: usize, to: usize) {
        let entry = (self.weights[lease], lease);
        if let Some(from) = self.places[lease] {
            self.change(from, |seat| {
                seat.count -= 1;
                seat.load -= entry.0;
                if !seat.given.remove(&entry) {
                    seat.kept.remove(&entry);
                }
            });
        }
        let home = self.homes[lease] == Some(to);
        self.change(to, |seat| {
            seat.count += 1;
            seat.load += entry.0;
            if home {
                seat.kept.insert(entry)
            } else {
                seat.given.insert(entry)
            };
        });
        self.places[lease] = Some(to);
    }

    /// Finds seats for what has none and for what has to leave its own.
    fn place(&mut self, unowned: Vec<usize>, draining: Vec<usize>) {
        self.receivers = (0..self.seats.len()).filter(|&s| self.seats[s].has_room()).map(|s| (self.seats[s].load, s)).collect();
        let room = self.seats.iter().map(|s| s.room.saturating_sub(s.count)).fold(0usize, usize::saturating_add);
        let excess = self.seats.iter().flat_map(|seat| {
            let over = seat.count.saturating_sub(seat.room);
            seat.kept.iter().take(over).map(|&(_, lease)| lease)
        });
        let excess: Vec<usize> = excess.collect();
        // Where room is short, what nobody reads comes first.
        let mut pool: Vec<usize> = unowned.into_iter().chain(draining).chain(excess).take(room).collect();
        pool.sort_by_key(|&lease| (std::cmp::Reverse(self.weights[lease]), lease));
        for lease in pool {
            let Some(&(_, seat)) = self.receivers.first() else { break };
            self.give(lease, seat);
        }
    }

    fn levels(&self, settings: &Settings) -> Levels {
        let leases: usize = self.seats.iter().map(|s| s.count).sum();
        let total: u64 = self.seats.iter().map(|s| s.load).sum();
        let band = if settings.dead_band.is_nan() { Settings::default().dead_band } else { settings.dead_band.max(0.0) };
        let mean = total / self.seats.len() as u64;
        let mean_lease = total.checked_div(leases as u64).unwrap_or(0);
        // `as` saturates, so that an infinite band lifts both levels out of reach.
        let settled = ((mean as f64 * (1.0 + band / 3.0)) as u64).max(mean + mean_lease);
        let relieved = (settled as f64 * (1.0 + band * 0.75)) as u64;
        let trigger = (settled as f64 * (1.0 + band)) as u64;
        let relief = (1.0 - band * 2.0 / 3.0).max(0.0);
        Levels { mean, settled, relieved, trigger, relief, leases_per_seat: leases.div_ceil(self.seats.len()) }
    }

    fn balance(&mut self, settings: &Settings) {
        let levels = self.levels(settings);
        for _ in 0..ROUNDS {
            let relieved = self.relieve(&levels);
            let levelled = self.level(&levels);
            if !relieved && !levelled {
                break;
            }
        }
    }

    /// Most that `to` may get from `from`: it stays settled, or clearly below what `from` has now.
    fn limit(&self, from: usize, to: usize, levels: &Levels) -> u64 {
        let relieved = (self.seats[from].load as f64 * levels.relief) as u64;
        levels.settled.max(relieved).saturating_sub(self.seats[to].load)
    }

    fn relieve(&mut self, levels: &Levels) -> bool {
        let mut overloaded: Vec<(u64, usize)> =
            self.seats.iter().enumerate().filter(|(_, s)| s.load > levels.trigger).map(|(i, s)| (s.load, i)).collect();
        overloaded.sort_unstable_by_key(|&(load, seat)| (std::cmp::Reverse(load), seat));
        let mut moved = false;
        for (_, from) in overloaded {
            while self.seats[from].load > levels.relieved {
                let Some(to) = self.receivers.iter().map(|r| r.1).find(|&to| to != from) else { break };
                let wanted = (self.seats[from].load - levels.mean).min(levels.mean.saturating_sub(self.seats[to].load));
                let Some(lease) = self.seats[from].nearest(wanted, self.limit(from, to, levels)) else { break };
                // Also guards against endless exchange: the pair's larger load must shrink.
                if self.seats[to].load + self.weights[lease] >= self.seats[from].load {
                    break;
                }
                self.give(lease, to);
                moved = true;
            }
        }
        moved
    }

    fn level(&mut self, levels: &Levels) -> bool {
        let entry = |seats: &[Seat], seat: usize| (seats[seat].count, seat);
        let mut receivers: BTreeSet<_> =
            (0..self.seats.len()).filter(|&s| self.seats[s].has_room()).map(|s| entry(&self.seats, s)).collect();
        let mut senders: BTreeSet<_> =
            (0..self.seats.len()).filter(|&s| self.seats[s].has_movable()).map(|s| entry(&self.seats, s)).collect();
        let mut moved = false;
        while let Some(&(count, to)) = receivers.first() {
            let slots = levels.leases_per_seat.saturating_sub(count).max(1) as u64;
            let wanted = levels.mean.saturating_sub(self.seats[to].load) / slots;
            let mut fuller = senders.iter().rev().take_while(|s| s.0 >= count + 2).peekable();
            if fuller.peek().is_none() {
                break;
            }
            let found = fuller
                .take(TRIES)
                .find_map(|&(_, from)| self.seats[from].nearest(wanted, self.limit(from, to, levels)).map(|lease| (from, lease)));
            let Some((from, lease)) = found else {
                receivers.remove(&(count, to));
                continue;
            };
            for seat in [from, to] {
                receivers.remove(&entry(&self.seats, seat));
                senders.remove(&entry(&self.seats, seat));
            }
            self.give(lease, to);
            moved = true;
            for seat in [from, to] {
                if self.seats[seat].has_room() {
                    receivers.insert(entry(&self.seats, seat));
                }
                if self.seats[seat].has_movable() {
                    senders.insert(entry(&self.seats, seat));
                }
            }
        }
        moved
    }
}

#[cfg(test)]
#[path = "balance_test.rs"]
mod tests;
