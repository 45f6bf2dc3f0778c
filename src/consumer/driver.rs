//! Runs the actions of the state machine for one tenure of one shard. The only caller of user code.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    ShardDeliveries, ShardOutcome, StreamContext,
    calls::{create, describe, guarded},
    delivery::Wanted,
    flow::Flow,
    state::{Action, Call, Ending, Event, State},
    status::{ShardPhase, StatusCell},
};
use crate::{
    checkpoint::{Checkpointer, write_at_interval},
    error::{Error, ErrorKind, Result},
    lease::{Lease, coordinator::HeldLease},
    processor::{
        BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, ShardEndedInput, ShutdownRequestedInput,
    },
    retrieval::{
        Access, AutomaticShard, AutomaticSource, Batch, Delivery, Gauge, RecordSource, Unpacking, UnpackingOfShard,
        fan_out::{FanOutSource, Subscriber},
        kpl::Deaggregator,
        polling::{Cursor, PollingSource, ShardReader},
    },
    retry::{Backoff, RetryConfig},
    task::Task,
    types::{Checkpoint, ChildShard},
};

/// Time between looks at a lease that does not say where to begin.
const ROW_POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Waits between attempts to write the end of a shard.
const END_RETRY: RetryConfig = RetryConfig { max_attempts: None, min_delay: Duration::from_millis(100), max_delay: Duration::from_secs(5) };

/// Consumes a shard for as long as its lease is held: from its checkpoint to its end, or until the lease is to move,
/// or is lost. Says in `status` what it is doing.
pub(crate) async fn run_shard(context: StreamContext, held: HeldLease, status: StatusCell) -> ShardOutcome {
    let span = tracing::info_span!("shard", stream = %context.stream, shard_id = %held.lease.shard_id, worker_id = %context.worker);
    Driver::new(context, held, status).run().instrument(span).await
}

struct Driver {
    flow: Flow,
    deliveries: ShardDeliveries,
    context: StreamContext,
    lease: Lease,
    checkpointer: Checkpointer,
    gauge: Gauge,
    automatic: Option<Task<()>>,
    processor: Option<Box<dyn RecordProcessor>>,
    /// In hand, until user code returned `Ok` for all of it.
    batch: Option<Batch>,
    children: Vec<ChildShard>,
    /// Attempts at the call in hand.
    attempts: u32,
    retry: Option<(Backoff, Duration)>,
    /// Why user code stopped, or why the shard cannot be read.
    failure: Option<Error>,
    last_error: String,
}

impl Driver {
    fn new(context: StreamContext, held: HeldLease, status: StatusCell) -> Self {
        let HeldLease { lease, handle } = held;
        let checkpointer = Checkpointer::new(&handle, lease.checkpoint);
        let gauge = match context.access {
            Access::FanOut(_) => Gauge::default(),
            Access::Polling | Access::Automatic(_) => Gauge::with_pause(context.polling.idle_interval),
        };
        let deliveries = context.deliveries.of(context.stream.name(), lease.shard_id.clone());
        status.attach(&checkpointer, &gauge, &deliveries, context.config.handler_timeout);
        Self {
            flow: Flow::new(handle, status, &context.config),
            deliveries,
            context,
            lease,
            checkpointer,
            gauge,
            automatic: None,
            processor: None,
            batch: None,
            children: Vec::new(),
            attempts: 0,
            retry: None,
            failure: None,
            last_error: String::new(),
        }
    }

    async fn run(mut self) -> ShardOutcome {
        let mut action = Action::AwaitParents;
        loop {
            let event = match action {
                Action::AwaitParents => self.parents().await,
                Action::AwaitFence => self.gate().await,
                Action::Call(call) => self.call(call).await,
                Action::AwaitRetry => self.await_retry().await,
                Action::Fetch => self.fetch().await,
                Action::Park => self.park().await,
                Action::CallShutdownRequested => self.shutdown_requested().await,
                Action::Surrender => self.surrender().await,
                Action::WriteEnd => self.write_end().await,
                Action::CallLeaseLost => self.lease_lost().await,
                Action::KeepWaiting => unreachable!("what interrupts a call is noted while it runs, and never returned as its outcome"),
                Action::Finish(ending) => return self.finish(ending),
            };
            let step = self.flow.state.on(event);
            (self.flow.state, action) = step.unwrap_or_else(|| panic!("{event:?} cannot happen in {:?}", self.flow.state));
        }
    }

    async fn parents(&mut self) -> Event {
        // A shard that was begun had finished parents then.
        if self.lease.parents.is_empty() || matches!(self.lease.checkpoint, Checkpoint::Sequence(_)) {
            return Event::ParentsFinished;
        }
        self.flow.status.enter(ShardPhase::WaitingForParents { parents: self.lease.parents.clone() });
        let handle = self.flow.handle.clone();
        match self.flow.race(handle.parents_finished(self.context.config.parent_poll_interval)).await {
            Ok(Ok(())) => Event::ParentsFinished,
            Ok(Err(_lost)) => Event::LeaseLost,
            Err(event) => event,
        }
    }

    /// Waits until the call that is due may be made: by the fence, and what is delivered also by the worker's handle.
    async fn gate(&mut self) -> Event {
        let wanted = match (self.flow.state, &self.batch) {
            (State::Gate { call: Call::Process, again: false }, Some(batch)) => Wanted::UpTo(batch.records().len()),
            (State::Gate { call: Call::Process, again: true }, Some(batch)) => Wanted::Again(batch.records().len()),
            (State::Gate { call: Call::ShardEnded, .. }, _) => Wanted::End,
            _ => return self.flow.fence().await,
        };
        match (self.flow.admission(&self.deliveries, wanted).await, &mut self.batch) {
            (Ok(records), Some(batch)) => {
                batch.divide(records);
                Event::Ready
            }
            (Ok(_), None) => Event::Ready,
            (Err(event), _) => event,
        }
    }

    async fn call(&mut self, call: Call) -> Event {
        self.attempts += 1;
        let outcome = match call {
            Call::Initialize => self.initialize().await,
            Call::Process => self.process().await,
            Call::ShardEnded => self.shard_ended().await,
        };
        if call == Call::Process && !matches!(outcome, Some(Ok(()))) {
            self.checkpointer.refuse();
        }
        match outcome {
            None => {
                self.dropped(call);
                Event::DeadlinePassed
            }
            Some(Ok(())) => {
                // What a call did whose lease was lost meanwhile does not count.
                if call == Call::Process
                    && !matches!(self.flow.state, State::Abandoning { .. })
                    && let Some(batch) = self.batch.take()
                {
                    self.checkpointer.acknowledge(batch.last());
                    self.flow.status.processed(batch.records().len());
                    self.batch = batch.rest();
                    if self.batch.is_none() {
                        self.flow.status.in_hand(None);
                    }
                }
                if self.attempts > 1 {
                    self.flow.status.set_failure(None);
                }
                self.attempts = 0;
                self.retry = None;
                Event::Succeeded
            }
            Some(Err(error)) => self.failed(call, error),
        }
    }

    async fn initialize(&mut self) -> Option<Result<(), BoxError>> {
        self.flow.status.enter(ShardPhase::Initializing);
        if self.flow.source.is_none() {
            // A lease that does not say where to begin is reported, and looked at again, where it is read.
            self.flow.source = self.open().ok();
        }
        if self.processor.is_none() {
            match create(&*self.context.factory) {
                Ok(processor) => self.processor = Some(processor),
                Err(error) => return Some(Err(error)),
            }
        }
        if self.automatic.is_none()
            && let Some(interval) = self.context.config.checkpoint_interval
        {
            let write = write_at_interval(self.checkpointer.clone(), interval, self.context.random.clone());
            self.automatic = Some(self.context.spawner.spawn("checkpoint", write.in_current_span()));
        }
        let processor = self.processor.as_mut().expect("made above");
        let input = InitializationInput {
            stream: &self.context.stream,
            shard_id: &self.lease.shard_id,
            checkpoint: self.lease.checkpoint,
            pending_checkpoint: self.lease.pending.as_ref(),
            fencing_token: self.flow.handle.fencing_token(),
        };
        self.flow.watch(&CancellationToken::new(), guarded(processor.initialize(input))).await
    }

    /// Begins to fetch, so that the first batch is there when the processor is ready.
    ///
    /// # Errors
    /// `InvalidData` when the lease does not say where.
    fn open(&self) -> Result<Box<dyn RecordSource>> {
        let cursor = Cursor::starting_at(&self.lease, self.context.clock.now())?;
        let StreamContext { client, stream, polling, access, fan_out, unpacking, budget, random, spawner, .. } = self.context.clone();
        let Unpacking { policy, quarantine } = unpacking;
        let deaggregator = Deaggregator::new(policy, self.lease.hash_key_range).resuming_after(cursor.processed());
        let unpacking = UnpackingOfShard { deaggregator, quarantine };
        let (shard_id, budget, gauge) = (self.lease.shard_id.clone(), budget.shard(), self.gauge.clone());
        let subscriber = access.registration().cloned().map(|registration| Subscriber {
            client: Arc::clone(&client),
            registration,
            stream: stream.clone(),
            shard_id: shard_id.clone(),
            config: fan_out,
            budget: budget.clone(),
            unpacking: unpacking.clone(),
            random: random.clone(),
            gauge: gauge.clone(),
            spawner: spawner.clone(),
        });
        let reader = ShardReader { client, stream, shard_id, config: polling, budget, unpacking, random, gauge, spawner };
        Ok(match (access, subscriber) {
            (Access::Automatic(choice), Some(subscriber)) => {
                Box::new(AutomaticSource::start(AutomaticShard::new(choice, reader, subscriber), cursor))
            }
            (_, Some(subscriber)) => Box::new(FanOutSource::start(subscriber, cursor)),
            (_, None) => Box::new(PollingSource::start(reader, cursor)),
        })
    }

    /// Sees to it that there is a source: a lease that does not say where to begin is looked at again now and then, since
    /// somebody may mend its row.
    async fn opened(&mut self) -> Result<(), Event> {
        while self.flow.source.is_none() {
            let error = match self.open() {
                Ok(source) => {
                    self.flow.source = Some(source);
                    break;
                }
                Err(error) => error,
            };
            self.gauge.failed(format!("{error:#}"));
            if self.failure.is_none() {
                tracing::error!(%error, "the shard cannot be read, its lease is looked at again");
                self.unreadable(error);
            }
            self.flow.race(tokio::time::sleep(ROW_POLL_INTERVAL)).await?;
            let handle = self.flow.handle.clone();
            match self.flow.race(handle.reread()).await? {
                Ok(row) => self.lease = row,
                Err(error) => tracing::warn!(%error, "cannot look at the lease again"),
            }
        }
        Ok(())
    }

    async fn process(&mut self) -> Option<Result<(), BoxError>> {
        let (Some(batch), Some(processor)) = (&self.batch, &mut self.processor) else {
            return Some(Err("no batch in hand".into()));
        };
        self.flow.status.enter(ShardPhase::Processing { attempt: self.attempts });
        if self.attempts == 1 {
            self.flow.handle.record_bytes(batch.size_bytes());
        }
        self.checkpointer.deliver(batch.last());
        let cancelled = CancellationToken::new();
        let input = ProcessRecordsInput {
            shard_id: &self.lease.shard_id,
            records: batch.records(),
            millis_behind_latest: batch.millis_behind_latest,
            checkpointer: &self.checkpointer,
            attempt: self.attempts,
            cancelled: &cancelled,
            fencing_token: self.flow.handle.fencing_token(),
        };
        self.flow.watch(&cancelled, guarded(processor.process_records(input))).await
    }

    async fn shard_ended(&mut self) -> Option<Result<(), BoxError>> {
        let processor = self.processor.as_mut()?;
        self.flow.status.enter(ShardPhase::Ending);
        let input = ShardEndedInput { shard_id: &self.lease.shard_id, checkpointer: &self.checkpointer };
        self.flow.watch(&CancellationToken::new(), guarded(processor.shard_ended(input))).await
    }

    /// A call has failed: it is repeated after a wait, or the shard stops.
    fn failed(&mut self, call: Call, error: BoxError) -> Event {
        self.flow.status.call_failed();
        self.last_error = describe(&error);
        // What is known of it if the shard leaves this worker before the call succeeds.
        let trouble = self.trouble(call);
        self.flow.status.set_failure(Some(trouble.clone()));
        let (call, attempt, reason) = (call.name(), self.attempts, self.last_error.as_str());
        let mut backoff = match self.retry.take() {
            Some((backoff, _)) => backoff,
            None => self.context.config.processor_retry.backoff(&self.context.random),
        };
        if !matches!(self.flow.state, State::Running(_)) {
            tracing::warn!(call, attempt, reason, "user code failed, its shard is about to leave this worker");
            return Event::Failed;
        }
        if let Some(delay) = backoff.next_delay() {
            tracing::warn!(call, attempt, reason, "user code failed, its call is repeated");
            self.retry = Some((backoff, delay));
            return Event::Failed;
        }
        tracing::error!(call, attempts = attempt, reason, "user code failed for good: the shard stops and keeps its checkpoint");
        self.failure = Some(Error::new(ErrorKind::Processor, format!("stopped {trouble}")));
        Event::Exhausted
    }

    /// A failing call in words: `at checkpoint 4957…: process_records of records 4957… to 4957… failed 3 times, at last:
    /// no such user`.
    fn trouble(&self, call: Call) -> String {
        let batch = match (&self.batch, call) {
            (Some(batch), Call::Process) => match (batch.records().first(), batch.records().last()) {
                (Some(first), Some(last)) if first.sequence_number() != last.sequence_number() => {
                    format!(" of records {} to {}", first.sequence_number(), last.sequence_number())
                }
                (Some(only), _) => format!(" of record {}", only.sequence_number()),
                (None, _) => String::new(),
            },
            _ => String::new(),
        };
        let times = if self.attempts == 1 { "once".to_owned() } else { format!("{} times", self.attempts) };
        format!("at checkpoint {}: {}{batch} failed {times}: {}", self.checkpointer.acknowledged(), call.name(), self.last_error)
    }

    /// A call did not return in time and was dropped.
    fn dropped(&mut self, call: Call) {
        tracing::warn!(call = call.name(), "user code did not return in time and was dropped");
        let limit = self.context.config.handler_timeout.filter(|_| self.flow.overran);
        match (limit, self.flow.state) {
            (Some(limit), State::Running(_) | State::Draining(_)) => {
                self.flow.status.call_failed();
                self.last_error = format!("took longer than consumer.handler_timeout ({limit:?}) and did not return when it was told to");
                tracing::error!(call = call.name(), ?limit, "user code hangs: the shard is given up");
                self.fail(Error::new(ErrorKind::Processor, format!("given up {}", self.trouble(call))));
            }
            _ => {
                self.last_error = "did not return in time and was dropped".to_owned();
                self.flow.status.set_failure(Some(self.trouble(call)));
            }
        }
    }

    fn fail(&mut self, error: Error) {
        self.flow.status.set_failure(Some(format!("{error:#}")));
        self.failure = Some(error);
    }

    fn unreadable(&mut self, error: Error) {
        self.flow.status.set_unreadable(format!("{error:#}"));
        self.failure = Some(error);
    }

    async fn await_retry(&mut self) -> Event {
        self.flow.status.enter(ShardPhase::Retrying { attempts: self.attempts, reason: self.last_error.clone() });
        let delay = self.retry.as_ref().map_or(Duration::ZERO, |(_, delay)| *delay);
        match self.flow.race(tokio::time::sleep(delay)).await {
            Ok(()) => Event::RetryDue,
            Err(event) => event,
        }
    }

    async fn fetch(&mut self) -> Event {
        // Also between the parts of a batch: each call of user code has its own time.
        self.flow.status.enter(ShardPhase::Reading);
        if self.batch.is_some() {
            return Event::BatchReady;
        }
        if let Err(event) = self.opened().await {
            return event;
        }
        loop {
            let delivery = match self.flow.next().await {
                Ok(delivery) => delivery,
                Err(event) => return event,
            };
            let event = match delivery {
                Ok(Delivery::Batch(batch)) => {
                    self.flow.status.in_hand(Some(batch.millis_behind_latest));
                    self.batch = Some(batch);
                    Event::BatchReady
                }
                Ok(Delivery::ShardEnd(children)) => {
                    self.children = children;
                    Event::EndOfShard
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the shard cannot be read, trying on");
                    self.unreadable(error);
                    continue;
                }
            };
            if self.failure.take().is_some() {
                tracing::info!("the shard can be read again");
                self.flow.status.set_failure(None);
            }
            return event;
        }
    }

    async fn park(&mut self) -> Event {
        self.flow.status.enter(ShardPhase::Stopped { reason: self.last_error.clone() });
        self.flow.source = None;
        self.batch = None;
        match self.flow.race(std::future::pending::<std::convert::Infallible>()).await {
            Ok(never) => match never {},
            Err(event) => event,
        }
    }

    async fn shutdown_requested(&mut self) -> Event {
        self.flow.status.enter(ShardPhase::Draining);
        self.batch = None;
        let Some(processor) = &mut self.processor else { return Event::Succeeded };
        let input = ShutdownRequestedInput { shard_id: &self.lease.shard_id, checkpointer: &self.checkpointer };
        match self.flow.watch(&CancellationToken::new(), guarded(processor.shutdown_requested(input))).await {
            None => {
                tracing::warn!(call = "shutdown_requested", "user code did not return in time and was dropped");
                Event::DeadlinePassed
            }
            Some(Ok(())) => Event::Succeeded,
            Some(Err(error)) => {
                self.flow.status.call_failed();
                tracing::warn!(call = "shutdown_requested", reason = describe(&error), "user code failed, the shard moves all the same");
                Event::Failed
            }
        }
    }

    async fn surrender(&mut self) -> Event {
        self.flow.status.enter(ShardPhase::Draining);
        self.stop_working(!matches!(self.flow.state, State::Surrendering { told: false }));
        let last = self.context.config.checkpoint_interval.map(|_| self.checkpointer.acknowledged());
        match self.flow.handle.surrender(last).await {
            Ok(()) => {
                if let Some(last) = last {
                    self.checkpointer.surrendered_at(last);
                }
                Event::Written
            }
            Err(error) => {
                if error.kind() != ErrorKind::LeaseLost {
                    tracing::warn!(%error, "it is unknown whether the lease was given up; it is not used any more");
                }
                Event::LeaseLost
            }
        }
    }

    async fn write_end(&mut self) -> Event {
        self.flow.status.enter(ShardPhase::Ending);
        self.stop_working(true);
        let handle = self.flow.handle.clone();
        let (children, random) = (self.children.clone(), self.context.random.clone());
        let write = async move {
            let mut backoff = END_RETRY.backoff(&random);
            loop {
                match handle.end_shard(children.clone()).await {
                    Ok(()) => return Event::Written,
                    Err(error) if error.kind() == ErrorKind::LeaseLost => return Event::LeaseLost,
                    Err(error) => tracing::warn!(%error, "cannot record the end of the shard, trying again"),
                }
                backoff.wait().await;
            }
        };
        tokio::pin!(write);
        loop {
            match self.flow.race(&mut write).await {
                Ok(Event::Written) => {
                    self.checkpointer.surrendered_at(Checkpoint::ShardEnd);
                    return Event::Written;
                }
                Ok(event) => return event,
                // All records are processed: the end is better written than handed over.
                Err(Event::StopRequested) => {}
                Err(event) => return event,
            }
        }
    }

    /// Before the last write of a tenure. Whatever the processor still has running ends with it, unless it is to be
    /// told first.
    fn stop_working(&mut self, told: bool) {
        self.automatic = None;
        self.flow.source = None;
        self.batch = None;
        if told && let Some(processor) = self.processor.take() {
            // A destructor of user code that panics must not keep the lease from moving.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(processor))));
        }
    }

    async fn lease_lost(&mut self) -> Event {
        self.automatic = None;
        self.batch = None;
        let Some(processor) = &mut self.processor else { return Event::Succeeded };
        if self.flow.state == State::Losing(Ending::Lost) {
            tracing::info!("the lease is lost");
        }
        let call = async {
            processor.lease_lost(LeaseLostInput { shard_id: &self.lease.shard_id }).await;
            Ok(())
        };
        match tokio::time::timeout(self.context.config.lease_lost_timeout, guarded(call)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.flow.status.call_failed();
                tracing::warn!(call = "lease_lost", reason = describe(&error), "user code failed");
            }
            Err(_) => tracing::warn!(call = "lease_lost", "user code did not return in time and was dropped"),
        }
        Event::Succeeded
    }

    fn finish(mut self, ending: Ending) -> ShardOutcome {
        self.flow.status.enter(ShardPhase::Finished);
        // An idle shard that is read again has nothing to deliver that would say so.
        let failure = self.failure.take().filter(|_| !self.flow.status.reads_again());
        match (ending, failure) {
            (Ending::Lost, _) => ShardOutcome::Lost,
            (Ending::Ended, _) => ShardOutcome::Ended,
            (Ending::Surrendered, Some(error)) => ShardOutcome::Failed(error),
            (Ending::Surrendered, None) => ShardOutcome::Surrendered,
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "tests/mod.rs"]
mod tests;
