//! One life of a worker in its fleet: from registration to leaving or being declared dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Config,
    fence::Fence,
    held::{HeldLease, LeaseHandle, Tenure},
    liveness::Observer,
    writer::LeaseWriter,
};
use crate::{
    clock::SharedClock,
    error::{Error, ErrorKind, Result},
    lease::{Lease, LeaseKey, LeaseTable, Signal, SkippedRow, TableScan, WorkerState, WorkerUpdate, WorkerVersion, WriteId, WriteOutcome},
    random::Randomness,
    retry::{Obstacle, RetryConfig},
    task::Spawner,
    types::{InstanceId, StreamIdentifier, WorkerId},
};

/// What every life of a worker shares.
#[derive(Debug, Clone)]
pub(crate) struct Outfit {
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) me: WorkerId,
    pub(crate) config: Config,
    pub(crate) clock: SharedClock,
    pub(crate) random: Randomness,
    pub(crate) spawner: Spawner,
    /// The streams this worker reads, as leases name them; `None` stands for the only one.
    pub(crate) streams: Arc<BTreeSet<Option<StreamIdentifier>>>,
    /// Where gained leases go.
    pub(crate) gained: mpsc::Sender<HeldLease>,
    /// Where the housekeeper's scans go; what is not taken in time is dropped, as the next one is fresher.
    pub(crate) scans: mpsc::Sender<Arc<TableScan>>,
    /// What keeps the worker from joining.
    pub(crate) obstacle: Obstacle,
}

impl Outfit {
    /// One call to the table within the time limit.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.within(self.config.call_timeout(), call).await
    }

    /// All rows of the table that can be worked with.
    pub(crate) async fn scan(&self) -> Result<TableScan> {
        let mut scan = self.within(self.config.scan_timeout(), self.table.scan()).await?;
        let skipped = &mut scan.skipped;
        scan.leases.retain(|lease| match lease.check_counter() {
            Ok(()) => true,
            Err(error) => {
                skipped.push(SkippedRow { key: lease.key.to_string(), reason: error.message().to_owned() });
                false
            }
        });
        Ok(scan)
    }

    async fn within<T>(&self, limit: Duration, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("no answer from {} within {limit:?}", self.table))),
        }
    }

    /// Whether a lease is of a stream that this worker reads.
    pub(crate) fn reads(&self, lease: &Lease) -> bool {
        self.streams.contains(&lease.stream)
    }

    pub(crate) fn write_id(&self) -> WriteId {
        WriteId(self.random.next_u64())
    }

    /// Waits between attempts at the table: short, as leases do not wait.
    pub(crate) fn table_retry(&self) -> RetryConfig {
        RetryConfig { max_attempts: None, min_delay: Duration::from_millis(50), max_delay: self.config.lease_duration / 8 }
    }
}

/// State that the tasks of a life share; never locked across an await.
#[derive(Debug)]
pub(super) struct State {
    /// As last acknowledged.
    pub(super) version: WorkerVersion,
    pub(super) state: WorkerState,
    pub(super) leading: bool,
    pub(super) roster: Vec<WorkerId>,
    /// Signals acted on, kept until a heartbeat has removed them from the row.
    pub(super) handled: BTreeSet<Signal>,
    pub(super) held: BTreeMap<LeaseKey, Arc<Tenure>>,
    /// Leases a take is under way for.
    pub(super) taking: BTreeSet<LeaseKey>,
    /// Who leads, if known.
    pub(super) leader: Option<WorkerId>,
    /// After this worker has resigned from the housekeeping: when it may do it again, and who may before.
    pub(super) resigned: Option<(Instant, Vec<WorkerId>)>,
    /// What is known of the others' lives.
    pub(super) observer: Observer,
    signals_sent: u64,
}

#[derive(Debug)]
pub(crate) struct Life {
    pub(super) outfit: Outfit,
    pub(super) instance: InstanceId,
    pub(super) fence: Fence,
    /// Fires when the worker's row is gone or another's: all leases are lost.
    pub(super) expelled: CancellationToken,
    state: Mutex<State>,
    /// A heartbeat is wanted before its time.
    pub(super) beat_now: Notify,
    /// A planning round is wanted.
    pub(super) plan_now: Notify,
    /// The set of held leases has changed.
    pub(super) held_changed: Notify,
}

impl Life {
    pub(super) fn new(outfit: Outfit, version: WorkerVersion, registered: Instant) -> Arc<Self> {
        let fence = Fence::new();
        fence.extend(registered, registered + outfit.config.lease_duration - outfit.config.fence_margin());
        Arc::new(Self {
            instance: version.instance,
            fence,
            expelled: CancellationToken::new(),
            state: Mutex::new(State {
                version,
                state: WorkerState::Active,
                leading: false,
                roster: Vec::new(),
                handled: BTreeSet::new(),
                held: BTreeMap::new(),
                taking: BTreeSet::new(),
                leader: None,
                resigned: None,
                observer: Observer::new(outfit.config.lease_duration),
                signals_sent: 0,
            }),
            beat_now: Notify::new(),
            plan_now: Notify::new(),
            held_changed: Notify::new(),
            outfit,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn me(&self) -> &WorkerId {
        &self.outfit.me
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.state().state == WorkerState::Leaving
    }

    /// What the next heartbeat writes.
    pub(super) fn update(&self) -> (WorkerVersion, WorkerUpdate) {
        let state = self.state();
        let update = WorkerUpdate {
            state: state.state,
            leading: state.leading,
            roster: state.roster.clone(),
            max_leases: self.outfit.config.max_leases,
            updated: self.outfit.clock.now(),
            handled: state.handled.clone(),
        };
        (state.version, update)
    }

    /// Begins a tenure of a row that this life has just written, and passes it to the worker.
    /// Boxed, since a lease's writer itself begins the tenures of its shard's children.
    pub(super) fn hold(self: &Arc<Self>, lease: Lease) -> BoxFuture<'_, ()> {
        self.begin_tenure(lease).boxed()
    }

    async fn begin_tenure(self: &Arc<Self>, lease: Lease) {
        let tenure = Tenure::new(&lease, self.fence.clone(), self.expelled.child_token());
        let (commands, receiver) = mpsc::channel(4);
        let former = self.state().held.insert(lease.key.clone(), Arc::clone(&tenure));
        if let Some(former) = former {
            former.lost.cancel();
        }
        tracing::info!(worker_id = %self.me(), lease_key = %lease.key, counter = lease.counter, checkpoint = %lease.checkpoint, "lease gained");
        let writer = LeaseWriter::new(Arc::clone(self), Arc::clone(&tenure), lease.clone(), receiver);
        self.outfit.spawner.spawn("lease writer", writer.run()).detach();
        self.held_changed.notify_waiters();
        let held = HeldLease { lease, handle: LeaseHandle { tenure, commands } };
        if self.outfit.gained.send(held).await.is_err() {
            tracing::debug!("nobody takes gained leases any more: the worker is stopping");
        }
    }

    /// Ends a tenure in this process; a newer tenure of the same lease stays.
    pub(super) fn let_go(&self, tenure: &Arc<Tenure>) {
        tenure.lost.cancel();
        {
            let mut state = self.state();
            if state.held.get(&tenure.key).is_some_and(|t| Arc::ptr_eq(t, tenure)) {
                state.held.remove(&tenure.key);
            }
        }
        self.held_changed.notify_waiters();
    }

    /// Leaves signals in another worker's row. Best effort: what they announce is found by the housekeeper as well.
    pub(super) async fn signal(&self, to: &WorkerId, signals: &[Signal]) {
        let mut backoff = RetryConfig { max_attempts: Some(4), ..self.outfit.table_retry() }.backoff(&self.outfit.random);
        loop {
            match self.outfit.call(self.outfit.table.signal(to, signals)).await {
                Ok(WriteOutcome::Applied) => return,
                Ok(WriteOutcome::Conflict) => {
                    tracing::debug!(worker_id = %self.me(), to = %to, "cannot signal a worker that is gone");
                    return self.ask_for_plan_of_leader(Some(to));
                }
                Err(error) => {
                    if !backoff.wait().await {
                        tracing::warn!(worker_id = %self.me(), to = %to, %error, "cannot signal another worker");
                        return;
                    }
                }
            }
        }
    }

    fn ask_for_plan_of_leader(&self, gone: Option<&WorkerId>) {
        let leads = {
            let state = self.state();
            state.leading || state.leader.as_ref() == gone
        };
        if leads {
            self.plan_now.notify_one();
        }
    }

    /// Asks whoever leads to plan now.
    pub(super) async fn request_plan(&self) {
        let target = {
            let mut state = self.state();
            if state.leading {
                None
            } else {
                state.signals_sent += 1;
                state.leader.clone().map(|leader| (leader, state.signals_sent))
            }
        };
        match target {
            Some((leader, number)) => self.signal(&leader, &[Signal::Plan { from: self.me().clone(), number }]).await,
            None => self.plan_now.notify_one(),
        }
    }
}
