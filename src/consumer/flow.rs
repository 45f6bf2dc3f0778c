//! Waiting: for a call or anything else, for a stop request, for the loss of the lease, and for deadlines.

use std::{future::Future, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Config, ShardDeliveries,
    delivery::{Hold, Wanted},
    state::{Action, Event, State},
    status::{ShardPhase, StatusCell},
};
use crate::{
    clock::until,
    error::Result as CrateResult,
    lease::coordinator::LeaseHandle,
    retrieval::{Delivery, RecordSource},
};

/// Where the shard is, and what can interrupt it.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) state: State,
    pub(super) handle: LeaseHandle,
    pub(super) status: StatusCell,
    /// Dropped, with what it has buffered, as soon as nothing more is to be processed.
    pub(super) source: Option<Box<dyn RecordSource>>,
    drain_timeout: Duration,
    lease_lost_timeout: Duration,
    handler_timeout: Option<Duration>,
    /// Whether the last call was dropped because it took too long by itself.
    pub(super) overran: bool,
    /// Of the drain, or of a call whose lease is lost.
    deadline: Option<Instant>,
    stopping: bool,
    lost: bool,
}

impl Flow {
    pub(super) fn new(handle: LeaseHandle, status: StatusCell, config: &Config) -> Self {
        Self {
            state: State::WaitingForParents,
            handle,
            status,
            source: None,
            drain_timeout: config.drain_timeout,
            lease_lost_timeout: config.lease_lost_timeout,
            handler_timeout: config.handler_timeout,
            overran: false,
            deadline: None,
            stopping: false,
            lost: false,
        }
    }

    fn stop(&mut self) -> Event {
        self.stopping = true;
        self.source = None;
        self.deadline = Some(Instant::now() + self.drain_timeout);
        Event::StopRequested
    }

    fn lose(&mut self) -> Event {
        self.lost = true;
        self.source = None;
        self.deadline = Some(Instant::now() + self.lease_lost_timeout);
        Event::LeaseLost
    }

    /// Takes a step of the state machine that leaves the call under way alone.
    fn note(&mut self, event: Event) {
        let Some((state, action)) = self.state.on(event) else { return };
        debug_assert_eq!(action, Action::KeepWaiting);
        self.state = state;
        if matches!(state, State::Draining(_)) {
            self.status.enter(ShardPhase::Draining);
        }
    }

    /// Waits for `wait`, or for what comes first of a stop request, the loss of the lease and the deadline.
    ///
    /// # Cancel safety
    /// `wait` is dropped when something else comes first.
    pub(super) async fn race<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Event> {
        tokio::select! {
            biased;
            () = self.handle.lost().cancelled(), if !self.lost => Err(self.lose()),
            _ = self.handle.stop_requested(), if !self.stopping => Err(self.stop()),
            value = wait => Ok(value),
            () = until(self.deadline) => Err(Event::DeadlinePassed),
        }
    }

    /// As [`Flow::race`], with what the source has next.
    pub(super) async fn next(&mut self) -> Result<CrateResult<Delivery>, Event> {
        // Taken out and put back, so that a stop can drop it.
        let Some(mut source) = self.source.take() else {
            return self.race(std::future::pending()).await;
        };
        let delivery = self.race(source.next()).await?;
        self.source = Some(source);
        Ok(delivery)
    }

    /// Waits until the fence allows user code to be called.
    pub(super) async fn fence(&mut self) -> Event {
        while !self.handle.may_process() {
            self.status.enter(ShardPhase::Suspended);
            let handle = self.handle.clone();
            match self.race(handle.ready_to_process()).await {
                Ok(Ok(())) => {}
                Ok(Err(_lost)) => return self.lose(),
                Err(event) => return event,
            }
        }
        Event::Ready
    }

    /// Waits until the fence allows user code to be called, the shard is not paused, and the rate limit of the worker lets
    /// something through: how many of the records wanted.
    pub(super) async fn admission(&mut self, deliveries: &ShardDeliveries, wanted: Wanted) -> Result<usize, Event> {
        let mut turn = None;
        loop {
            if !self.handle.may_process() {
                turn = None;
                match self.fence().await {
                    Event::Ready => {}
                    event => return Err(event),
                }
            }
            match deliveries.admit(turn.take(), wanted) {
                Ok(records) => return Ok(records),
                Err(Hold::Paused) => self.status.enter(ShardPhase::Paused),
                Err(Hold::RateLimit) => self.status.enter(ShardPhase::RateLimited),
            }
            turn = self.race(deliveries.turn(wanted)).await?;
        }
    }

    /// Lets a call run to its end. Meanwhile a stop request and the loss of the lease are noted and start deadlines;
    /// `cancelled` fires when the lease is lost or in doubt, or the call takes longer than it may. `None` when a deadline
    /// passed: then the call is dropped.
    pub(super) async fn watch<T>(&mut self, cancelled: &CancellationToken, call: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(call);
        let mut limit = self.handler_timeout.and_then(|limit| Instant::now().checked_add(limit));
        let mut told = false;
        self.overran = false;
        loop {
            tokio::select! {
                biased;
                () = self.handle.lost().cancelled(), if !self.lost => {
                    cancelled.cancel();
                    let event = self.lose();
                    self.note(event);
                }
                outcome = &mut call => return Some(outcome),
                () = self.handle.interrupted(), if !cancelled.is_cancelled() => cancelled.cancel(),
                _ = self.handle.stop_requested(), if !self.stopping && !self.lost => {
                    let event = self.stop();
                    self.note(event);
                }
                () = until(self.deadline) => return None,
                () = until(limit) => {
                    if told {
                        self.overran = true;
                        return None;
                    }
                    tracing::warn!(limit = ?self.handler_timeout, grace = ?self.lease_lost_timeout, "user code takes longer than it may; it is told to stop");
                    told = true;
                    cancelled.cancel();
                    limit = Instant::now().checked_add(self.lease_lost_timeout);
                }
            }
        }
    }
}
