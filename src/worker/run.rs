//! The worker at work: gained leases become consumer tasks, their outcomes a report.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    RunReport, ShardEnding, ShardReport, Worker,
    housekeeping::Housekeeper,
    registrations,
    runtime::CoordinationThread,
    streams::{self, KnownStream, stream_of},
};
use crate::{
    clock::until,
    consumer::{self, ShardOutcome, StatusCell, StreamContext},
    error::{Error, ErrorKind, Result},
    lease::{
        LeaseKey, LeaseTable,
        coordinator::{HeldLease, LeaseCoordinator, Outfit},
    },
    retrieval::{Access, ByteBudget, Retrieval, Unpacking, fan_out::RegistrationPace, kpl::KplCounts},
    shards::{ShardSync, refuse_stream_of},
    stream::{StreamReference, TimeLimited},
    task::{Spawner, TaskFailed},
    types::{StreamArn, StreamIdentifier},
};

/// Gained leases that wait for the run loop, which does nothing but start tasks.
const GAINED_QUEUE: usize = 64;

/// Streams whose consumers are looked for at a time.
const REGISTERING: usize = 20;

/// Tenures that a report tells of in full; a worker that runs for months has more.
const KEPT_TENURES: usize = 1000;

/// How each stream is read.
type AccessByStream = BTreeMap<StreamReference, Access>;

type Outcome = (LeaseKey, StreamReference, StatusCell, std::result::Result<ShardOutcome, TaskFailed>);

/// Consumers by lease. A lease that was lost and won back waits until its former consumer has ended, so that one shard
/// never has two.
struct Consumers {
    contexts: BTreeMap<StreamIdentifier, (StreamArn, StreamContext)>,
    table: Arc<dyn LeaseTable>,
    /// Why the worker cannot go on.
    refusal: Option<Error>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    waiting: BTreeMap<LeaseKey, Waiting>,
    /// How long one may wait.
    patience: Duration,
    handle: super::WorkerHandle,
    ended: Ended,
}

/// A lease that was won back, and until when it is kept for its former consumer to end. A call that blocks its thread
/// cannot be dropped, and others can read the shard meanwhile.
struct Waiting {
    held: HeldLease,
    until: Instant,
}

/// What became of the tenures: counted, and the last ones in full.
#[derive(Default)]
struct Ended {
    tenures: u64,
    records: u64,
    kpl: KplCounts,
    throttled_calls: u64,
    replaced_subscriptions: u64,
    shards: VecDeque<ShardReport>,
}

impl Ended {
    fn push(&mut self, report: ShardReport) {
        self.tenures += 1;
        self.records += report.records;
        self.kpl.add(&report.kpl);
        self.throttled_calls += report.throttled_calls;
        self.replaced_subscriptions += report.replaced_subscriptions;
        self.shards.push_back(report);
        if self.shards.len() > KEPT_TENURES {
            // Failures are what a report is read for.
            let oldest = self.shards.iter().position(|s| s.failure.is_none()).unwrap_or(0);
            self.shards.remove(oldest);
        }
    }
}

impl Worker {
    /// Consumes until told to stop: by SIGTERM or ctrl-c (unless switched off), by [`WorkerHandle::shutdown`](super::WorkerHandle::shutdown).
    /// Then finishes the batches in hand, writes checkpoints and hands the leases over. A second signal ends it at once, as
    /// dropping the future does.
    ///
    /// Errors of single calls, shards and processors do not end it: they are retried, or stop their shard, and are told
    /// by the status and the report.
    ///
    /// # Errors
    /// What makes it pointless to go on: `NotFound` for a stream, `AccessDenied`, `Mismatch` for a lease table of something
    /// else or a stream that was re-created, `InvalidInput` for a worker id in use. `Shutdown` after a second signal.
    ///
    /// # Cancel safety
    /// Dropping the future stops everything at once, as a crash would: leases must expire before others take over.
    pub async fn run(self) -> Result<RunReport> {
        let signals = if self.stop_on_signals { terminations() } else { stream::pending().boxed() };
        self.run_until(signals).await
    }

    /// Runs until the first signal stops it, or the second ends it.
    async fn run_until(self, mut signals: BoxStream<'static, ()>) -> Result<RunReport> {
        let handle = self.handle.clone();
        let ended = async move {
            if signals.next().await.is_some() {
                tracing::info!("told to stop by a signal; a second one ends the worker at once");
                handle.shutdown();
                if signals.next().await.is_some() {
                    return;
                }
            }
            std::future::pending().await
        };
        let work = self.work();
        tokio::pin!(ended);
        tokio::pin!(work);
        tokio::select! {
            biased;
            () = &mut ended => {
                tracing::warn!("told to stop by a second signal: leases that were not handed over must expire");
                Err(Error::new(ErrorKind::Shutdown, "ended at once by a second signal: leases that were not handed over must expire"))
            }
            outcome = &mut work => outcome,
        }
    }

    async fn work(mut self) -> Result<RunReport> {
        // Whatever it is, none of its calls may last for ever.
        self.client = Arc::new(TimeLimited(Arc::clone(&self.client)));
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
            () = stop.cancelled() => return Ok(self.report(0, Ended::default(), Some("it was told to stop before it had begun"))),
            prepared = self.prepare(&coordination) => prepared?,
        };
        let (prepared, access) = prepared;

        let (gained_sender, mut gained) = mpsc::channel(GAINED_QUEUE);
        let (scan_sender, scans) = mpsc::channel(1);
        let outfit = Outfit {
            table: Arc::clone(&self.table),
            me: worker_id.clone(),
            config: self.config.lease.clone(),
            clock: Arc::clone(&self.clock),
            random: self.random.clone(),
            spawner: coordination.clone(),
            streams: Arc::new(prepared.iter().map(KnownStream::in_leases).collect()),
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
        // Each until the worker stops.
        let watches: Vec<_> = access
            .values()
            .filter_map(|access| match access {
                Access::Automatic(choice) => Some(processing.spawn("stream consumer watch", choice.clone().watch())),
                Access::Polling | Access::FanOut(_) => None,
            })
            .collect();
        let mut consumers = self.consumers(prepared, &access, processing);

        let mut stopping = false;
        let mut fatal = None;
        loop {
            let patience = consumers.patience_ends();
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
                () = until(patience) => consumers.release_waiting(),
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
        drop((thread, watches));
        let times_expelled = coordinator_handle.status().times_expelled;
        tracing::info!(%worker_id, "worker stopped");
        match fatal {
            Some(error) => Err(error),
            None => Ok(self.report(times_expelled, consumers.ended, None)),
        }
    }

    /// What must be right before anything starts: the table, the streams, and how they are read.
    async fn prepare(&self, coordination: &Spawner) -> Result<(Vec<KnownStream>, AccessByStream)> {
        let obstacle = self.handle.shared.obstacle.clone();
        let known = streams::resolve(&self.client, &self.streams, &self.random, &obstacle).await?;
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
        // A stream consumer is billed for: none is registered before it is known that the table can be used.
        let access = self.register(&known).await?;
        Ok((known, access))
    }

    fn shard_sync(&self, stream: &KnownStream) -> ShardSync {
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
    async fn register(&self, streams: &[KnownStream]) -> Result<AccessByStream> {
        let obstacle = &self.handle.shared.obstacle;
        let of_stream = |stream: &KnownStream| self.config.retrieval_of(&stream.reference.name());
        if let Some(first) = streams.iter().find(|stream| *of_stream(stream) != Retrieval::Polling) {
            obstacle.waits(format_args!("the stream consumers of stream {} and others are looked up, or registered", first.reference));
        }
        let pace = RegistrationPace::default();
        let resolving: Vec<_> = streams.iter().map(|stream| self.access_to(stream.clone(), pace.clone())).collect();
        let mut resolving = stream::iter(resolving).buffer_unordered(REGISTERING);
        let mut resolved = BTreeMap::new();
        while let Some(access) = resolving.next().await {
            let (stream, access) = access?;
            if let Some(registration) = access.registration() {
                let registrations = &self.handle.shared.registrations;
                registrations.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.clone(), registration.clone());
            }
            resolved.insert(stream, access);
        }
        obstacle.passed();
        Ok(resolved)
    }

    fn access_to(&self, stream: KnownStream, pace: RegistrationPace) -> BoxFuture<'static, Result<(StreamReference, Access)>> {
        let retrieval = self.config.retrieval_of(&stream.reference.name()).clone();
        let (client, application, random) = (Arc::clone(&self.client), self.application.clone(), self.random.clone());
        async move {
            let access = registrations::resolve(&client, &stream, &application, &retrieval, &random, &pace).await?;
            Ok((stream.reference, access))
        }
        .boxed()
    }

    fn consumers(&self, streams: Vec<KnownStream>, access: &AccessByStream, spawner: Spawner) -> Consumers {
        let budget = ByteBudget::new(self.config.max_buffered_bytes);
        let contexts = streams
            .into_iter()
            .map(|stream| {
                let access = access.get(&stream.reference).cloned().unwrap_or(Access::Polling);
                let context = StreamContext {
                    worker: self.handle.worker_id().clone(),
                    stream: stream.reference,
                    client: Arc::clone(&self.client),
                    factory: Arc::clone(&self.factory),
                    config: self.config.consumer.clone(),
                    polling: self.config.polling.clone(),
                    access,
                    fan_out: self.config.fan_out.clone(),
                    unpacking: Unpacking { policy: self.config.deaggregation, quarantine: self.quarantine.clone() },
                    budget: budget.clone(),
                    deliveries: self.handle.shared.deliveries.clone(),
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
            patience: self.config.consumer.lease_lost_timeout,
            handle: self.handle.clone(),
            ended: Ended::default(),
        }
    }

    /// `unbegun` tells that the worker is known not to have begun; else it depends on what is in its way.
    fn report(&self, times_expelled: u32, ended: Ended, unbegun: Option<&str>) -> RunReport {
        let Ended { tenures, records, kpl, throttled_calls, replaced_subscriptions, shards } = ended;
        let got_to_work = times_expelled > 0 || tenures > 0;
        let obstacle = self.handle.shared.obstacle.current().filter(|_| !got_to_work);
        RunReport {
            worker_id: self.handle.worker_id().clone(),
            not_started: obstacle.or_else(|| unbegun.map(str::to_owned)),
            records,
            kpl,
            throttled_calls,
            replaced_subscriptions,
            times_expelled,
            tenures,
            shards: shards.into(),
        }
    }
}

impl Consumers {
    fn start(&mut self, held: HeldLease) {
        let key = held.lease.key.clone();
        let cells = &self.handle.shared.shards;
        let former = cells.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(former) = former {
            former.won_back(true);
            // One that waited before was lost since, or this one could not have been gained.
            self.waiting.insert(key, Waiting { held, until: Instant::now() + self.patience });
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
        if let Some(Waiting { held, .. }) = self.waiting.remove(&key) {
            self.start(held);
        }
    }

    /// When a lease will have waited long enough for its former consumer.
    fn patience_ends(&self) -> Option<Instant> {
        self.waiting.values().map(|w| w.until).min()
    }

    /// Gives up leases whose former consumer does not end.
    fn release_waiting(&mut self) {
        let now = Instant::now();
        let (overdue, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, w)| w.until <= now);
        self.waiting = waiting;
        // Dropping the handle releases the lease.
        let overdue: BTreeMap<LeaseKey, Waiting> = overdue;
        for key in overdue.keys() {
            tracing::error!(lease_key = %key, "user code still runs that was told of the loss of its lease; the lease won back is released");
            if let Some(former) = self.handle.shared.shards.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
                former.won_back(false);
            }
        }
    }
}

fn flatten<T>(outcome: std::result::Result<Result<T>, TaskFailed>) -> Result<T> {
    outcome.unwrap_or_else(|failed| Err(Error::new(ErrorKind::Internal, failed.to_string())))
}

/// An item per SIGTERM or ctrl-c; none where handlers cannot be installed.
fn terminations() -> BoxStream<'static, ()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(terminate), Ok(interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            tracing::warn!("cannot install signal handlers; stop the worker by its handle");
            return stream::pending().boxed();
        };
        stream::unfold((terminate, interrupt), |(mut terminate, mut interrupt)| async move {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Some(((), (terminate, interrupt)))
        })
        .boxed()
    }
    #[cfg(not(unix))]
    {
        stream::unfold((), |()| async { tokio::signal::ctrl_c().await.is_ok().then_some(((), ())) }).boxed()
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "run_test.rs"]
mod tests;
