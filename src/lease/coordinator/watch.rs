//! Several looks a second at this worker's own row, for signals, and at the housekeeper's, for its life.
//!
//! The housekeeper is whoever says so in its row; it publishes the roster of live workers, which is also the order
//! of succession. When its row is gone, or still for a lease duration, the next in the roster steps in at once, the
//! one after it a little later, and so on. Two of them at a time do no harm: plans are advice, writes are conditional,
//! and of two that see each other the one with the smaller id stays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{held::StopRequest, life::Life, take::Claim};
use crate::{
    lease::{Lease, LeaseKey, Signal, TableScan, WorkerRow},
    types::{Timestamp, WorkerId},
};

/// Rows a housekeeper reads per look before it looks less often, so that the cost per second stays level.
const ROWS_PER_LOOK: u32 = 50;

/// Those next in line whose rows followers read once per heartbeat. Who dies together with the housekeeper is then known
/// to be dead when the housekeeper is, and neither waited for nor watched from the beginning.
const DATED_AHEAD: usize = 5;
/// Signals read and not yet removed from the row after which they are removed at once: others may wait for room.
const MANY_SIGNALS: usize = 64;

/// Who leads, as this worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    /// This worker.
    Leading,
    /// That worker, with its roster.
    Following { leader: WorkerId, roster: Vec<WorkerId> },
    /// The former housekeeper is gone since then; these would step in, in this order.
    Succession { former: Option<WorkerId>, roster: Vec<WorkerId>, since: Instant },
}

pub(super) struct Watch {
    life: Arc<Life>,
    view: View,
    looked: (Instant, Timestamp),
    /// When those next in line were last looked at.
    dated: Instant,
}

impl Watch {
    /// Starts from the table as it was when this worker joined.
    pub(super) fn new(life: Arc<Life>, scan: &TableScan) -> Self {
        let now = Instant::now();
        life.state().observer.observe_scan(scan, now);
        let roster: Vec<WorkerId> = scan.workers.iter().map(|w| w.id.clone()).collect();
        let others = || scan.workers.iter().filter(|w| w.id != *life.me());
        let view = match others().find(|w| w.leading) {
            Some(leader) => View::Following { leader: leader.id.clone(), roster: leader.roster.clone() },
            None => View::Succession { former: None, roster, since: now },
        };
        let looked = (now, life.outfit.clock.now());
        Self { life, view, looked, dated: now }
    }

    /// Looks until the life is over.
    pub(super) async fn run(mut self) {
        if let View::Following { leader, .. } = &self.view {
            self.life.state().leader = Some(leader.clone());
            // A newcomer asks for its share.
            self.life.request_plan().await;
        }
        loop {
            if self.life.expelled.is_cancelled() {
                return;
            }
            self.mistrust_jumps();
            self.look().await;
            sleep(self.pause()).await;
        }
    }

    fn pause(&self) -> Duration {
        let interval = self.life.outfit.config.watch_interval;
        match self.view {
            View::Leading => {
                let rows = u32::try_from(self.life.state().roster.len()).unwrap_or(u32::MAX);
                interval * (rows / ROWS_PER_LOOK + 1)
            }
            View::Following { .. } | View::Succession { .. } => interval,
        }
    }

    /// A machine that was suspended may not have counted the time on its monotonic clock: then wall time has run
    /// ahead of it, and every lease is in doubt until the next heartbeat is acknowledged.
    fn mistrust_jumps(&mut self) {
        let now = (Instant::now(), self.life.outfit.clock.now());
        let counted = now.0.duration_since(self.looked.0);
        let wall = now.1.since(self.looked.1);
        self.looked = now;
        if wall > counted + self.life.outfit.config.lease_duration / 2 {
            tracing::warn!(worker_id = %self.life.me(), ?wall, ?counted, "wall time jumped ahead; all leases are in doubt until the next heartbeat");
            self.life.fence.distrust();
            self.life.beat_now.notify_one();
        }
    }

    async fn look(&mut self) {
        let life = Arc::clone(&self.life);
        let mut ids = self.watched();
        ids.extend(self.next_in_line());
        ids.sort();
        ids.dedup();
        let rows = match life.outfit.call(life.outfit.table.get_workers(&ids)).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(worker_id = %life.me(), %error, "cannot look at worker rows");
                return;
            }
        };
        // Others are dated from when their rows were seen, which is after they were written.
        let now = Instant::now();
        life.state().observer.observe_workers(&ids, &rows, now);
        match rows.iter().find(|row| row.id == *life.me()) {
            Some(row) if row.version.instance == life.instance => self.act_on_signals(row).await,
            _ => {
                // The heartbeat decides whether this is the end: it settles what a read only suggests.
                life.beat_now.notify_one();
                return;
            }
        }
        self.follow(&rows, now).await;
    }

    /// Rows to look at: the own one, and those whose life matters to this worker.
    fn watched(&self) -> Vec<WorkerId> {
        let me = self.life.me().clone();
        let mut ids = vec![me.clone()];
        match &self.view {
            View::Leading => ids.extend(self.life.state().roster.iter().cloned()),
            View::Following { leader, .. } => ids.push(leader.clone()),
            View::Succession { former, roster, .. } => {
                ids.extend(former.iter().cloned());
                ids.extend(roster.iter().take_while(|id| **id != me).cloned());
            }
        }
        ids
    }

    /// Those next in line, once per heartbeat.
    fn next_in_line(&mut self) -> Vec<WorkerId> {
        let View::Following { roster, .. } = &self.view else { return Vec::new() };
        let now = Instant::now();
        if now.duration_since(self.dated) < self.life.outfit.config.heartbeat_interval() {
            return Vec::new();
        }
        self.dated = now;
        roster.iter().take(DATED_AHEAD).cloned().collect()
    }

    async fn act_on_signals(&self, row: &WorkerRow) {
        let fresh: Vec<Signal> = {
            let mut state = self.life.state();
            let fresh: Vec<Signal> = row.signals.difference(&state.handled).cloned().collect();
            state.handled.extend(fresh.iter().cloned());
            // What the row no longer has need not be remembered.
            state.handled.retain(|signal| row.signals.contains(signal));
            if state.handled.len() >= MANY_SIGNALS {
                self.life.beat_now.notify_one();
            }
            fresh
        };
        let mut claims: BTreeMap<LeaseKey, Claim> = BTreeMap::new();
        for signal in fresh {
            match signal {
                Signal::Plan { .. } => self.life.plan_now.notify_one(),
                Signal::HandOver { lease, counter, to } => {
                    let tenure = self.life.state().held.get(&lease).cloned();
                    if let Some(tenure) = tenure.filter(|t| t.fencing_token <= counter) {
                        tracing::info!(worker_id = %self.life.me(), lease_key = %lease, to = %to, "asked to hand a lease over");
                        tenure.request_stop(StopRequest::HandOver { to });
                    }
                }
                Signal::Take { lease, counter } => {
                    claims.insert(lease, Claim::Expired(counter));
                }
                Signal::Accept { lease, .. } => {
                    claims.insert(lease, Claim::Accept);
                }
                Signal::ParentEnded { lease, .. } => {
                    let tenure = self.life.state().held.get(&lease).cloned();
                    if let Some(tenure) = tenure {
                        tenure.parent_has_ended();
                    }
                }
            }
        }
        if !claims.is_empty() {
            // Beside the watch: a row that cannot be written for a while must not make this worker deaf to the rest.
            let life = Arc::clone(&self.life);
            self.life.outfit.spawner.spawn("claim leases", async move { life.claim(claims).await }).detach();
        }
    }

    /// Keeps the view of who leads up to date.
    async fn follow(&mut self, rows: &[WorkerRow], now: Instant) {
        let find = |id: &WorkerId| rows.iter().find(|row| row.id == *id);
        match &self.view {
            View::Leading => {
                let stood_down = {
                    let state = self.life.state();
                    let line = state.resigned.as_ref().map(|(_, line)| line.clone()).unwrap_or_default();
                    if state.leading { None } else { Some((state.leader.clone(), line)) }
                };
                if let Some((leader, line)) = stood_down {
                    self.view = match leader {
                        Some(leader) => View::Following { leader, roster: Vec::new() },
                        None => View::Succession { former: None, roster: line, since: now },
                    };
                } else if !self.life.state().observer.stale_workers(now).is_empty() {
                    self.life.plan_now.notify_one();
                }
            }
            View::Following { leader, roster } => {
                let stale = self.life.state().observer.stale_workers(now).iter().any(|(id, _)| id == leader);
                match find(leader) {
                    Some(row) if row.leading && !stale => {
                        self.view = View::Following { leader: leader.clone(), roster: row.roster.clone() };
                    }
                    _ => {
                        let roster = roster.iter().filter(|id| *id != leader).cloned().collect();
                        tracing::info!(worker_id = %self.life.me(), former = %leader, "the housekeeper is gone; the next in line steps in");
                        self.view = View::Succession { former: Some(leader.clone()), roster, since: now };
                        self.succeed(rows, now).await;
                    }
                }
            }
            View::Succession { .. } => self.succeed(rows, now).await,
        }
    }

    async fn succeed(&mut self, rows: &[WorkerRow], now: Instant) {
        let View::Succession { former, roster, since } = &self.view else { return };
        let me = self.life.me();
        let is_dead = |id: &WorkerId| self.life.state().observer.stale_workers(now).iter().any(|(stale, _)| stale == id);
        if let Some(leader) = rows.iter().find(|row| row.leading && row.id != *me && !is_dead(&row.id)) {
            let leader = (leader.id.clone(), leader.roster.clone());
            self.life.state().leader = Some(leader.0.clone());
            self.view = View::Following { leader: leader.0, roster: leader.1 };
            // Its plans must know of this worker, and of whatever has happened meanwhile.
            self.life.request_plan().await;
            return;
        }
        // Those before this worker in line that are not known to be gone get a head start each.
        let ahead = roster.iter().take_while(|id| *id != me).filter(|id| Some(*id) != former.as_ref() && !is_dead(id)).count();
        let config = &self.life.outfit.config;
        let head_start = (config.watch_interval * 3).saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        // However long the line, it is not waited for longer than a heartbeat may take: two housekeepers do no harm.
        if now.duration_since(*since) < head_start.min(config.heartbeat_interval()) || self.life.is_leaving() {
            return;
        }
        let mut line: Vec<WorkerId> = roster.iter().filter(|id| Some(*id) != former.as_ref() && !is_dead(id)).cloned().collect();
        if !line.contains(me) {
            line.push(me.clone());
        }
        line.sort();
        {
            let mut state = self.life.state();
            if state.resigned.as_ref().is_some_and(|(until, _)| now < *until) {
                return;
            }
            state.resigned = None;
            state.leading = true;
            state.leader = Some(self.life.outfit.me.clone());
            // As it was known, until the first round has read who is there.
            state.roster = line;
        }
        tracing::info!(worker_id = %me, "this worker does the housekeeping now");
        self.view = View::Leading;
        self.life.beat_now.notify_one();
        self.life.plan_now.notify_one();
    }
}

/// Whether a lease has been handed to this worker and waits to be accepted.
pub(super) fn awaits(lease: &Lease, worker: &WorkerId) -> bool {
    lease.owner.as_ref() == Some(worker) && lease.owner_instance.is_none() && lease.write_id.is_some()
}
