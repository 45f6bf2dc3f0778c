//! The worker at work: gained leases become consumer tasks, their outcomes a report.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::{
    RunReport, ShardEnding, ShardReport, Worker,
    housekeeping::Housekeeper,
    registrations,
    runtime::CoordinationThread,
    streams::{self, stream_of},
};
use crate::{
    consumer::{self, ShardOutcome, StatusCell, StreamContext},
    error::{Error, ErrorKind, Result},
    lease::{
        LeaseKey, LeaseTable,
        coordinator::{HeldLease, LeaseCoordinator, Outfit},
    },
    retrieval::{ByteBudget, Retrieval, Unpacking},
    shards::{ShardSync, refuse_stream_of},
    stream::StreamReference,
    task::{Spawner, TaskFailed},
    types::{StreamArn, StreamIdentifier},
};

/// Gained leases that wait for the run loop, which does nothing but start tasks.
const GAINED_QUEUE: usize = 64;

type Outcome = (LeaseKey, StreamReference, StatusCell, std::result::Result<ShardOutcome, TaskFailed>);

/// Consumers by lease. A lease that was lost and won back waits until its former consumer has ended, so that one shard
/// never has two.
struct Consumers {
    contexts: BTreeMap<StreamIdentifier, (StreamArn, StreamContext)>,
    table: Arc<dyn LeaseTable>,
    /// Why the worker cannot go on.
    refusal: Option<Error>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    waiting: BTreeMap<LeaseKey, VecDeque<HeldLease>>,
    handle: super::WorkerHandle,
    ended: Vec<ShardReport>,
}

impl Worker {
    /// Consumes until told to stop: by SIGTERM or ctrl-c (unless switched off), by [`WorkerHandle::shutdown`](super::WorkerHandle::shutdown).
    /// Then finishes the batches in hand, writes checkpoints and hands the leases over.
    ///
    /// Errors of single calls, shards and processors do not end it: they are retried, or stop their shard, and are told
    /// by the status and the report.
    ///
    /// # Errors
    /// What makes it pointless to go on: `NotFound` for a stream, `AccessDenied`, `Mismatch` for a lease table of something
    /// else or a stream that was re-created, `InvalidInput` for a worker id in use.
    ///
    /// # Cancel safety
    /// Dropping the future stops everything at once, as a crash would: leases must expire before others take over.
    pub async fn run(self) -> Result<RunReport> {
        let signals = self.stop_on_signals;
        let handle = self.handle.clone();
        let signalled = async move {
            if signals {
                termination().await;
                tracing::info!("told to stop by a signal");
                handle.shutdown();
            }
            std::future::pending::<()>().await;
        };
        let work = self.work();
        tokio::pin!(signalled);
        tokio::pin!(work);
        tokio::select! {
            biased;
            () = &mut signalled => Err(Error::new(ErrorKind::Internal, "the signal handler ended")),
            outcome = &mut work => outcome,
        }
    }

    async fn work(self) -> Result<RunReport> {
        let worker_id = self.handle.worker_id().clone();
        let (thread, coordination, processing) = match &self.spawner {
            Some(spawner) => (None, spawner.clone(), spawner.clone()),
            None => {
                let (thread, spawner) = CoordinationThread::start().await?;
                (Some(thread), spawner, Spawner::current())
            }
        };
        tracing::info!(%worker_id, application = %self.application, table = %self.table, "worker starts");
        let stop = self.handle.stop.clone();
        let prepared = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(self.report(0, Vec::new(), Some("it was told to stop before it had begun"))),
            prepared = self.prepare(&coordination) => prepared?,
        };

        let (gained_sender, mut gained) = mpsc::channel(GAINED_QUEUE);
        let (scan_sender, scans) = mpsc::channel(1);
        let outfit = Outfit {
            table: Arc::clone(&self.table),
            me: worker_id.clone(),
            config: self.config.lease.clone(),
            clock: Arc::clone(&self.clock),
            random: self.random.clone(),
            spawner: coordination.clone(),
            streams: Arc::new(prepared.iter().map(streams::KnownStream::in_leases).collect()),
            gained: gained_sender,
            scans: scan_sender,
            obstacle: self.handle.shared.obstacle.clone(),
        };
        let (coordinator, coordinator_handle) = LeaseCoordinator::new(outfit);
        *self.handle.shared.coordinator.lock().unwrap_or_else(PoisonError::into_inner) = Some(coordinator_handle.clone());
        let syncs = prepared.iter().map(|stream| self.shard_sync(stream)).collect();
        let obstacle = self.handle.shared.obstacle.clone();
        let interval = self.config.shard_sync_interval;
        let housekeeper = Housekeeper::new(Arc::clone(&self.table), coordinator_handle.clone(), syncs, interval, obstacle);
        let mut coordinating = coordination.spawn("lease coordinator", coordinator.run());
        let mut keeping_house = coordination.spawn("shard housekeeping", housekeeper.run(scans));
        let mut consumers = self.consumers(prepared, processing);

        let mut stopping = false;
        let mut fatal = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    coordinator_handle.stop();
                }
                Some(outcome) = consumers.running.next() => consumers.finish(outcome),
                Some(held) = gained.recv() => {
                    consumers.start(held);
                    if let Some(error) = consumers.refusal.take().filter(|_| fatal.is_none()) {
                        tracing::error!(%worker_id, %error, "worker stops");
                        fatal = Some(error);
                        coordinator_handle.stop();
                    }
                }
                outcome = keeping_house.join(), if fatal.is_none() => {
                    // Ends by itself only when the coordinator is gone.
                    if let Some(error) = flatten(outcome).err() {
                        tracing::error!(%worker_id, %error, "worker stops");
                        fatal = Some(error);
                        coordinator_handle.stop();
                    } else {
                        fatal = fatal.or(flatten(coordinating.join().await).err());
                        break;
                    }
                }
                outcome = coordinating.join() => {
                    fatal = fatal.or(flatten(outcome).err());
                    break;
                }
            }
        }
        // Whatever still runs has lost its lease, or is about to say that it surrendered it.
        while let Ok(held) = gained.try_recv() {
            consumers.start(held);
        }
        while let Some(outcome) = consumers.running.next().await {
            consumers.finish(outcome);
        }
        drop(thread);
        let times_expelled = coordinator_handle.status().times_expelled;
        tracing::info!(%worker_id, "worker stopped");
        match fatal {
            Some(error) => Err(error),
            None => Ok(self.report(times_expelled, consumers.ended, None)),
        }
    }

    /// What must be right before anything starts: the table and the streams.
    async fn prepare(&self, coordination: &Spawner) -> Result<Vec<streams::KnownStream>> {
        let obstacle = self.handle.shared.obstacle.clone();
        let known = streams::resolve(&self.client, &self.streams, &self.random, &obstacle).await?;
        self.register(&known).await?;
        let table = Arc::clone(&self.table);
        let random = self.random.clone();
        let initialize = async move {
            let mut backoff = crate::retry::RetryConfig::default().backoff(&random);
            loop {
                match table.initialize().await {
                    Err(error) if error.is_retryable() => obstacle.met(format_args!("set up {table}"), &error),
                    outcome => return outcome.inspect(|()| obstacle.passed()),
                }
                backoff.wait().await;
            }
        };
        // On the coordination runtime, where the table's connections belong.
        flatten(coordination.spawn("lease table set-up", initialize).join().await)?;
        Ok(known)
    }

    fn shard_sync(&self, stream: &streams::KnownStream) -> ShardSync {
        ShardSync::new(
            Arc::clone(&self.client),
            stream.reference.clone(),
            stream.identifier.clone(),
            self.config.initial_position,
            Arc::clone(&self.clock),
            self.random.clone(),
        )
    }

    /// Finds or registers the stream consumers of streams that are read by enhanced fan-out.
    async fn register(&self, streams: &[streams::KnownStream]) -> Result<()> {
        for stream in streams {
            let retrieval = self.config.retrieval_of(&stream.reference.name());
            let obstacle = &self.handle.shared.obstacle;
            if *retrieval != Retrieval::Polling {
                obstacle.waits(format_args!("the stream consumer of stream {} is looked up, or registered", stream.reference));
            }
            let registration = registrations::resolve(&self.client, stream, &self.application, retrieval, &self.random).await?;
            obstacle.passed();
            if let Some(registration) = registration {
                let registrations = &self.handle.shared.registrations;
                registrations.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.reference.clone(), registration);
            }
        }
        Ok(())
    }

    fn consumers(&self, streams: Vec<streams::KnownStream>, spawner: Spawner) -> Consumers {
        let budget = ByteBudget::new(self.config.max_buffered_bytes);
        let registrations = self.handle.shared.registrations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let contexts = streams
            .into_iter()
            .map(|stream| {
                let registration = registrations.get(&stream.reference).cloned();
                let context = StreamContext {
                    worker: self.handle.worker_id().clone(),
                    stream: stream.reference,
                    client: Arc::clone(&self.client),
                    factory: Arc::clone(&self.factory),
                    config: self.config.consumer.clone(),
                    polling: self.config.polling.clone(),
                    registration,
                    fan_out: self.config.fan_out.clone(),
                    unpacking: Unpacking { policy: self.config.deaggregation, quarantine: self.quarantine.clone() },
                    budget: budget.clone(),
                    random: self.random.clone(),
                    spawner: spawner.clone(),
                    clock: Arc::clone(&self.clock),
                };
                (stream.identifier, (stream.arn, context))
            })
            .collect();
        Consumers {
            contexts,
            table: Arc::clone(&self.table),
            refusal: None,
            running: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
            handle: self.handle.clone(),
            ended: Vec::new(),
        }
    }

    /// `unbegun` tells that the worker is known not to have begun; else it depends on what is in its way.
    fn report(&self, times_expelled: u32, shards: Vec<ShardReport>, unbegun: Option<&str>) -> RunReport {
        let got_to_work = times_expelled > 0 || !shards.is_empty();
        let obstacle = self.handle.shared.obstacle.current().filter(|_| !got_to_work);
        RunReport {
            worker_id: self.handle.worker_id().clone(),
            not_started: obstacle.or_else(|| unbegun.map(str::to_owned)),
            records: shards.iter().map(|s| s.records).sum(),
            times_expelled,
            shards,
        }
    }
}

impl Consumers {
    fn start(&mut self, held: HeldLease) {
        let key = held.lease.key.clone();
        let cells = &self.handle.shared.shards;
        if cells.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key) {
            self.waiting.entry(key).or_default().push_back(held);
            return;
        }
        let Some((arn, context)) = stream_of(&self.contexts, &held.lease).cloned() else {
            // Dropping the handle releases the lease. It belongs to a stream that this worker was not told of.
            tracing::error!(lease_key = %key, "a lease of a stream that this worker does not read; is another application using its table?");
            return;
        };
        // Of two workers that read different streams with one table, the leader finds nothing wrong.
        if let Err(error) = refuse_stream_of(&held.lease, &self.table, &arn) {
            self.refusal.get_or_insert(error);
            return;
        }
        let cell = StatusCell::new(&context.stream, &held.lease, Arc::clone(&context.clock));
        cells.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), cell.clone());
        let (spawner, stream) = (context.spawner.clone(), context.stream.clone());
        let mut task = spawner.spawn("shard consumer", consumer::run_shard(context, held, cell.clone()));
        self.running.push(async move { (key, stream, cell, task.join().await) }.boxed());
    }

    fn finish(&mut self, (key, stream, cell, outcome): Outcome) {
        self.handle.shared.shards.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let ending = match outcome {
            Ok(ShardOutcome::Surrendered) => ShardEnding::Surrendered,
            Ok(ShardOutcome::Ended) => ShardEnding::Ended,
            Ok(ShardOutcome::Lost) => ShardEnding::Lost,
            Ok(ShardOutcome::Failed(error)) => ShardEnding::Failed(format!("{error:#}")),
            Err(failed) => ShardEnding::Failed(failed.to_string()),
        };
        self.ended.push(ShardReport::new(&stream, cell.snapshot(), ending));
        let next = self.waiting.get_mut(&key).and_then(VecDeque::pop_front);
        if let Some(held) = next {
            self.start(held);
        }
    }
}

fn flatten<T>(outcome: std::result::Result<Result<T>, TaskFailed>) -> Result<T> {
    outcome.unwrap_or_else(|failed| Err(Error::new(ErrorKind::Internal, failed.to_string())))
}

/// Waits for SIGTERM or ctrl-c; for ever where handlers cannot be installed.
async fn termination() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            tracing::warn!("cannot install signal handlers; stop the worker by its handle");
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
