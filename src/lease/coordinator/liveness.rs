//! Who is alive: a pure observer that dates unchanged tokens on the caller's own monotonic clock.
//!
//! Nothing that another machine's clock says is ever compared. The observer takes note of what a read returned, and
//! when the read was answered:
//!
//! | row | token | judged |
//! |---|---|---|
//! | worker, version unreadable | none | alive while the row exists |
//! | worker | instance and heartbeat | stale once unchanged for the lease duration; it is dead once its row is deleted on that version |
//! | lease with an owner's instance | that instance's worker row | alive while the row exists, orphaned once it is known to be gone |
//! | lease with an owner and no instance | its counter | alive while it changes: it was handed over and is not yet accepted, or a Java worker renews it |
//!
//! A scan is no snapshot: it may show a lease that a newcomer took after it passed the place of the newcomer's row. An
//! owner's row therefore counts as gone only when a read that began after the lease was seen did not find it: the next
//! scan, or at once by asking for [`Observer::unconfirmed`]. This relies on a worker writing its row before it takes
//! leases, and never coming back under the same instance.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    lease::{Lease, LeaseKey, TableScan, WorkerRow, WorkerVersion, WriteId},
    types::{InstanceId, WorkerId},
};

/// Signs of workers of another library are remembered for this long. The Java KCL writes its metrics row and its
/// leader lock every 30 s, the slowest of its signs.
const FOREIGN_MEMORY: Duration = Duration::from_secs(90);

/// How it stands with a lease's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseStatus {
    /// Nobody owns it.
    Unowned,
    /// Its owner lives, or may live.
    Alive,
    /// The worker that owned it is gone: its row is deleted, or another instance has taken its place.
    Orphaned,
    /// Handed over and not accepted for a lease duration, or its owner has stopped renewing.
    Expired,
}

/// A sign that a worker of another library, such as the Java KCL, is alive on this table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ForeignSign {
    /// A lease's counter was raised by a writer that leaves this library's marks alone.
    Lease(LeaseKey),
    /// A worker row of that library was renewed.
    Worker(String),
    /// The leader's lock was renewed by this worker.
    LeaderLock(String),
}

impl std::fmt::Display for ForeignSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lease(key) => write!(f, "lease {key}"),
            Self::Worker(id) => write!(f, "the metrics row of worker {id}"),
            Self::LeaderLock(owner) => write!(f, "the leader lock of {owner}"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Dated<T> {
    token: T,
    since: Instant,
}

impl<T: PartialEq> Dated<T> {
    fn observe(&mut self, token: T, now: Instant) -> bool {
        let changed = self.token != token;
        if changed {
            *self = Self { token, since: now };
        }
        changed
    }
}

/// Whether a row of this version may be that of this life; one whose version cannot be read may be anybody's.
fn may_be(version: WorkerVersion, instance: InstanceId) -> bool {
    version.instance == instance || version == WorkerVersion::UNKNOWN
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LeaseToken {
    counter: u64,
    write_id: Option<WriteId>,
}

/// Dates the tokens of one table. Remembers only rows that the last scan has shown, so that its size is bounded by
/// the table's.
#[derive(Debug)]
pub(crate) struct Observer {
    lease_duration: Duration,
    workers: BTreeMap<WorkerId, Dated<WorkerVersion>>,
    leases: BTreeMap<LeaseKey, Dated<LeaseToken>>,
    /// Leases whose counter was lower in the last scan than before.
    rewound: BTreeSet<LeaseKey>,
    /// Owners named by leases that have no worker row, and whether a second read has confirmed that.
    missing: BTreeMap<(WorkerId, InstanceId), bool>,
    foreign_tokens: BTreeMap<ForeignSign, String>,
    foreign: BTreeMap<ForeignSign, Instant>,
}

impl Observer {
    /// An observer that has seen nothing. A token counts as unchanged for `lease_duration` at the earliest that long
    /// after it was first seen by this observer.
    pub(crate) fn new(lease_duration: Duration) -> Self {
        Self {
            lease_duration,
            workers: BTreeMap::new(),
            leases: BTreeMap::new(),
            rewound: BTreeSet::new(),
            missing: BTreeMap::new(),
            foreign_tokens: BTreeMap::new(),
            foreign: BTreeMap::new(),
        }
    }

    /// Takes note of a scan that was answered at `now`. Rows that it does not show are forgotten.
    pub(crate) fn observe_scan(&mut self, scan: &TableScan, now: Instant) {
        self.workers.retain(|id, _| scan.workers.binary_search_by(|w| w.id.cmp(id)).is_ok());
        for row in &scan.workers {
            self.observe_worker(row, now);
        }

        let mut seen = BTreeMap::new();
        let mut rewound = BTreeSet::new();
        let mut missing = BTreeMap::new();
        for lease in &scan.leases {
            let token = LeaseToken { counter: lease.counter, write_id: lease.write_id };
            let dated = match self.leases.remove(&lease.key) {
                // A slow scan may end after a faster one and show an older row; two of them do not: the row was deleted
                // and made again.
                Some(before) if before.token.counter > token.counter && !self.rewound.contains(&lease.key) => {
                    rewound.insert(lease.key.clone());
                    before
                }
                Some(before) if before.token.counter > token.counter => Dated { token, since: now },
                Some(mut before) => {
                    let written = before.token.counter < token.counter;
                    if written && before.token.write_id == token.write_id {
                        self.foreign.insert(ForeignSign::Lease(lease.key.clone()), now);
                    }
                    before.observe(token, now);
                    before
                }
                None => Dated { token, since: now },
            };
            seen.insert(lease.key.clone(), dated);
            if let (Some(owner), Some(instance)) = (&lease.owner, lease.owner_instance)
                && !self.has_row(owner, instance)
            {
                let owner = (owner.clone(), instance);
                let again = self.missing.contains_key(&owner);
                missing.insert(owner, again);
            }
        }
        self.leases = seen;
        self.rewound = rewound;
        self.missing = missing;

        let mut tokens = BTreeMap::new();
        for worker in &scan.foreign_workers {
            tokens.insert(ForeignSign::Worker(worker.id.clone()), worker.last_update.map(|t| t.to_string()).unwrap_or_default());
        }
        if let Some(lock) = &scan.leader_lock {
            tokens.insert(ForeignSign::LeaderLock(lock.owner.clone()), lock.version.clone());
        }
        for (sign, token) in &tokens {
            if self.foreign_tokens.get(sign).is_some_and(|before| before != token) {
                self.foreign.insert(sign.clone(), now);
            }
        }
        self.foreign_tokens = tokens;
        self.foreign.retain(|_, at| now.saturating_duration_since(*at) < FOREIGN_MEMORY);
    }

    /// Takes note of a read of the rows of these workers that was answered at `now`.
    pub(crate) fn observe_workers(&mut self, asked: &[WorkerId], rows: &[WorkerRow], now: Instant) {
        for row in rows {
            self.observe_worker(row, now);
        }
        for id in asked {
            if !rows.iter().any(|row| row.id == *id) {
                self.workers.remove(id);
            }
        }
        let workers = &self.workers;
        self.missing.retain(|(id, instance), confirmed| {
            let present = workers.get(id).is_some_and(|seen| may_be(seen.token, *instance));
            *confirmed |= asked.contains(id);
            !present
        });
    }

    fn observe_worker(&mut self, row: &WorkerRow, now: Instant) {
        match self.workers.get_mut(&row.id) {
            // An older state of the same life, from a read that was overtaken by another.
            Some(seen) if seen.token.instance == row.version.instance && seen.token.heartbeat > row.version.heartbeat => {}
            Some(seen) => {
                seen.observe(row.version, now);
            }
            None => {
                self.workers.insert(row.id.clone(), Dated { token: row.version, since: now });
            }
        }
    }

    fn has_row(&self, id: &WorkerId, instance: InstanceId) -> bool {
        self.workers.get(id).is_some_and(|seen| may_be(seen.token, instance))
    }

    /// Takes note that a row was deleted, by this worker or by its own.
    pub(crate) fn forget_worker(&mut self, id: &WorkerId, version: WorkerVersion) {
        if self.has_row(id, version.instance) {
            self.workers.remove(id);
        }
        for ((owner, instance), confirmed) in &mut self.missing {
            *confirmed |= owner == id && *instance == version.instance;
        }
        self.missing.entry((id.clone(), version.instance)).or_insert(true);
    }

    /// Workers whose heartbeat has stood still for the lease duration, with the version on which to delete their
    /// rows. That deletion, and nothing else, declares them dead: a heartbeat in the meantime refutes it.
    pub(crate) fn stale_workers(&self, now: Instant) -> Vec<(WorkerId, WorkerVersion)> {
        let dated = self.workers.iter().filter(|(_, seen)| seen.token != WorkerVersion::UNKNOWN);
        let stale = dated.filter(|(_, seen)| now >= seen.since + self.lease_duration);
        stale.map(|(id, seen)| (id.clone(), seen.token)).collect()
    }

    /// How it stands with the owner of this lease, whose row the last scan has shown, or a later read.
    pub(crate) fn lease_status(&self, lease: &Lease, now: Instant) -> LeaseStatus {
        match (&lease.owner, lease.owner_instance) {
            (None, _) => LeaseStatus::Unowned,
            (Some(owner), Some(instance)) => {
                let gone = self.missing.get(&(owner.clone(), instance)).is_some_and(|confirmed| *confirmed);
                if gone && !self.has_row(owner, instance) { LeaseStatus::Orphaned } else { LeaseStatus::Alive }
            }
            (Some(_), None) => match self.leases.get(&lease.key) {
                Some(seen) if seen.token.counter == lease.counter && now >= seen.since + self.lease_duration => LeaseStatus::Expired,
                Some(_) | None => LeaseStatus::Alive,
            },
        }
    }

    /// Owners whose absence the next read has to confirm before their leases count as orphaned.
    pub(crate) fn unconfirmed(&self) -> Vec<WorkerId> {
        let mut ids: Vec<WorkerId> = self.missing.iter().filter(|(_, confirmed)| !**confirmed).map(|((id, _), _)| id.clone()).collect();
        ids.dedup();
        ids
    }

    /// Signs of living workers of another library, seen in the last 90 s.
    pub(crate) fn foreign_activity(&self, now: Instant) -> Vec<ForeignSign> {
        let recent = self.foreign.iter().filter(|(_, at)| now.saturating_duration_since(**at) < FOREIGN_MEMORY);
        recent.map(|(sign, _)| sign.clone()).collect()
    }
}

#[cfg(test)]
#[path = "liveness_test.rs"]
mod tests;
