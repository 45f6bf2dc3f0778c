//! Writing checkpoints.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

#[cfg(feature = "test-util")]
use super::recording::CheckpointLog;
use super::{
    prepared::PreparedCheckpoint,
    progress::{Progress, Verdict},
};
use crate::{
    error::Result,
    lease::{
        PendingCheckpoint,
        coordinator::{LeaseHandle, WeakLeaseHandle},
    },
    types::{Checkpoint, ExtendedSequenceNumber},
};

/// Writes checkpoints of one shard by hand. With automatic checkpoints, the default, it need not be used; both can be
/// mixed, and whatever is further counts.
///
/// A checkpoint says that everything up to and including a record is done: after a crash or a move, delivery begins
/// with the record after it. It is durable when the call returns `Ok`. It lies between the last durable one and the
/// last record delivered, those of the call under way included, and never moves back; asking for the last one again
/// costs no write.
///
/// Clones share their state, and calls may run side by side with each other and with processing: a clone may be
/// moved into a task. For a clone, a batch is done once its call has returned `Ok`. Once the shard has left this worker, every call fails with
/// [`LeaseLost`](crate::ErrorKind::LeaseLost) and writes nothing.
///
/// # Cancel safety
/// When a call is dropped, whether it took effect is unknown; a later one repairs it.
#[derive(Debug)]
pub struct Checkpointer {
    inner: Arc<Inner>,
    /// Whether this is the handle that calls of user code get, rather than a clone that may outlive the call.
    of_the_call: bool,
}

impl Clone for Checkpointer {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), of_the_call: false }
    }
}

#[derive(Debug)]
struct Inner {
    progress: Mutex<Progress>,
    /// One write at a time, so that late ones find out what early ones have covered.
    writing: tokio::sync::Mutex<()>,
    /// Wakes the automatic checkpoint.
    acknowledged: tokio::sync::Notify,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Lease(WeakLeaseHandle),
    #[cfg(feature = "test-util")]
    Log(CheckpointLog),
}

impl Checkpointer {
    pub(crate) fn new(handle: &LeaseHandle, start: Checkpoint) -> Self {
        Self::with_target(Target::Lease(handle.downgrade()), start)
    }

    fn with_target(target: Target, start: Checkpoint) -> Self {
        let inner = Inner {
            progress: Mutex::new(Progress::starting_at(start)),
            writing: tokio::sync::Mutex::new(()),
            acknowledged: tokio::sync::Notify::new(),
            target,
        };
        Self { inner: Arc::new(inner), of_the_call: true }
    }

    /// A checkpointer for tests of processors: it keeps the rules, and writes into the log that comes with it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn recording() -> (Self, CheckpointLog) {
        Self::recording_from(Checkpoint::TrimHorizon)
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn recording_from(start: Checkpoint) -> (Self, CheckpointLog) {
        let log = CheckpointLog::default();
        (Self::with_target(Target::Log(log.clone()), start), log)
    }

    /// Checkpoints everything that is done: all batches for which `process_records` returned `Ok`, and within such a
    /// call, the whole batch of the call. A batch whose call failed is not part of it. Without anything new it writes
    /// nothing.
    ///
    /// # Errors
    /// `LeaseLost` when the shard has left this worker; another kind when the lease table could not be written in
    /// about a lease duration, then it is unknown whether it was.
    pub async fn checkpoint(&self) -> Result<()> {
        let of_the_call = self.of_the_call;
        let verdict = self.progress(|p| p.everything_done(of_the_call));
        self.carry_out(verdict).await
    }

    /// Checkpoints at a record (`&record`), or at a sequence number.
    ///
    /// A bare [`SequenceNumber`](crate::types::SequenceNumber) means sub-sequence 0: inside a KPL aggregate that is its first record only.
    ///
    /// # Errors
    /// `InvalidInput` when it lies behind the last checkpoint or ahead of what was delivered; else as
    /// [`Checkpointer::checkpoint`].
    pub async fn checkpoint_at(&self, position: impl Into<ExtendedSequenceNumber> + Send) -> Result<()> {
        let position = position.into();
        let verdict = self.progress(|p| p.validate(position))?;
        self.carry_out(verdict).await
    }

    /// First half of a two-phase checkpoint of everything done, with opaque `state` of the application. What
    /// was prepared and not committed is given to whoever initializes the shard next, who can then finish or undo
    /// the work between the halves.
    ///
    /// # Errors
    /// As [`Checkpointer::checkpoint`].
    pub async fn prepare_checkpoint(&self, state: impl Into<Option<Bytes>> + Send) -> Result<PreparedCheckpoint> {
        let of_the_call = self.of_the_call;
        let at = match self.progress(|p| p.everything_done(of_the_call)) {
            Verdict::Write(checkpoint) => checkpoint,
            Verdict::Durable => self.durable(),
        };
        self.prepare(at, state.into()).await
    }

    /// First half of a two-phase checkpoint at a record or sequence number, see [`Checkpointer::prepare_checkpoint`].
    ///
    /// # Errors
    /// As [`Checkpointer::checkpoint_at`].
    pub async fn prepare_checkpoint_at(
        &self,
        position: impl Into<ExtendedSequenceNumber> + Send,
        state: impl Into<Option<Bytes>> + Send,
    ) -> Result<PreparedCheckpoint> {
        let (position, state) = (position.into(), state.into());
        self.progress(|p| p.validate(position))?;
        self.prepare(position.into(), state).await
    }

    /// The last checkpoint known to be durable.
    #[must_use]
    pub fn durable(&self) -> Checkpoint {
        self.progress(|p| p.durable())
    }

    async fn prepare(&self, checkpoint: Checkpoint, state: Option<Bytes>) -> Result<PreparedCheckpoint> {
        let prepared = PreparedCheckpoint::begin(self.clone(), checkpoint);
        let _one_at_a_time = self.inner.writing.lock().await;
        let pending = PendingCheckpoint { checkpoint, state };
        match &self.inner.target {
            Target::Lease(handle) => handle.upgrade()?.prepare(pending).await?,
            #[cfg(feature = "test-util")]
            Target::Log(log) => log.prepared(pending),
        }
        Ok(prepared)
    }

    async fn carry_out(&self, verdict: Verdict) -> Result<()> {
        match verdict {
            Verdict::Write(checkpoint) => self.write(checkpoint, |durable| durable < checkpoint).await,
            Verdict::Durable => Ok(()),
        }
    }

    /// Writes a prepared checkpoint, also where only the first half has to be wiped from the row.
    pub(super) async fn commit(&self, checkpoint: Checkpoint) -> Result<()> {
        self.write(checkpoint, |durable| durable <= checkpoint).await
    }

    /// Writes what is acknowledged and not yet durable. Returns whether there was anything.
    pub(crate) async fn write_acknowledged(&self) -> Result<bool> {
        let _one_at_a_time = self.inner.writing.lock().await;
        // Asked when it is this write's turn: a two-phase checkpoint that has begun by then must not lose its first half.
        match self.progress(|p| p.due()) {
            Some(checkpoint) => self.write_in_turn(checkpoint).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn write(&self, checkpoint: Checkpoint, still_needed: impl FnOnce(Checkpoint) -> bool + Send) -> Result<()> {
        let _one_at_a_time = self.inner.writing.lock().await;
        if still_needed(self.durable()) { self.write_in_turn(checkpoint).await } else { Ok(()) }
    }

    async fn write_in_turn(&self, checkpoint: Checkpoint) -> Result<()> {
        match &self.inner.target {
            Target::Lease(handle) => handle.upgrade()?.checkpoint(checkpoint).await?,
            #[cfg(feature = "test-util")]
            Target::Log(log) => log.written(checkpoint),
        }
        self.progress(|p| p.written(checkpoint));
        Ok(())
    }

    /// A batch goes to user code.
    pub(crate) fn deliver(&self, last: ExtendedSequenceNumber) {
        self.progress(|p| p.deliver(last));
    }

    /// User code has failed at the batch it was given.
    pub(crate) fn refuse(&self) {
        self.progress(Progress::refuse);
    }

    /// User code has returned `Ok` for a batch.
    pub(crate) fn acknowledge(&self, last: ExtendedSequenceNumber) {
        self.progress(|p| p.acknowledge(last));
        self.inner.acknowledged.notify_one();
    }

    /// Everything for which user code has returned `Ok`.
    pub(crate) fn acknowledged(&self) -> Checkpoint {
        self.progress(|p| p.acknowledged())
    }

    /// Notes what the last write of the tenure has made durable.
    pub(crate) fn surrendered_at(&self, checkpoint: Checkpoint) {
        self.progress(|p| p.written(checkpoint));
    }

    /// Waits until something is acknowledged and not yet durable.
    pub(super) async fn progress_made(&self) {
        while self.progress(|p| p.due()).is_none() {
            self.inner.acknowledged.notified().await;
        }
    }

    pub(super) fn begin_prepared(&self) {
        self.progress(Progress::begin_prepared);
    }

    pub(super) fn end_prepared(&self) {
        self.progress(Progress::end_prepared);
        self.inner.acknowledged.notify_one();
    }

    fn progress<T>(&self, f: impl FnOnce(&mut Progress) -> T) -> T {
        f(&mut self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::{
        error::ErrorKind,
        lease::{
            Lease,
            coordinator::{Command, Fence, Tenure},
        },
        types::{SequenceNumber, ShardId, StreamIdentifier},
    };

    fn at(n: u128) -> ExtendedSequenceNumber {
        SequenceNumber::from_parts(0, n).into()
    }

    fn delivered(last: u128) -> (Checkpointer, CheckpointLog) {
        let (checkpointer, log) = Checkpointer::recording();
        checkpointer.deliver(at(last));
        (checkpointer, log)
    }

    #[tokio::test]
    async fn a_checkpoint_is_written_once() {
        let (checkpointer, log) = delivered(9);
        checkpointer.checkpoint_at(at(4)).await.expect("delivered");
        checkpointer.checkpoint_at(at(4)).await.expect("nothing to do");
        checkpointer.checkpoint().await.expect("delivered");
        checkpointer.checkpoint().await.expect("nothing to do");
        assert_eq!(log.all(), [at(4).into(), at(9).into()]);
        for outside in [8, 10] {
            assert_eq!(checkpointer.checkpoint_at(at(outside)).await.expect_err("outside").kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(log.all().len(), 2);
    }

    #[tokio::test]
    async fn a_two_phase_checkpoint_counts_when_it_is_committed() {
        let (checkpointer, log) = delivered(9);
        let prepared = checkpointer.prepare_checkpoint_at(at(5), Bytes::from_static(b"state")).await.expect("delivered");
        assert_eq!(log.all_prepared(), [PendingCheckpoint { checkpoint: at(5).into(), state: Some(Bytes::from_static(b"state")) }]);
        assert_eq!((log.all().len(), prepared.checkpoint()), (0, at(5).into()));
        prepared.commit().await.expect("nothing stands against it");
        assert_eq!(log.all(), [at(5).into()]);

        let again = checkpointer.prepare_checkpoint_at(at(5), None).await.expect("equal to the last");
        again.commit().await.expect("nothing stands against it");
        assert_eq!(log.all(), [at(5).into(), at(5).into()], "the first half has to be wiped from the row");

        let overtaken = checkpointer.prepare_checkpoint_at(at(6), None).await.expect("delivered");
        checkpointer.checkpoint().await.expect("delivered");
        overtaken.commit().await.expect("nothing left to do");
        assert_eq!(log.last(), Some(at(9).into()));
        assert_eq!(log.all().len(), 3);
    }

    #[tokio::test]
    async fn automatic_checkpoints_wait_for_the_second_half() {
        let (checkpointer, log) = delivered(9);
        let prepared = checkpointer.prepare_checkpoint(None).await.expect("delivered");
        checkpointer.acknowledge(at(9));
        assert!(!checkpointer.write_acknowledged().await.expect("nothing due"));
        drop(prepared);
        assert!(checkpointer.write_acknowledged().await.expect("due"));
        assert_eq!(log.all(), [at(9).into()]);
    }

    #[tokio::test]
    async fn an_automatic_checkpoint_whose_turn_comes_after_a_prepare_began_leaves_it_alone() {
        let (checkpointer, log) = delivered(9);
        checkpointer.acknowledge(at(9));
        let turn = checkpointer.inner.writing.lock().await;
        let automatic = checkpointer.write_acknowledged();
        tokio::pin!(automatic);
        assert!(futures::poll!(&mut automatic).is_pending());
        let prepared = checkpointer.prepare_checkpoint(None);
        tokio::pin!(prepared);
        assert!(futures::poll!(&mut prepared).is_pending());
        drop(turn);
        assert!(!automatic.await.expect("nothing due"), "the first half would be wiped");
        let prepared = prepared.await.expect("delivered");
        assert_eq!((log.all().len(), log.all_prepared().len()), (0, 1));
        prepared.commit().await.expect("nothing stands against it");
        assert_eq!(log.all(), [at(9).into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_side_by_side_never_move_it_back() {
        let (sender, mut commands) = tokio::sync::mpsc::channel(4);
        let stream = StreamIdentifier::Single("clicks".parse().expect("valid"));
        let lease = Lease::new(&stream, ShardId::from_index(0), Checkpoint::TrimHorizon);
        let tenure = Tenure::new(&lease, Fence::new(), tokio_util::sync::CancellationToken::new());
        let handle = LeaseHandle { tenure, commands: sender };
        let checkpointer = Checkpointer::new(&handle, lease.checkpoint);
        checkpointer.deliver(at(9));
        let writer = async {
            let mut written = Vec::new();
            while let Some(command) = commands.recv().await {
                let Command::Checkpoint(checkpoint, reply) = command else { panic!("only checkpoints are asked for") };
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                written.push(checkpoint);
                reply.send(Ok(())).expect("the caller waits");
            }
            written
        };
        let clone = checkpointer.clone();
        let of_the_call = &checkpointer;
        let callers = async move {
            let (a, b, c) = tokio::join!(clone.checkpoint_at(at(7)), clone.checkpoint_at(at(3)), of_the_call.checkpoint());
            a.and(b).and(c).expect("each is in order when it is asked for");
            drop(handle);
        };
        let (written, ()) = tokio::join!(writer, callers);
        assert_eq!(written, [at(7).into(), at(9).into()], "what another call has covered is not written");
        // The consumer is gone, and with it the handle: a clone that user code has kept holds no lease.
        checkpointer.deliver(at(11));
        assert_eq!(checkpointer.checkpoint().await.expect_err("gone").kind(), ErrorKind::LeaseLost);
    }
}
