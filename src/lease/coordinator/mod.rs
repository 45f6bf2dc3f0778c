//! The coordination service: who is in the fleet, and which leases this worker holds.
//!
//! ```text
//!              ┌── keep_alive   one heartbeat per quarter lease duration, whatever the number of leases
//!  join ──▶ life ── watch       signals to this worker; is the housekeeper alive?
//!              ├── housekeeping if this worker leads: bury the dead, plan, tell each worker its part
//!              └── lease writer one per held lease: checkpoints, hand-over, end; the only writer of its row
//!           ──▶ drain ──▶ sign_off        or: expelled ──▶ join again as a new instance
//! ```
//!
//! *Liveness.* A worker is alive while the heartbeat in its row moves, by the monotonic clock of whoever watches. It is
//! declared dead by deleting its row on the condition that it is as it was seen, so that this and a late heartbeat
//! exclude each other. A lease that an instance of a worker has accepted lives as long as the row of that instance.
//!
//! *Fencing.* Every write on a lease row is conditional on its counter, and a worker stops to process when its fence
//! lapses, before others may declare it dead.
//!
//! All of it runs on the coordination runtime, so that handlers that block cost no lease.

mod balance;
mod config;
mod fence;
mod held;
mod housekeeping;
mod leave;
mod life;
mod liveness;
mod membership;
mod take;
mod watch;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::error::Result;

pub use config::Config;
#[cfg(test)]
pub(crate) use fence::Fence;
#[cfg(test)]
pub(crate) use held::{Command, StopRequest, Tenure};
pub(crate) use held::{HeldLease, LeaseHandle, WeakLeaseHandle};
pub(crate) use life::Outfit;

use life::Life;

/// What the coordination knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CoordinationStatus {
    /// Whether the worker is a member of the fleet now.
    pub joined: bool,
    /// Whether it does the housekeeping.
    pub leading: bool,
    /// The live workers, where this one leads.
    pub roster: Vec<crate::types::WorkerId>,
    /// Leases it holds.
    pub leases_held: usize,
    /// Whether its leases can be trusted: a heartbeat was acknowledged in time.
    pub fence_holds: bool,
    /// How often it was declared dead and joined again.
    pub times_expelled: u32,
}

/// The service. Runs until it is told to stop.
#[derive(Debug)]
pub(crate) struct LeaseCoordinator {
    outfit: Outfit,
    shared: Arc<Shared>,
}

/// Cheap handle to the service.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stop: CancellationToken,
    life: Mutex<Option<Arc<Life>>>,
    expelled: std::sync::atomic::AtomicU32,
}

impl Shared {
    fn life(&self) -> Option<Arc<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_life(&self, life: Option<Arc<Life>>) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

impl CoordinatorHandle {
    /// Leaves the fleet: hands all leases over, then ends the service.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Asks for a planning round, after leases were made or deleted.
    pub(crate) async fn request_plan(&self) {
        if let Some(life) = self.0.life() {
            life.request_plan().await;
        }
    }

    pub(crate) fn status(&self) -> CoordinationStatus {
        let times_expelled = self.0.expelled.load(std::sync::atomic::Ordering::Relaxed);
        let Some(life) = self.0.life() else {
            return CoordinationStatus { times_expelled, ..CoordinationStatus::default() };
        };
        let state = life.state();
        CoordinationStatus {
            joined: !life.expelled.is_cancelled(),
            leading: state.leading,
            roster: state.roster.clone(),
            leases_held: state.held.len(),
            fence_holds: life.fence.holds(),
            times_expelled,
        }
    }
}

impl LeaseCoordinator {
    pub(crate) fn new(outfit: Outfit) -> (Self, CoordinatorHandle) {
        let shared = Arc::new(Shared::default());
        (Self { outfit, shared: Arc::clone(&shared) }, CoordinatorHandle(shared))
    }

    /// Serves until stopped, over as many lives as it takes.
    ///
    /// # Errors
    /// What makes it pointless to go on: the worker id is in use, the table belongs to something else, access is denied.
    pub(crate) async fn run(self) -> Result<()> {
        let stop = self.shared.stop.clone();
        loop {
            let (life, scan) = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                joined = self.outfit.join() => joined?,
            };
            self.shared.set_life(Some(Arc::clone(&life)));
            let outcome = self.live(&life, &scan).await;
            self.shared.set_life(None);
            if outcome? == End::Left {
                return Ok(());
            }
            self.shared.expelled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn live(&self, life: &Arc<Life>, scan: &crate::lease::TableScan) -> Result<End> {
        // However the life ends, by a panic too, its leases end with it.
        let _lost_at_the_end = life.expelled.clone().drop_guard();
        let stay = {
            let life = Arc::clone(life);
            let stop = self.shared.stop.clone();
            async move {
                stop.cancelled().await;
                life.drain().await;
            }
        };
        let outcome = tokio::select! {
            biased;
            () = life.keep_alive() => return Ok(End::Expelled),
            outcome = housekeeping::Housekeeping::new(Arc::clone(life)).run() => outcome.map(|()| End::Expelled),
            () = watch::Watch::new(Arc::clone(life), scan).run() => Ok(End::Expelled),
            () = stay => Ok(End::Left),
        };
        life.sign_off().await;
        outcome
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Left,
    Expelled,
}

#[cfg(test)]
mod coordinator_test;
