//! A shard consumer on the local stream, a lease whose writer is played by the test, and a processor that does as told.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{SharedClock, TokioClock},
    consumer::{Config, Deliveries, ShardOutcome, ShardPhase, Shards, StatusCell, StreamContext, run_shard},
    error::{Error, ErrorKind, Result},
    lease::{
        Lease,
        coordinator::{Command, Fence, HeldLease, LeaseHandle, StopRequest, Tenure},
    },
    local::{self, CreateStream, LocalKinesis, PutEntry},
    processor::{
        BoxError, InitializationInput, ProcessRecordsInput, RecordProcessor, RecordProcessorFactory, ShardEndedInput,
        ShutdownRequestedInput,
    },
    random::Randomness,
    retrieval::{
        Access, ByteBudget, Choice, Unpacking,
        fan_out::{self, Registration, RegistrationPace},
        polling,
    },
    stream::{
        ConsumerDescription, ConsumerReference, Heard, PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition,
        StreamClient, StreamDescription, StreamReference, Subscription, SubscriptionEvent,
    },
    task::{Spawner, Task},
    testing::ProcessorLog,
    types::{Checkpoint, ConsumerArn, ConsumerName, ShardId, StreamArn, StreamIdentifier, Timestamp},
};

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What one call of user code does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Accept,
    Fail,
    Panic,
    /// Takes this long.
    Sleep(Duration),
    Hang,
    /// Returns when told that the lease is in doubt.
    UntilCancelled,
    /// Checkpoints at the first record of the batch.
    CheckpointFirst,
    /// Checkpoints the batch.
    Checkpoint,
    /// Checkpoints one past the batch, which must be refused, and fails.
    CheckpointAhead,
}

pub(super) type Script = Arc<Mutex<VecDeque<Step>>>;

pub(super) fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    Arc::new(Mutex::new(steps.into_iter().collect()))
}

/// Follows a script per method; what is not scripted is accepted.
#[derive(Clone, Default)]
pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) initialize: Script,
    pub(super) process: Script,
    pub(super) shard_ended: Script,
    pub(super) shutdown: Script,
}

impl Scripts {
    pub(super) fn process(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { process: script(steps), ..Self::default() }
    }
}

fn next(script: &Script) -> Step {
    script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Step::Accept)
}

async fn act(step: Step, cancelled: Option<&CancellationToken>) -> std::result::Result<(), BoxError> {
    match step {
        Step::Fail => return Err("the database is down".into()),
        Step::Panic => panic!("index out of range"),
        Step::Sleep(span) => tokio::time::sleep(span).await,
        Step::Hang => std::future::pending().await,
        Step::UntilCancelled => match cancelled {
            Some(cancelled) => cancelled.cancelled().await,
            None => std::future::pending().await,
        },
        Step::Accept | Step::CheckpointFirst | Step::Checkpoint | Step::CheckpointAhead => {}
    }
    Ok(())
}

struct Scripted(Scripts);

#[async_trait]
impl RecordProcessor for Scripted {
    async fn initialize(&mut self, _input: InitializationInput<'_>) -> std::result::Result<(), BoxError> {
        act(next(&self.0.initialize), None).await
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> std::result::Result<(), BoxError> {
        let step = next(&self.0.process);
        match step {
            Step::CheckpointFirst => input.checkpointer.checkpoint_at(&input.records[0]).await?,
            Step::Checkpoint => input.checkpointer.checkpoint().await?,
            Step::CheckpointAhead => {
                let ahead = input.records[input.records.len() - 1].sequence_number().next();
                input.checkpointer.checkpoint_at(ahead).await?;
            }
            _ => {}
        }
        act(step, Some(input.cancelled)).await
    }

    async fn shard_ended(&mut self, _input: ShardEndedInput<'_>) -> std::result::Result<(), BoxError> {
        act(next(&self.0.shard_ended), None).await
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> std::result::Result<(), BoxError> {
        let step = next(&self.0.shutdown);
        if matches!(step, Step::Checkpoint) {
            input.checkpointer.checkpoint().await?;
        }
        act(step, None).await
    }
}

impl RecordProcessorFactory for Scripts {
    fn create(&self) -> Box<dyn RecordProcessor> {
        assert!(!matches!(next(&self.create), Step::Panic), "no processor today");
        Box::new(Scripted(self.clone()))
    }
}

/// What the lease's writer was asked to write, with when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Checkpoint(Checkpoint),
    Prepared(Checkpoint),
    Surrendered(Option<Checkpoint>),
    Ended(Vec<ShardId>),
}

#[derive(Debug, Default)]
struct Peer {
    written: Vec<(Instant, Written)>,
    /// Writes that are to fail, the next first.
    failures: VecDeque<ErrorKind>,
    parents_finished: bool,
    writes_take: Duration,
    /// The lease's row as somebody has made it.
    row: Option<Lease>,
}

/// A client that fails as told, the next call first; `Internal` panics.
#[derive(Debug)]
pub(super) struct Flaky {
    inner: LocalKinesis,
    pub(super) failures: Mutex<VecDeque<ErrorKind>>,
    /// Answers of `GetRecords` that lack their next iterator although the shard goes on.
    pub(super) cut_off: Mutex<u32>,
    /// Iterators that are refused, the next first.
    pub(super) refused_iterators: Mutex<VecDeque<ErrorKind>>,
    /// Answers of `GetRecords` with more records than this never come through.
    pub(super) passable: Mutex<Option<u32>>,
    /// Iterators and subscriptions asked for, also those refused.
    pub(super) calls: Mutex<Vec<(Instant, ShardPosition)>>,
    /// What becomes of the events of subscriptions, the next first; they arrive when nothing is said.
    events: Arc<Mutex<VecDeque<Fault>>>,
    /// Subscriptions open at the moment.
    open: Arc<AtomicUsize>,
    /// Subscriptions are not allowed.
    no_subscriptions: AtomicBool,
}

/// What happens on the way of a subscription's event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It never comes, nor does any after it.
    HalfOpen,
    /// An error comes in its place.
    Broken(ErrorKind),
    /// The subscription ends before it.
    Ended,
    /// It comes without continuation and children, although the shard goes on.
    CutOff,
}

/// A subscription whose events meet faults.
#[derive(Debug)]
struct FlakySubscription {
    inner: Box<dyn Subscription>,
    events: Arc<Mutex<VecDeque<Fault>>>,
    open: Arc<AtomicUsize>,
}

impl Drop for FlakySubscription {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Subscription for FlakySubscription {
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>> {
        let event = self.inner.next().await;
        let fault = self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match fault {
            None => event,
            Some(Fault::HalfOpen) => std::future::pending().await,
            Some(Fault::Broken(kind)) => Err(Error::new(kind, "as told")),
            Some(Fault::Ended) => Ok(None),
            Some(Fault::CutOff) => Ok(event?.map(|event| SubscriptionEvent { continuation: None, child_shards: Vec::new(), ..event })),
        }
    }

    fn heard(&self) -> Heard {
        self.inner.heard()
    }
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flaky Kinesis in us-east-1")
    }
}

impl Flaky {
    fn fail(&self) -> Result<()> {
        match self.failures.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            // A bug in a client, which must not end more than the call.
            Some(ErrorKind::Internal) => panic!("as told"),
            Some(kind) => Err(Error::new(kind, "as told")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl StreamClient for Flaky {
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription> {
        StreamClient::describe_stream(&self.inner, stream).await
    }

    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        StreamClient::list_shards(&self.inner, stream, filter, page).await
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), position));
        if let Some(kind) = self.refused_iterators.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Err(Error::new(kind, "as told"));
        }
        self.inner.shard_iterator(stream, shard, position).await
    }

    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage> {
        self.fail()?;
        if self.passable.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|passable| limit > passable) {
            tokio::time::sleep(secs(10)).await;
            return Err(Error::new(ErrorKind::Timeout, "the answer stopped in its midst"));
        }
        let mut page = StreamClient::get_records(&self.inner, stream, iterator, limit).await?;
        let mut cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        if *cut_off > 0 {
            *cut_off -= 1;
            page.next_iterator = None;
        }
        Ok(page)
    }

    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        StreamClient::register_stream_consumer(&self.inner, stream, name).await
    }

    async fn describe_stream_consumer(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription> {
        StreamClient::describe_stream_consumer(&self.inner, consumer).await
    }

    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        StreamClient::list_stream_consumers(&self.inner, stream).await
    }

    async fn deregister_stream_consumer(&self, consumer: &ConsumerReference) -> Result<()> {
        StreamClient::deregister_stream_consumer(&self.inner, consumer).await
    }

    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), position));
        if self.no_subscriptions.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::AccessDenied, "not for you"));
        }
        self.fail()?;
        let inner = StreamClient::subscribe_to_shard(&self.inner, consumer, shard, position).await?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(FlakySubscription { inner, events: Arc::clone(&self.events), open: Arc::clone(&self.open) }))
    }
}

pub(super) struct Setup {
    pub(super) scripts: Scripts,
    pub(super) config: Config,
    pub(super) polling: polling::Config,
    pub(super) unpacking: Unpacking,
    pub(super) budget: ByteBudget,
    pub(super) deliveries: Deliveries,
    pub(super) records: u32,
    pub(super) record_bytes: usize,
    pub(super) checkpoint: Checkpoint,
    pub(super) parents: bool,
    /// The lease does not say at which moment to start.
    pub(super) no_start: bool,
    /// Reads by subscription, as the stream consumer `shop`.
    pub(super) fan_out: Option<fan_out::Config>,
    /// Only when it can, and polls when it cannot.
    pub(super) automatic: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            scripts: Scripts::default(),
            config: Config::default(),
            polling: polling::Config::default(),
            unpacking: Unpacking::default(),
            budget: ByteBudget::new(64 * 1024 * 1024),
            deliveries: Deliveries::default(),
            records: 10,
            record_bytes: 0,
            checkpoint: Checkpoint::TrimHorizon,
            parents: false,
            no_start: false,
            fan_out: None,
            automatic: false,
        }
    }
}

pub(super) struct Rig {
    pub(super) kinesis: LocalKinesis,
    pub(super) clock: SharedClock,
    pub(super) stream: StreamReference,
    pub(super) client: Arc<Flaky>,
    pub(super) log: ProcessorLog,
    pub(super) lease: Lease,
    pub(super) tenure: Arc<Tenure>,
    pub(super) status: StatusCell,
    pub(super) task: Task<ShardOutcome>,
    pub(super) deliveries: Deliveries,
    put: u32,
    peer: Arc<Mutex<Peer>>,
    _writer: Task<()>,
    _watch: Option<Task<()>>,
}

impl Setup {
    pub(super) fn process(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { scripts: Scripts::process(steps), ..Self::default() }
    }

    /// Starts a consumer of a stream of one shard that holds `records`.
    pub(super) fn start(self) -> Rig {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000)));
        let kinesis = Self::kinesis(&clock);
        let records = self.records;
        let size = self.record_bytes;
        let mut rig = self.start_on(kinesis, clock);
        for _ in 0..records {
            rig.put(size);
        }
        rig
    }

    /// A stream of one shard.
    fn kinesis(clock: &SharedClock) -> LocalKinesis {
        let limits = local::Limits { write_bytes_per_second: None, write_records_per_second: None, ..local::Limits::enforced() };
        let kinesis = LocalKinesis::new(local::Config { limits, ..local::Config::default() }, Arc::clone(clock), Randomness::seeded(7));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("a new stream");
        kinesis
    }

    /// Starts a consumer of the stream's shard.
    pub(super) fn start_on(self, kinesis: LocalKinesis, clock: SharedClock) -> Rig {
        let stream: StreamReference = "clicks".parse().expect("valid");
        let identifier = StreamIdentifier::Single(stream.name());
        let mut lease = Lease::new(&identifier, ShardId::from_index(0), self.checkpoint);
        lease.start_at = (!self.no_start).then(|| clock.now());
        lease.counter = 3;
        if self.parents {
            lease.parents = [ShardId::from_index(900)].into();
        }
        let fence = Fence::new();
        fence.extend(Instant::now(), Instant::now() + secs(1_000_000));
        let tenure = Tenure::new(&lease, fence, CancellationToken::new());
        let (sender, commands) = mpsc::channel(8);
        let peer = Arc::new(Mutex::new(Peer::default()));
        let spawner = Spawner::current();
        let writer = spawner.spawn("writer", serve(commands, Arc::clone(&tenure), Arc::clone(&peer)));

        let client = Arc::new(Flaky {
            inner: kinesis.clone(),
            failures: Mutex::default(),
            cut_off: Mutex::default(),
            passable: Mutex::default(),
            refused_iterators: Mutex::default(),
            calls: Mutex::default(),
            events: Arc::default(),
            open: Arc::default(),
            no_subscriptions: AtomicBool::default(),
        });
        let log = ProcessorLog::default();
        let shop = || {
            let arn = kinesis.describe_stream_summary(&stream).expect("it was made").description.arn;
            Registration::by_name(
                Arc::<Flaky>::clone(&client),
                arn,
                "shop".parse().expect("valid"),
                Randomness::seeded(12),
                RegistrationPace::default(),
            )
        };
        let choice = self.automatic.then(|| Choice::new(shop(), Randomness::seeded(13)));
        let watch = choice.clone().map(|choice| spawner.spawn("watch", choice.watch()));
        let access = match (choice, &self.fan_out) {
            (Some(choice), _) => Access::Automatic(choice),
            (None, Some(_)) => Access::FanOut(shop()),
            (None, None) => Access::Polling,
        };
        let context = StreamContext {
            worker: "host-1".parse().expect("valid"),
            stream: stream.clone(),
            client: Arc::<Flaky>::clone(&client),
            factory: Arc::new(log.factory_around(self.scripts)),
            config: self.config,
            polling: self.polling,
            access,
            fan_out: self.fan_out.unwrap_or_default(),
            unpacking: self.unpacking,
            budget: self.budget,
            deliveries: self.deliveries.clone(),
            clock: Arc::clone(&clock),
            random: Randomness::seeded(11),
            spawner: spawner.clone(),
        };
        let status = StatusCell::new(&"clicks".parse().expect("valid"), &lease, Arc::clone(&clock));
        let held = HeldLease { lease: lease.clone(), handle: LeaseHandle { tenure: Arc::clone(&tenure), commands: sender } };
        let task = spawner.spawn("shard", run_shard(context, held, status.clone()));
        let deliveries = self.deliveries;
        Rig { kinesis, clock, stream, client, log, lease, tenure, status, task, deliveries, put: 0, peer, _watch: watch, _writer: writer }
    }
}

async fn serve(mut commands: mpsc::Receiver<Command>, tenure: Arc<Tenure>, peer: Arc<Mutex<Peer>>) {
    let with = |f: &mut dyn FnMut(&mut Peer)| f(&mut peer.lock().unwrap_or_else(PoisonError::into_inner));
    while let Some(command) = commands.recv().await {
        let mut delay = Duration::ZERO;
        with(&mut |p| delay = p.writes_take);
        tokio::time::sleep(delay).await;
        let write = |written: Written| {
            let mut outcome = Ok(());
            with(&mut |p| match p.failures.pop_front() {
                _ if tenure.lost.is_cancelled() => outcome = Err(Error::new(ErrorKind::LeaseLost, "gone")),
                Some(kind) => outcome = Err(Error::new(kind, "as told")),
                None => p.written.push((Instant::now(), written.clone())),
            });
            outcome
        };
        match command {
            Command::Checkpoint(checkpoint, reply) => drop(reply.send(write(Written::Checkpoint(checkpoint)))),
            Command::Prepare(pending, reply) => drop(reply.send(write(Written::Prepared(pending.checkpoint)))),
            Command::Surrender(last, reply) => {
                drop(reply.send(write(Written::Surrendered(last))));
                return;
            }
            Command::EndShard(children, reply) => {
                drop(reply.send(write(Written::Ended(children.into_iter().map(|c| c.id).collect()))));
            }
            Command::Reread(reply) => {
                let mut row = None;
                with(&mut |p| row = p.row.clone());
                drop(reply.send(row.map(Box::new).ok_or_else(|| Error::new(ErrorKind::Unavailable, "no row"))));
            }
            Command::ParentsFinished(reply) => {
                let mut finished = false;
                with(&mut |p| finished = p.parents_finished);
                drop(reply.send(Ok(finished)));
            }
        }
    }
}

impl Rig {
    pub(super) fn put(&mut self, bytes: usize) {
        let mut data = self.put.to_string().into_bytes();
        data.resize(data.len().max(bytes), b' ');
        self.put += 1;
        self.kinesis.put_record(&self.stream, PutEntry::new("key", data), None).expect("the stream takes it");
    }

    pub(super) fn put_many(&mut self, records: u32) {
        (0..records).for_each(|_| self.put(0));
    }

    /// Records put.
    pub(super) const fn put_so_far(&self) -> u32 {
        self.put
    }

    /// The numbers of the records of all batches that were accepted.
    pub(super) fn processed(&self) -> Vec<u32> {
        let number = |data: &[u8]| {
            let digits = data.split(|b| *b == b' ').next().unwrap_or_default();
            std::str::from_utf8(digits).expect("text").parse().expect("a number")
        };
        self.log.processed().iter().map(|r| number(r.data())).collect()
    }

    /// The position of the n-th record accepted.
    pub(super) fn position(&self, n: usize) -> Checkpoint {
        self.log.processed()[n].position().into()
    }

    pub(super) fn written(&self) -> Vec<Written> {
        self.peer(|p| p.written.iter().map(|(_, w)| w.clone()).collect())
    }

    pub(super) fn written_at(&self) -> Vec<Instant> {
        self.peer(|p| p.written.iter().map(|(at, _)| *at).collect())
    }

    pub(super) fn fail_writes(&self, kinds: impl IntoIterator<Item = ErrorKind>) {
        self.peer(|p| p.failures.extend(kinds));
    }

    pub(super) fn slow_writes(&self, span: Duration) {
        self.peer(|p| p.writes_take = span);
    }

    /// Somebody writes the lease's row.
    pub(super) fn mend_row(&self, row: Lease) {
        self.peer(|p| p.row = Some(row));
    }

    pub(super) fn finish_parents(&self) {
        self.peer(|p| p.parents_finished = true);
    }

    fn peer<T>(&self, f: impl FnOnce(&mut Peer) -> T) -> T {
        f(&mut self.peer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn fail_reads(&self, kinds: impl IntoIterator<Item = ErrorKind>) {
        self.client.failures.lock().unwrap_or_else(PoisonError::into_inner).extend(kinds);
    }

    pub(super) fn reads_work_again(&self) {
        self.client.failures.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What becomes of the next events of subscriptions.
    pub(super) fn fault_events(&self, faults: impl IntoIterator<Item = Fault>) {
        self.client.events.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Iterators and subscriptions asked for, also those refused, with when.
    pub(super) fn opened(&self) -> Vec<(Instant, ShardPosition)> {
        self.client.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn allow_subscriptions(&self, allow: bool) {
        self.client.no_subscriptions.store(!allow, Ordering::Relaxed);
    }

    /// Subscriptions open at the moment.
    pub(super) fn open_subscriptions(&self) -> usize {
        self.client.open.load(Ordering::Relaxed)
    }

    pub(super) fn phase(&self) -> ShardPhase {
        self.status.snapshot().phase
    }

    /// Waits until user code has returned `Ok` for this many records in all.
    pub(super) async fn until_processed(&self, records: usize) {
        let done = self.log.wait_until(|_| self.log_len() >= records);
        tokio::time::timeout(secs(3600), done).await.expect("an hour is enough");
    }

    fn log_len(&self) -> usize {
        usize::try_from(self.status.snapshot().records).expect("few")
    }

    /// Waits until the method was called `times` times.
    pub(super) async fn until_called(&self, method: &str, times: usize) {
        let called = self.log.wait_until(|calls| calls.iter().filter(|c| c.what.name() == method).count() >= times);
        tokio::time::timeout(secs(3600), called).await.expect("an hour is enough");
    }

    pub(super) fn pause(&self) {
        self.deliveries.set_paused(&Shards::All, true);
    }

    pub(super) fn resume(&self) {
        self.deliveries.set_paused(&Shards::All, false);
    }

    pub(super) fn limit(&self, records_per_second: u32) {
        self.deliveries.set_rate(std::num::NonZeroU32::new(records_per_second));
    }

    pub(super) fn hand_over(&self) {
        self.tenure.request_stop(StopRequest::HandOver { to: "host-2".parse().expect("valid") });
    }

    pub(super) async fn outcome(&mut self) -> ShardOutcome {
        let outcome = tokio::time::timeout(secs(3600), self.task.join()).await.expect("an hour is enough");
        outcome.expect("the consumer does not panic")
    }
}
