//! Joining the fleet, staying in it by heartbeats, and noticing that one is out.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    life::{Life, Outfit},
    writer::retry_table,
};
use crate::{
    error::{Error, ErrorKind, Result},
    lease::{Lease, TableScan, WorkerRow, WorkerState, WorkerVersion, WriteOutcome},
};

/// Longest time between two renewals of a Java worker with default settings is 3.3 s; two of them and a margin.
const JAVA_RENEWAL: std::time::Duration = std::time::Duration::from_secs(8);

impl Outfit {
    /// Registers a new life of this worker, and returns it with the table as it was then.
    ///
    /// # Errors
    /// `InvalidInput` when another process uses the worker id, `Mismatch` when Java workers use the table, and what
    /// cannot be mended by trying again.
    pub(super) async fn join(&self) -> Result<(Arc<Life>, TableScan)> {
        let mut backoff = self.table_retry().backoff(&self.random);
        loop {
            match self.try_join().await {
                Ok(joined) => {
                    self.obstacle.passed();
                    return Ok(joined);
                }
                Err(error) if retry_table(&error) => {
                    self.obstacle.met(format_args!("join the fleet in {}", self.table), &error);
                    backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_join(&self) -> Result<(Arc<Life>, TableScan)> {
        let scan = self.scan().await?;
        self.refuse_java(&scan).await?;
        let version = WorkerVersion { instance: self.random.instance_id(), heartbeat: 0 };
        let row = WorkerRow {
            id: self.me.clone(),
            version,
            state: WorkerState::Active,
            leading: false,
            roster: Vec::new(),
            max_leases: self.config.max_leases,
            updated: self.clock.now(),
            signals: BTreeSet::new(),
        };
        let predecessor = scan.workers.iter().find(|w| w.id == self.me).map(|w| w.version);
        let expected = match predecessor {
            Some(version) => self.outlive(version).await?,
            None => None,
        };
        let sent = Instant::now();
        match self.call(self.table.put_worker(&row, expected)).await {
            Ok(WriteOutcome::Applied) => {}
            outcome => {
                let rows = self.call(self.table.get_workers(std::slice::from_ref(&self.me))).await?;
                if !rows.iter().any(|w| w.version.instance == version.instance) {
                    return Err(match outcome {
                        Err(error) => error,
                        Ok(_) => Error::new(ErrorKind::ResourceInUse, format!("the row of worker {} changed as it was written", self.me)),
                    });
                }
            }
        }
        tracing::info!(worker_id = %self.me, instance = %version.instance, table = %self.table, "worker joined");
        // The scan is read anew: a fleet may have changed while a predecessor was watched. Only the scan is repeated when it
        // fails: the row just written would else be watched as that of a namesake.
        let mut backoff = self.table_retry().backoff(&self.random);
        loop {
            match self.scan().await {
                Ok(scan) => return Ok((Life::new(self.clone(), version, sent), scan)),
                Err(error) if retry_table(&error) && backoff.wait().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Watches the row of a worker with the same id until it has kept still for a lease duration: a dead predecessor
    /// does, a living namesake does not. Returns the version to replace, if the row is still there.
    async fn outlive(&self, mut last: WorkerVersion) -> Result<Option<WorkerVersion>> {
        let mut until = Instant::now() + self.config.lease_duration;
        let wait = self.config.lease_duration;
        self.obstacle.waits(format_args!("a row with worker id {} exists: watching for {wait:?} whether it is alive", self.me));
        let mut moved = 0;
        while Instant::now() < until {
            sleep(self.config.heartbeat_interval() / 2).await;
            let rows = match self.call(self.table.get_workers(std::slice::from_ref(&self.me))).await {
                Ok(rows) => rows,
                Err(error) if retry_table(&error) => continue,
                Err(error) => return Err(error),
            };
            let Some(row) = rows.first() else { return Ok(None) };
            if row.version != last {
                // One change can be a write of a dying predecessor that was still on its way.
                moved += 1;
                last = row.version;
                // Whoever wrote it may be believing in it from now on.
                until = Instant::now() + self.config.lease_duration;
            }
            if moved >= 2 {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "worker id {} is in use by another running process in {}: give each worker an id of its own",
                        self.me, self.table
                    ),
                ));
            }
        }
        Ok(Some(last))
    }

    /// Watches rows that look owned by Java workers for as long as those may take to renew.
    async fn refuse_java(&self, scan: &TableScan) -> Result<()> {
        let mut before = java_tokens(scan);
        if before.is_empty() {
            return Ok(());
        }
        tracing::info!(table = %self.table, wait = ?JAVA_RENEWAL, "the table was used by Java KCL workers; watching whether any is alive");
        let until = Instant::now() + JAVA_RENEWAL;
        while Instant::now() < until {
            sleep(JAVA_RENEWAL / 8).await;
            let now = java_tokens(&self.scan().await?);
            if let Some((name, _)) = now.iter().find(|(name, token)| before.iter().any(|(n, t)| n == name && t != token)) {
                return Err(self.java_is_alive(name));
            }
            before.extend(now.into_iter().filter(|(name, _)| !before.iter().any(|(n, _)| n == name)).collect::<Vec<_>>());
        }
        Ok(())
    }

    pub(super) fn java_is_alive(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Mismatch,
            format!(
                "{} is in use by Java KCL workers ({what} is being renewed): stop them first, or use another application name; a fleet that mixes both is not supported yet",
                self.table
            ),
        )
    }
}

/// What moves while a Java worker is alive: counters of leases that it owns, and the version of its leader lock.
fn java_tokens(scan: &TableScan) -> Vec<(String, String)> {
    if !scan.leases.iter().any(is_java_owned) {
        // Nobody deletes the lock of a fleet that was killed; a living one owns leases.
        return Vec::new();
    }
    let leases = scan.leases.iter().filter(|l| is_java_owned(l)).map(|l| (format!("lease {}", l.key), l.counter.to_string()));
    let lock = scan.leader_lock.iter().map(|lock| (format!("the leader lock of {}", lock.owner), lock.version.clone()));
    leases.chain(lock).collect()
}

/// Whether an owner that is none of ours has the lease.
pub(super) fn is_java_owned(lease: &Lease) -> bool {
    lease.owner.is_some() && lease.owner_instance.is_none() && lease.write_id.is_none()
}

impl Life {
    /// Renews until the life is over. Never ends by itself but when the worker is expelled.
    pub(super) async fn keep_alive(&self) {
        let outfit = &self.outfit;
        let interval = outfit.config.heartbeat_interval();
        let mut due = Instant::now() + outfit.random.jittered(interval);
        loop {
            tokio::select! {
                biased;
                () = self.beat_now.notified() => {}
                () = sleep_until(due) => {}
            }
            due = Instant::now() + interval;
            if !self.beat().await {
                tracing::warn!(worker_id = %self.me(), "the fleet has declared this worker dead; its leases are lost");
                self.expelled.cancel();
                return;
            }
        }
    }

    /// One heartbeat, repeated until it is settled. False when the row is gone or another's.
    async fn beat(&self) -> bool {
        let outfit = &self.outfit;
        let first_sent = Instant::now();
        let mut backoff = outfit.table_retry().backoff(&outfit.random);
        loop {
            let (version, update) = self.update();
            let sent = Instant::now();
            let error = match outfit.call(outfit.table.heartbeat(self.me(), version, &update)).await {
                Ok(WriteOutcome::Applied) => {
                    self.beat_settled(version, sent, &update.handled);
                    return true;
                }
                Err(error) if error.has_no_side_effects() => error,
                // Unknown: the heartbeat may have landed, perhaps an earlier attempt's.
                outcome => match outfit.call(outfit.table.get_workers(std::slice::from_ref(self.me()))).await {
                    Ok(rows) => match rows.first() {
                        Some(row) if !row.may_be(self.instance) => return false,
                        None => return false,
                        Some(row) if row.version.heartbeat > version.heartbeat => {
                            // Nobody can tell which attempt it was; the fence counts from the first.
                            self.beat_settled(version, first_sent, &BTreeSet::new());
                            return true;
                        }
                        Some(row) => match outcome {
                            Err(error) => error,
                            Ok(_) if row.state == WorkerState::Unreadable => {
                                Error::new(ErrorKind::InvalidData, "the worker row cannot be read: delete it, or restore it")
                            }
                            Ok(_) => Error::new(ErrorKind::Unavailable, "the worker row is in flux"),
                        },
                    },
                    Err(error) => error,
                },
            };
            tracing::warn!(worker_id = %self.me(), %error, fence_left = ?self.fence.remaining(), "heartbeat not written, trying again");
            backoff.wait().await;
        }
    }

    fn beat_settled(&self, before: WorkerVersion, sent: Instant, handled: &BTreeSet<crate::lease::Signal>) {
        {
            let mut state = self.state();
            state.version.heartbeat = before.heartbeat + 1;
            // What was removed from the row may be announced anew later.
            state.handled.retain(|signal| !handled.contains(signal));
        }
        self.fence.extend(sent, sent + self.outfit.config.lease_duration - self.outfit.config.fence_margin());
    }
}
