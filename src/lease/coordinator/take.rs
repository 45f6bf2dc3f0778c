//! Claiming leases that nobody alive holds, and accepting those handed over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};

use super::{life::Life, writer::retry_table};
use crate::{
    error::Result,
    lease::{Lease, LeaseKey, WorkerRow, WriteOutcome},
    types::{Checkpoint, InstanceId, WorkerId},
};

/// Leases claimed side by side; each is a read and a write.
const CONCURRENCY: usize = 16;

/// Why a worker may claim a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The housekeeper saw this counter unchanged for a lease duration, or no living owner.
    Expired(u64),
    /// The former owner has handed it over.
    Accept,
}

/// Leases that are being taken; dropping it ends that, by a panic too.
struct Taking<'a> {
    life: &'a Life,
    keys: Vec<LeaseKey>,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut state = self.life.state();
        for key in &self.keys {
            state.taking.remove(key);
        }
    }
}

/// Workers registered at the moment of a read.
pub(super) struct Living(Vec<WorkerRow>);

impl Living {
    /// Whether this life of the worker is, or may be, one of them.
    pub(super) fn has(&self, worker: &WorkerId, instance: InstanceId) -> bool {
        self.0.iter().any(|row| row.id == *worker && row.may_be(instance))
    }
}

impl Life {
    /// Claims leases of which only the keys are known.
    pub(super) async fn claim(self: &Arc<Self>, claims: BTreeMap<LeaseKey, Claim>) {
        let (claims, _taking) = self.begin(claims);
        stream::iter(claims)
            .for_each_concurrent(CONCURRENCY, |(key, claim)| async move {
                let outfit = &self.outfit;
                match outfit.call(outfit.table.get_lease(&key)).await {
                    Ok(Some(lease)) => self.take(lease, claim).await,
                    Ok(None) => {}
                    // The housekeeper finds it again.
                    Err(error) => tracing::debug!(worker_id = %self.me(), lease_key = %key, %error, "cannot read a lease to take"),
                }
            })
            .await;
    }

    /// Claims leases as just read by a consistent scan.
    pub(super) async fn claim_rows(self: &Arc<Self>, rows: Vec<Lease>) {
        let (claims, _taking) = self.begin(rows.into_iter().map(|row| (row.key.clone(), row)).collect());
        stream::iter(claims.into_values())
            .for_each_concurrent(CONCURRENCY, |row| {
                let claim = Claim::Expired(row.counter);
                self.take(row, claim)
            })
            .await;
    }

    /// Leaves out what is held or being taken already, and marks the rest as being taken.
    fn begin<T>(&self, mut claims: BTreeMap<LeaseKey, T>) -> (BTreeMap<LeaseKey, T>, Taking<'_>) {
        let mut state = self.state();
        claims.retain(|key, _| !state.held.contains_key(key) && !state.taking.contains(key));
        let keys: Vec<LeaseKey> = claims.keys().cloned().collect();
        state.taking.extend(keys.iter().cloned());
        (claims, Taking { life: self, keys })
    }

    /// Takes one lease, until it is settled who has it: a take whose outcome stayed unknown could make this worker
    /// the owner of a lease that it does not read, and that nobody may take while its heartbeat moves.
    async fn take(self: &Arc<Self>, mut row: Lease, claim: Claim) {
        let outfit = self.outfit.clone();
        let mut backoff = outfit.table_retry().backoff(&outfit.random);
        let mut in_doubt = false;
        if let Err(error) = row.check_counter() {
            tracing::warn!(worker_id = %self.me(), lease_key = %row.key, %error, "a lease cannot be taken");
            return;
        }
        loop {
            if self.expelled.is_cancelled() || row.checkpoint.is_shard_end() || !outfit.reads(&row) {
                return;
            }
            let mine = row.is_held_by(self.me(), self.instance);
            if !in_doubt && (self.is_leaving() || !self.fence.holds()) {
                return;
            }
            if !mine && !in_doubt {
                match self.may_take(&row, claim).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        tracing::debug!(worker_id = %self.me(), lease_key = %row.key, %error, "cannot check the owner of a lease to take");
                        return;
                    }
                }
            }
            let mut next = row.taken(outfit.write_id(), self.me(), self.instance);
            if next.checkpoint == Checkpoint::Latest && next.start_at.is_none() {
                // Made by a Java worker, which would look for the tip anew at every start and lose what lies between.
                next.start_at = Some(outfit.clock.now());
            }
            match outfit.call(outfit.table.update_lease(&row, &next)).await {
                Ok(WriteOutcome::Applied) => return self.hold(next).await,
                Err(error) if error.has_no_side_effects() && !in_doubt => {
                    if !retry_table(&error) {
                        tracing::warn!(worker_id = %self.me(), lease_key = %row.key, %error, "cannot take a lease");
                    }
                    return;
                }
                // A refusal may be the echo of the write's own success, when it was delivered twice.
                _ => in_doubt = true,
            }
            backoff.wait().await;
            match outfit.call(outfit.table.get_lease(&row.key)).await {
                // Ours or untouched: only a further write settles it, since an earlier one may still be on its way.
                Ok(Some(found)) if found.is_held_by(self.me(), self.instance) || found.counter == row.counter => row = found,
                // Whatever we sent can no longer be applied.
                Ok(_) => {
                    tracing::debug!(worker_id = %self.me(), lease_key = %row.key, "another worker was first");
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Whether nobody alive has the lease. An owner's instance is alive as long as its worker row exists; it registers
    /// before it takes, so a row that is missing *after* the lease was read is missing for good.
    async fn may_take(&self, row: &Lease, claim: Claim) -> Result<bool> {
        match (&row.owner, row.owner_instance) {
            (None, _) => Ok(true),
            (Some(owner), None) => Ok(owner == self.me() || claim == Claim::Expired(row.counter)),
            (Some(owner), Some(instance)) => Ok(!self.living(&BTreeSet::from([owner.clone()])).await?.has(owner, instance)),
        }
    }

    /// Which of these workers are registered now.
    pub(super) async fn living(&self, owners: &BTreeSet<WorkerId>) -> Result<Living> {
        let ids: Vec<WorkerId> = owners.iter().cloned().collect();
        self.outfit.call(self.outfit.table.get_workers(&ids)).await.map(Living)
    }
}
