//! The housekeeper's round: read the table, bury dead workers, plan, and tell each worker what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use super::{
    balance::{self, PlannedLease, PlannedWorker},
    held::StopRequest,
    life::Life,
    liveness::LeaseStatus,
    membership::is_java_owned,
    watch::awaits,
};
use crate::{
    error::Result,
    lease::{Lease, LeaseKey, Signal, TableScan, WorkerRow, WorkerState, WriteOutcome},
    types::{InstanceId, WorkerId},
};

/// Bytes of signals up to which more are left in a worker's row, so that it stays far below DynamoDB's 400 KB, with room
/// for what other workers leave there. When the row's owner has read them, the next round brings the rest.
const SIGNAL_BYTES_PER_WORKER: usize = 48 * 1024;
/// Workers that are signalled side by side.
const CONCURRENCY: usize = 8;

/// A hand-over that has been asked for.
#[derive(Debug, Clone)]
struct Moving {
    from: InstanceId,
    to: WorkerId,
    give_up: Instant,
}

#[derive(Debug)]
pub(super) struct Housekeeping {
    life: Arc<Life>,
    moving: BTreeMap<LeaseKey, Moving>,
    /// When the first of the rounds in a row began that have failed.
    failing_since: Option<Instant>,
    /// Whether signals had to wait for room in the rows of their receivers.
    held_back: bool,
}

impl Housekeeping {
    pub(super) fn new(life: Arc<Life>) -> Self {
        Self { life, moving: BTreeMap::new(), failing_since: None, held_back: false }
    }

    /// Holds rounds while this worker leads: when something has changed, and once per heartbeat.
    ///
    /// # Errors
    /// `Mismatch` when Java workers turn up in the table.
    pub(super) async fn run(mut self) -> Result<()> {
        let interval = self.life.outfit.config.heartbeat_interval();
        let mut due = Instant::now() + interval;
        loop {
            tokio::select! {
                biased;
                () = self.life.plan_now.notified() => {}
                () = sleep_until(due) => {}
            }
            if self.life.expelled.is_cancelled() {
                return Ok(());
            }
            due = Instant::now() + interval;
            if !self.life.state().leading {
                self.moving.clear();
                self.failing_since = None;
                continue;
            }
            let began = Instant::now();
            match self.round().await {
                Ok(()) => {
                    self.failing_since = None;
                    if std::mem::take(&mut self.held_back) {
                        due = Instant::now() + self.life.outfit.config.watch_interval * 2;
                    }
                }
                Err(error) if error.kind() == crate::ErrorKind::Mismatch => return Err(error),
                Err(error) => {
                    tracing::warn!(worker_id = %self.life.me(), %error, "housekeeping round failed, trying again");
                    due = Instant::now() + self.life.outfit.config.watch_interval;
                    if self.failing_since.get_or_insert(began).elapsed() >= self.life.outfit.config.lease_duration {
                        self.resign();
                    }
                }
            }
            // Changes that come in a burst are planned together.
            tokio::time::sleep(self.life.outfit.config.watch_interval / 4).await;
        }
    }

    async fn round(&mut self) -> Result<()> {
        let life = Arc::clone(&self.life);
        let mut scan = life.outfit.scan().await?;
        let now = Instant::now();
        let (foreign, unconfirmed) = {
            let mut state = life.state();
            state.observer.observe_scan(&scan, now);
            (state.observer.foreign_activity(now), state.observer.unconfirmed())
        };
        if let Some(sign) = foreign.first() {
            return Err(life.outfit.java_is_alive(&sign.to_string()));
        }
        if !unconfirmed.is_empty() {
            // Owners without a row may have joined after the scan had passed the place of their rows.
            let rows = life.outfit.call(life.outfit.table.get_workers(&unconfirmed)).await?;
            life.state().observer.observe_workers(&unconfirmed, &rows, Instant::now());
        }
        for row in &scan.skipped {
            tracing::warn!(key = %row.key, reason = %row.reason, table = %life.outfit.table, "a row of the lease table cannot be read; it is left alone");
        }
        if self.stand_down(&scan, now) {
            return Ok(());
        }
        self.bury(&mut scan, now).await;
        self.publish_roster(&scan.workers);
        self.assign(&scan, now).await?;
        // A scan that nobody waits for is dropped; the next one is fresher.
        drop(life.outfit.scans.try_send(Arc::new(scan)));
        Ok(())
    }

    /// Of two living housekeepers the one with the smaller id stays.
    fn stand_down(&self, scan: &TableScan, now: Instant) -> bool {
        let mut state = self.life.state();
        let stale = state.observer.stale_workers(now);
        let other = scan.workers.iter().find(|w| w.leading && w.id < self.life.outfit.me && !stale.iter().any(|(id, _)| *id == w.id));
        let Some(other) = other else { return false };
        tracing::info!(worker_id = %self.life.me(), leader = %other.id, "another worker does the housekeeping");
        state.leading = false;
        state.roster.clear();
        state.leader = Some(other.id.clone());
        drop(state);
        self.life.beat_now.notify_one();
        true
    }

    /// Leaves the housekeeping to others, after rounds have failed for a lease duration: as long as this worker leads and
    /// cannot work, no lease of a dead one moves. With nobody else to do it, this worker goes on.
    fn resign(&mut self) {
        let life = &self.life;
        {
            let mut state = life.state();
            let mut line: Vec<WorkerId> = state.roster.iter().filter(|id| *id != life.me()).cloned().collect();
            if line.is_empty() || !state.leading {
                return;
            }
            tracing::warn!(worker_id = %life.me(), "this worker cannot do the housekeeping; it is left to another");
            line.push(life.me().clone());
            state.leading = false;
            state.roster.clear();
            state.leader = None;
            state.resigned = Some((Instant::now() + life.outfit.config.lease_duration, line));
        }
        self.failing_since = None;
        life.beat_now.notify_one();
    }

    /// Declares silent workers dead, by deleting their rows as they were seen: a worker that renews in the same
    /// moment either keeps its row, or learns from its failed heartbeat that it is out.
    async fn bury(&self, scan: &mut TableScan, now: Instant) {
        let life = &self.life;
        let stale = life.state().observer.stale_workers(now);
        for (id, version) in stale {
            if id == *life.me() {
                continue;
            }
            match life.outfit.call(life.outfit.table.delete_worker(&id, version)).await {
                Ok(WriteOutcome::Applied) => {
                    tracing::warn!(worker_id = %life.me(), dead = %id, instance = %version.instance, "a worker fell silent for a lease duration; its leases are free");
                    life.state().observer.forget_worker(&id, version);
                    scan.workers.retain(|w| w.id != id);
                }
                Ok(WriteOutcome::Conflict) => {}
                Err(error) => tracing::warn!(worker_id = %life.me(), dead = %id, %error, "cannot remove a dead worker's row, trying again"),
            }
        }
    }

    fn publish_roster(&self, workers: &[WorkerRow]) {
        let roster: Vec<WorkerId> = workers.iter().filter(|w| w.state == WorkerState::Active).map(|w| w.id.clone()).collect();
        let changed = {
            let mut state = self.life.state();
            let changed = state.roster != roster;
            if changed {
                state.roster = roster;
            }
            changed
        };
        if changed {
            self.life.beat_now.notify_one();
        }
    }

    /// Plans, and tells each worker its part. What concerns this worker it does itself.
    async fn assign(&mut self, scan: &TableScan, now: Instant) -> Result<()> {
        let life = Arc::clone(&self.life);
        let me = life.me().clone();
        // Workers whose rows cannot be read keep what they have, and get nothing.
        let (obscure, workers): (Vec<WorkerRow>, Vec<WorkerRow>) =
            scan.workers.iter().cloned().partition(|w| w.state == WorkerState::Unreadable);
        let workers = &workers;
        let index: BTreeMap<&WorkerId, usize> = workers.iter().enumerate().map(|(i, w)| (&w.id, i)).collect();
        // Leases of streams that this worker does not read are another configuration's affair.
        let open = scan.leases.iter().filter(|l| !l.checkpoint.is_shard_end() && life.outfit.reads(l));
        let leases: Vec<&Lease> = {
            let state = life.state();
            // What a Java worker keeps alive is never given away.
            open.filter(|l| !is_java_owned(l) || state.observer.lease_status(l, now) == LeaseStatus::Expired)
                .filter(|l| !obscure.iter().any(|w| l.owner_instance.is_some_and(|i| l.owner.as_ref() == Some(&w.id) && w.may_be(i))))
                .collect()
        };

        let owners: Vec<Option<usize>> = {
            let state = life.state();
            leases.iter().map(|lease| living_owner(lease, workers, &index, state.observer.lease_status(lease, now))).collect()
        };
        self.forget_moves(&leases, &owners, &index, now);
        let planned: Vec<PlannedLease<'_>> = leases
            .iter()
            .zip(&owners)
            .map(|(lease, owner)| PlannedLease {
                key: &lease.key,
                owner: *owner,
                load: measured_load(lease),
                moving_to: self.moving.get(&lease.key).and_then(|m| index.get(&m.to).copied()),
                // A lease on its way to its next owner is left in peace.
                movable: lease.owner_instance.is_some(),
            })
            .collect();
        let crew: Vec<PlannedWorker<'_>> = workers
            .iter()
            .map(|w| PlannedWorker { id: &w.id, max_leases: w.max_leases, leaving: w.state == WorkerState::Leaving })
            .collect();

        let mut signals: BTreeMap<WorkerId, Vec<Signal>> = BTreeMap::new();
        let mut own_takes = Vec::new();
        for assignment in balance::plan(&planned, &crew, &balance::Settings::default()) {
            let lease = leases[assignment.lease];
            let to = workers[assignment.to].id.clone();
            match assignment.from {
                None if to == me => own_takes.push(lease.clone()),
                None => signals.entry(to).or_default().push(Signal::Take { lease: lease.key.clone(), counter: lease.counter }),
                Some(from) => {
                    let Some(instance) = lease.owner_instance else { continue };
                    let give_up = now + life.outfit.config.drain_timeout + life.outfit.config.lease_duration;
                    self.moving.insert(lease.key.clone(), Moving { from: instance, to: to.clone(), give_up });
                    let from = &workers[from].id;
                    if *from == me {
                        let tenure = life.state().held.get(&lease.key).cloned();
                        if let Some(tenure) = tenure {
                            tenure.request_stop(StopRequest::HandOver { to });
                        }
                    } else {
                        let signal = Signal::HandOver { lease: lease.key.clone(), counter: lease.counter, to };
                        signals.entry(from.clone()).or_default().push(signal);
                    }
                }
            }
        }
        self.remind(&leases, &owners, workers, &mut signals);
        self.remind_of_moves(&leases, &owners, workers, &mut signals);

        let mut batches = Vec::new();
        for (worker, batch) in signals {
            let Some(row) = index.get(&worker).map(|&i| &workers[i]).filter(|row| row.id != me) else { continue };
            let (batch, all) = fitting(batch, row);
            self.held_back |= !all;
            if !batch.is_empty() {
                batches.push((worker, batch));
            }
        }
        // Side by side: a row that cannot be written for a while must not keep the others waiting.
        let life = &life;
        let send = |(worker, batch): (WorkerId, Vec<Signal>)| async move { life.signal(&worker, &batch).await };
        stream::iter(batches).for_each_concurrent(CONCURRENCY, send).await;
        self.take_own(own_takes).await
    }

    /// Hand-overs whose announcement may have been lost are announced again; so are those to this worker itself.
    fn remind(&self, leases: &[&Lease], owners: &[Option<usize>], workers: &[WorkerRow], signals: &mut BTreeMap<WorkerId, Vec<Signal>>) {
        let mut own = BTreeMap::new();
        for (lease, owner) in leases.iter().zip(owners) {
            let Some(owner) = owner.map(|i| &workers[i].id).filter(|id| awaits(lease, id)) else { continue };
            if owner == self.life.me() {
                own.insert(lease.key.clone(), super::take::Claim::Accept);
            } else {
                signals.entry(owner.clone()).or_default().push(Signal::Accept { lease: lease.key.clone(), counter: lease.counter });
            }
        }
        if !own.is_empty() {
            let life = Arc::clone(&self.life);
            self.life.outfit.spawner.spawn("accept leases", async move { life.claim(own).await }).detach();
        }
    }

    /// A hand-over that was asked for and has not begun is asked for again: the first signal may have been lost.
    fn remind_of_moves(
        &self,
        leases: &[&Lease],
        owners: &[Option<usize>],
        workers: &[WorkerRow],
        signals: &mut BTreeMap<WorkerId, Vec<Signal>>,
    ) {
        for (lease, owner) in leases.iter().zip(owners) {
            let (Some(moving), Some(owner)) = (self.moving.get(&lease.key), owner.map(|i| &workers[i].id)) else { continue };
            let signal = Signal::HandOver { lease: lease.key.clone(), counter: lease.counter, to: moving.to.clone() };
            let batch = signals.entry(owner.clone()).or_default();
            if owner != self.life.me() && !batch.contains(&signal) {
                batch.push(signal);
            }
        }
    }

    /// Takes free leases with the rows of the scan, after a second look at the workers that owned some of them.
    async fn take_own(&self, mut rows: Vec<Lease>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let former: BTreeSet<WorkerId> = rows.iter().filter(|l| l.owner_instance.is_some()).filter_map(|l| l.owner.clone()).collect();
        if !former.is_empty() {
            let living = self.life.living(&former).await?;
            rows.retain(|l| match (&l.owner, l.owner_instance) {
                (Some(owner), Some(instance)) => !living.has(owner, instance),
                _ => true,
            });
        }
        let life = Arc::clone(&self.life);
        self.life.outfit.spawner.spawn("take leases", async move { life.claim_rows(rows).await }).detach();
        Ok(())
    }

    /// Drops moves that are done, void or overdue. One is void when either side of it is gone.
    fn forget_moves(&mut self, leases: &[&Lease], owners: &[Option<usize>], index: &BTreeMap<&WorkerId, usize>, now: Instant) {
        let owned: BTreeMap<&LeaseKey, &Lease> =
            leases.iter().zip(owners).filter(|(_, owner)| owner.is_some()).map(|(l, _)| (&l.key, *l)).collect();
        self.moving.retain(|key, moving| {
            owned.get(key).is_some_and(|lease| lease.owner_instance == Some(moving.from))
                && index.contains_key(&moving.to)
                && now < moving.give_up
        });
    }
}

/// Those of the signals that are not in the row yet and have room there, and whether these are all.
fn fitting(signals: Vec<Signal>, row: &WorkerRow) -> (Vec<Signal>, bool) {
    let mut bytes: usize = row.signals.iter().map(|signal| signal.to_text().len()).sum();
    let mut all = true;
    let mut fits = |signal: &Signal| {
        if row.signals.contains(signal) {
            return false;
        }
        let size = signal.to_text().len();
        let fits = bytes + size <= SIGNAL_BYTES_PER_WORKER;
        bytes += if fits { size } else { 0 };
        all &= fits;
        fits
    };
    let fitting = signals.into_iter().filter(|signal| fits(signal)).collect();
    (fitting, all)
}

/// Measured loads below this, in KiB/s, count as equal: their noise is worth no move.
const LOAD_FLOOR_KBPS: f64 = 1.0;

/// What the planner is told of a lease's load.
pub(super) fn measured_load(lease: &Lease) -> Option<f64> {
    lease.throughput_kbps.map(|load| load.max(LOAD_FLOOR_KBPS))
}

/// The living worker that has the lease, or is about to accept it.
fn living_owner(lease: &Lease, workers: &[WorkerRow], index: &BTreeMap<&WorkerId, usize>, status: LeaseStatus) -> Option<usize> {
    if is_java_owned(lease) && status == LeaseStatus::Expired {
        return None;
    }
    let owner = *index.get(lease.owner.as_ref()?)?;
    match status {
        LeaseStatus::Unowned | LeaseStatus::Orphaned | LeaseStatus::Expired => None,
        LeaseStatus::Alive => match lease.owner_instance {
            Some(instance) if !workers[owner].may_be(instance) => None,
            // Handed to a worker that has begun to leave meanwhile: it will not accept.
            None if workers[owner].state == WorkerState::Leaving => None,
            _ => Some(owner),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_in_a_workers_row_waits_for_the_next_round() {
        let take = |n: usize| Signal::Take { lease: LeaseKey::new(format!("shardId-{n:012}")).expect("valid"), counter: 7 };
        let bytes = |signals: &BTreeSet<Signal>| signals.iter().map(|s| s.to_text().len()).sum::<usize>();
        let mut row = WorkerRow::unreadable("b".parse().expect("valid"), None);
        let all: Vec<Signal> = (0..5000).map(take).collect();
        let mut rounds = 0;
        let mut read = BTreeSet::new();
        loop {
            let left: Vec<Signal> = all.iter().filter(|s| !read.contains(*s)).cloned().collect();
            let (batch, complete) = fitting(left, &row);
            assert!(!batch.is_empty());
            row.signals.extend(batch);
            assert!(bytes(&row.signals) <= SIGNAL_BYTES_PER_WORKER);
            rounds += 1;
            if complete {
                break;
            }
            assert_eq!(fitting(all.clone(), &row), (Vec::new(), false), "nothing more until some of it was read");
            read.append(&mut row.signals);
        }
        assert!((5..20).contains(&rounds), "{rounds} rounds");
        assert_eq!(fitting(row.signals.iter().cloned().collect(), &row), (Vec::new(), true), "what is there is not sent again");
    }
}
