//! A lease that this worker holds: what a shard consumer sees of the coordination.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::fence::Fence;
use crate::{
    error::{Error, ErrorKind, Result},
    lease::{Lease, LeaseKey, PendingCheckpoint},
    types::{Checkpoint, ChildShard, ShardId, WorkerId},
};

/// A tenure, from acquisition to its end: the row as acquired, and the handle to everything that can be done with it.
#[derive(Debug)]
pub(crate) struct HeldLease {
    /// The row as this worker took it; its checkpoint is where to start.
    pub(crate) lease: Lease,
    pub(crate) handle: LeaseHandle,
}

/// Why the consumer is asked to finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StopRequest {
    /// The lease goes to this worker.
    HandOver { to: WorkerId },
    /// The worker stops and there is nobody to hand over to.
    Release,
}

/// What the writer of a lease is asked to do, with where to answer.
#[derive(Debug)]
pub(crate) enum Command {
    Checkpoint(Checkpoint, oneshot::Sender<Result<()>>),
    Prepare(PendingCheckpoint, oneshot::Sender<Result<()>>),
    Surrender(Option<Checkpoint>, oneshot::Sender<Result<()>>),
    EndShard(Vec<ChildShard>, oneshot::Sender<Result<()>>),
    ParentsFinished(oneshot::Sender<Result<bool>>),
    Reread(oneshot::Sender<Result<Box<Lease>>>),
}

/// State shared by the coordinator, the lease's writer and its consumer.
#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) key: LeaseKey,
    pub(crate) shard_id: ShardId,
    pub(crate) fencing_token: u64,
    pub(crate) fence: Fence,
    /// Fires once when the lease is gone, for whatever reason.
    pub(crate) lost: CancellationToken,
    /// Set before a write is sent that ends the tenure. From then on nothing may be processed, whatever its outcome.
    surrendering: AtomicBool,
    stop: Mutex<Option<StopRequest>>,
    stop_changed: Notify,
    parent_ended: Notify,
    bytes: AtomicU64,
}

impl Tenure {
    pub(crate) fn new(lease: &Lease, fence: Fence, lost: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            key: lease.key.clone(),
            shard_id: lease.shard_id.clone(),
            fencing_token: lease.counter,
            fence,
            lost,
            surrendering: AtomicBool::new(false),
            stop: Mutex::new(None),
            stop_changed: Notify::new(),
            parent_ended: Notify::new(),
            bytes: AtomicU64::new(0),
        })
    }

    /// Asks the consumer to finish. The first request stands, but a hand-over replaces nothing but a release.
    pub(crate) fn request_stop(&self, request: StopRequest) {
        {
            let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            match &*stop {
                None | Some(StopRequest::Release) => *stop = Some(request),
                Some(StopRequest::HandOver { .. }) => {}
            }
        }
        self.stop_changed.notify_waiters();
    }

    pub(crate) fn stop_request(&self) -> Option<StopRequest> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn begin_surrender(&self) {
        self.surrendering.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_surrendering(&self) -> bool {
        self.surrendering.load(Ordering::SeqCst)
    }

    fn lost_error(&self) -> Error {
        Error::new(ErrorKind::LeaseLost, format!("lease {} is no longer held by this worker", self.key))
    }

    pub(crate) fn parent_has_ended(&self) {
        self.parent_ended.notify_one();
    }

    /// Bytes handed to user code since the last call.
    pub(crate) fn take_bytes(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

/// Cheap handle to a held lease. All of its writes are made one after the other by the lease's writer, on the
/// coordination runtime, and each is fenced by the row's counter.
#[derive(Debug, Clone)]
pub(crate) struct LeaseHandle {
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// A handle that does not keep the tenure alive: when the shard's consumer is gone, its lease is given up, whatever
/// user code has kept.
#[derive(Debug, Clone)]
pub(crate) struct WeakLeaseHandle {
    tenure: Arc<Tenure>,
    commands: mpsc::WeakSender<Command>,
}

impl WeakLeaseHandle {
    /// The handle, while the shard's consumer is there.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub(crate) fn upgrade(&self) -> Result<LeaseHandle> {
        match self.commands.upgrade() {
            Some(commands) => Ok(LeaseHandle { tenure: Arc::clone(&self.tenure), commands }),
            None => Err(self.tenure.lost_error()),
        }
    }
}

impl LeaseHandle {
    pub(crate) fn downgrade(&self) -> WeakLeaseHandle {
        WeakLeaseHandle { tenure: Arc::clone(&self.tenure), commands: self.commands.downgrade() }
    }

    #[cfg(test)]
    pub(crate) fn key(&self) -> &LeaseKey {
        &self.tenure.key
    }

    pub(crate) fn shard_id(&self) -> &ShardId {
        &self.tenure.shard_id
    }

    /// Grows with every change of owner: guards writes of the application to other systems.
    pub(crate) fn fencing_token(&self) -> u64 {
        self.tenure.fencing_token
    }

    /// Fires when the lease is gone.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.tenure.lost
    }

    /// Whether user code may be called now. To be asked right before each call.
    pub(crate) fn may_process(&self) -> bool {
        !self.tenure.lost.is_cancelled() && !self.tenure.is_surrendering() && self.tenure.fence.holds()
    }

    /// Waits until user code may be called: at once, or after the next heartbeat when the fence has lapsed.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub(crate) async fn ready_to_process(&self) -> Result<()> {
        tokio::select! {
            biased;
            () = self.tenure.lost.cancelled() => Err(self.lost_error()),
            () = self.tenure.fence.held() => Ok(()),
        }
    }

    /// Waits until a running call of user code must be told to stop: the lease is lost, or the fence has lapsed.
    pub(crate) async fn interrupted(&self) {
        tokio::select! {
            biased;
            () = self.tenure.lost.cancelled() => {}
            () = self.tenure.fence.lapsed() => {}
        }
    }

    /// Waits for a stop request.
    pub(crate) async fn stop_requested(&self) -> StopRequest {
        loop {
            let changed = self.tenure.stop_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(request) = self.tenure.stop_request() {
                return request;
            }
            changed.await;
        }
    }

    /// Notes bytes handed to user code, the lease's load.
    pub(crate) fn record_bytes(&self, bytes: u64) {
        self.tenure.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Makes progress durable. Retries by itself for about a lease duration; never moves a checkpoint back.
    ///
    /// # Errors
    /// `LeaseLost`, then nothing was written; another kind when the table could not be written, then it is unknown
    /// whether it was.
    pub(crate) async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        self.send(|reply| Command::Checkpoint(checkpoint, reply)).await
    }

    /// Makes the first half of a two-phase checkpoint durable. Errors as [`LeaseHandle::checkpoint`].
    pub(crate) async fn prepare(&self, pending: PendingCheckpoint) -> Result<()> {
        self.send(|reply| Command::Prepare(pending, reply)).await
    }

    /// Ends the tenure as the stop request says: writes the last checkpoint and the next owner (or none) in one
    /// write, and signals the next owner. Nothing may be processed once this is called.
    ///
    /// # Errors
    /// As [`LeaseHandle::checkpoint`]. The lease is gone for this consumer in any case.
    pub(crate) async fn surrender(&self, last: Option<Checkpoint>) -> Result<()> {
        self.tenure.begin_surrender();
        self.send(|reply| Command::Surrender(last, reply)).await
    }

    /// Ends a closed shard: makes the leases of its children, then writes `ShardEnd`. Nothing may be processed once
    /// this is called. An error other than `LeaseLost` can be retried.
    pub(crate) async fn end_shard(&self, children: Vec<ChildShard>) -> Result<()> {
        self.tenure.begin_surrender();
        self.send(|reply| Command::EndShard(children, reply)).await
    }

    /// Waits until the leases of all parents are at `ShardEnd`, or gone: looks at once, whenever a parent's owner
    /// signals its end, and every `poll`.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub(crate) async fn parents_finished(&self, poll: std::time::Duration) -> Result<()> {
        loop {
            match self.send(Command::ParentsFinished).await {
                Ok(true) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::LeaseLost => return Err(error),
                Ok(false) => {}
                Err(error) => tracing::warn!(shard_id = %self.shard_id(), %error, "cannot read the parents' leases, trying again"),
            }
            tokio::select! {
                biased;
                () = self.tenure.lost.cancelled() => return Err(self.lost_error()),
                () = self.tenure.parent_ended.notified() => {}
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// Reads the row again, which somebody may have mended.
    ///
    /// # Errors
    /// `LeaseLost`; `InvalidData` when it cannot be read; those of the table.
    pub(crate) async fn reread(&self) -> Result<Lease> {
        self.send(Command::Reread).await.map(|row| *row)
    }

    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(self.lost_error());
        }
        answer.await.unwrap_or_else(|_| Err(self.lost_error()))
    }

    fn lost_error(&self) -> Error {
        self.tenure.lost_error()
    }
}
