//! Leaving the fleet: every lease is handed to a worker that stays, then the own row is removed.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::{Instant, timeout_at};

use super::{
    balance::{self, PlannedLease, PlannedWorker},
    held::{StopRequest, Tenure},
    housekeeping::measured_load,
    life::Life,
};
use crate::{
    lease::{LeaseKey, WorkerState, WriteOutcome},
    types::WorkerId,
};

impl Life {
    /// Asks for every held lease to be handed over, or released where nobody stays, and waits until that is done or
    /// the drain deadline has passed.
    pub(super) async fn drain(self: &Arc<Self>) {
        self.state().state = WorkerState::Leaving;
        self.beat_now.notify_one();
        let targets = self.successors().await;
        // From here on, since shards are told to stop only now: each has its whole time, and then its lease the time to be
        // given up.
        let deadline = Instant::now() + self.outfit.config.drain_timeout + self.outfit.config.lease_duration;
        loop {
            let changed = self.held_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (held, busy): (Vec<Arc<Tenure>>, bool) = {
                let state = self.state();
                (state.held.values().cloned().collect(), !state.taking.is_empty())
            };
            for tenure in &held {
                tenure.request_stop(match targets.get(&tenure.key) {
                    Some(to) => StopRequest::HandOver { to: to.clone() },
                    None => StopRequest::Release,
                });
            }
            if held.is_empty() && !busy {
                return;
            }
            // Takes that were under way end without a change of what is held; look again soon.
            let look_again = Instant::now() + self.outfit.config.watch_interval;
            if timeout_at(deadline.min(look_again), changed).await.is_err() && Instant::now() >= deadline {
                tracing::warn!(worker_id = %self.me(), leases = held.len(), "not all shards drained in time; their leases are left to others");
                return;
            }
        }
    }

    /// Who gets which lease, by the same plan the housekeeper would make.
    async fn successors(&self) -> BTreeMap<LeaseKey, WorkerId> {
        let scan = match self.outfit.scan().await {
            Ok(scan) => scan,
            Err(error) => {
                tracing::warn!(worker_id = %self.me(), %error, "cannot read who stays; leases are released");
                return BTreeMap::new();
            }
        };
        let now = Instant::now();
        let stale = {
            let mut state = self.state();
            state.observer.observe_scan(&scan, now);
            state.observer.stale_workers(now)
        };
        let readable = scan.workers.iter().filter(|w| w.state != WorkerState::Unreadable);
        let workers: Vec<_> = readable.filter(|w| !stale.iter().any(|(id, _)| *id == w.id)).collect();
        let index: BTreeMap<&WorkerId, usize> = workers.iter().enumerate().map(|(i, w)| (&w.id, i)).collect();
        let owned: Vec<_> = scan.leases.iter().filter(|l| !l.checkpoint.is_shard_end()).collect();
        let planned: Vec<PlannedLease<'_>> = owned
            .iter()
            .filter_map(|lease| {
                let owner = lease.owner.as_ref().and_then(|o| index.get(o).copied())?;
                let mine = *workers[owner].id.as_str() == *self.me().as_str();
                Some(PlannedLease { key: &lease.key, owner: Some(owner), load: measured_load(lease), moving_to: None, movable: mine })
            })
            .collect();
        let crew: Vec<PlannedWorker<'_>> = workers
            .iter()
            .map(|w| PlannedWorker { id: &w.id, max_leases: w.max_leases, leaving: w.id == *self.me() || w.state == WorkerState::Leaving })
            .collect();
        let plan = balance::plan(&planned, &crew, &balance::Settings::default());
        plan.into_iter()
            .filter(|a| a.from.is_some_and(|from| workers[from].id == *self.me()))
            .map(|a| (planned[a.lease].key.clone(), workers[a.to].id.clone()))
            .collect()
    }

    /// Removes the own row. Leases still held are free for others from then on.
    pub(super) async fn sign_off(self: &Arc<Self>) {
        // Whatever was not surrendered in time must not be processed any more.
        self.expelled.cancel();
        let mut version = self.state().version;
        let mut backoff = crate::retry::RetryConfig { max_attempts: Some(8), ..self.outfit.table_retry() }.backoff(&self.outfit.random);
        loop {
            match self.outfit.call(self.outfit.table.delete_worker(self.me(), version)).await {
                Ok(WriteOutcome::Applied) => break,
                // A heartbeat may have landed meanwhile; or a former attempt has worked.
                _ => match self.outfit.call(self.outfit.table.get_workers(std::slice::from_ref(self.me()))).await {
                    Ok(rows) => match rows.first() {
                        Some(row) if row.version.instance == self.instance => version = row.version,
                        _ => break,
                    },
                    Err(error) => tracing::debug!(worker_id = %self.me(), %error, "cannot read the own row while leaving"),
                },
            }
            if !backoff.wait().await {
                tracing::warn!(worker_id = %self.me(), "cannot remove the own row; others will find this worker silent");
                break;
            }
        }
        self.request_plan().await;
        tracing::info!(worker_id = %self.me(), "worker left");
    }
}
