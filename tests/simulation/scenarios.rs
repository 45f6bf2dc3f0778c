//! Runs of one kind, each with a figure to keep, in virtual time: what users of such workers have suffered from.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use shardkeeper::{
    ErrorKind,
    clock::TokioClock,
    local::{CallRates, Config, CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, InitializationInput, ProcessRecordsInput, RecordProcessor},
    random::Randomness,
    retrieval::{Consumer, Retrieval},
    stream::StreamReference,
    task::Spawner,
    testing::{Call, Fate, FaultyLeaseTable, FaultyStream, Network},
    types::{InitialPosition, ShardId, Timestamp},
    worker::{RunReport, Worker, WorkerBuilder, WorkerHandle},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

type Outcome = Result<(), String>;
type Scenario = (&'static str, fn() -> Outcome);

/// All of them, by name.
pub(crate) const ALL: [Scenario; 7] = [
    ("a_blocked_handler_does_not_slow_a_thousand_subscribed_shards", || {
        in_virtual_time(blocked_among_many(1000, Retrieval::FanOut(Consumer::OfApplication)))
    }),
    ("a_blocked_handler_does_not_slow_polled_shards", || in_virtual_time(blocked_among_many(100, Retrieval::Polling))),
    ("sixty_four_shards_are_read_three_seconds_after_the_first_start", || in_virtual_time(first_start(1, 64, Duration::from_secs(3)))),
    // The service describes twenty streams a second, and each is described twice.
    ("a_hundred_streams_are_read_twenty_seconds_after_the_first_start", || in_virtual_time(first_start(100, 2, Duration::from_secs(20)))),
    ("three_applications_share_the_calls_of_a_shard", || in_virtual_time(three_applications())),
    ("a_stream_made_again_is_not_read_with_old_leases", || in_virtual_time(made_again(1))),
    ("streams_made_again_are_not_read_with_old_leases", || in_virtual_time(made_again(3))),
];

/// Runs in a thread of its own, whose time passes as fast as it can.
fn in_virtual_time(scenario: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let outcome = runtime.block_on(scenario);
        runtime.shutdown_background();
        outcome
    });
    thread.join().unwrap_or_else(|_panic| Err("it panicked, see above".to_owned()))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// What handlers got: by stream and shard, how many records, and how late the latest of them was after its put.
#[derive(Debug, Default)]
struct Log {
    shards: BTreeMap<(String, ShardId), (u64, Duration)>,
    records: u64,
    /// The shard whose handler does not return for now.
    blocked: Option<ShardId>,
}

/// Shared by the handlers of a worker.
#[derive(Debug, Clone, Default)]
struct Tally(Arc<(Mutex<Log>, Notify)>);

impl Tally {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many records were processed.
    async fn reached(&self, records: u64, bound: Duration) -> Outcome {
        let reached = async {
            while self.log().records < records {
                self.0.1.notified().await;
            }
        };
        let outcome = timeout(bound, reached).await;
        outcome.map_err(|_| format!("{} of {records} records were processed within {bound:?}", self.log().records))
    }
}

/// Counts; each record says in its payload when it was put.
struct Counting {
    tally: Tally,
    started: Instant,
    shard: Option<(String, ShardId)>,
}

#[async_trait]
impl RecordProcessor for Counting {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        self.shard = Some((input.stream.to_string(), input.shard_id.clone()));
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let shard = self.shard.clone().ok_or("not initialized")?;
        while self.tally.log().blocked.as_ref() == Some(&shard.1) {
            sleep(Duration::from_secs(1)).await;
        }
        let mut log = self.tally.log();
        let (count, latest) = log.shards.entry(shard).or_default();
        for record in input.records {
            let put = Duration::from_millis(u64::from_le_bytes(record.data()[..8].try_into()?));
            *count += 1;
            *latest = (*latest).max(self.started.elapsed().saturating_sub(put));
        }
        log.records += input.records.len() as u64;
        drop(log);
        self.tally.0.1.notify_one();
        Ok(())
    }
}

/// A local stream service with streams of so many shards, in the time of the caller.
struct Site {
    kinesis: LocalKinesis,
    started: Instant,
    streams: Vec<StreamReference>,
    shards: u32,
}

impl Site {
    fn new(streams: u32, shards: u32) -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_767_225_600_000));
        let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(1));
        let streams = (0..streams).map(|number| StreamReference::Name(format!("stream-{number}").parse().expect("a valid name")));
        // They are there when the story begins: how fast they could be made is no part of it.
        kinesis.configure(|config| config.limits.calls = CallRates::off());
        let streams: Vec<_> = streams
            .inspect(|stream| kinesis.create_stream(&CreateStream::provisioned(stream.name(), shards)).expect("there is room"))
            .collect();
        kinesis.configure(|config| config.limits.calls = CallRates::enforced());
        Self { kinesis, started: Instant::now(), streams, shards }
    }

    /// Puts a record of so many bytes into every shard of every stream.
    fn put_everywhere(&self, bytes: usize) {
        let mut payload = vec![0; bytes.max(8)];
        payload[..8].copy_from_slice(&(self.started.elapsed().as_millis() as u64).to_le_bytes());
        let width = u128::MAX / u128::from(self.shards);
        for stream in &self.streams {
            // In the middle of each shard's hash keys, whatever rounding makes of their ends.
            let keys: Vec<u128> = (0..u128::from(self.shards)).map(|shard| shard * width + width / 2).collect();
            for some in keys.chunks(500) {
                let entries = some.iter().map(|key| PutEntry::new("key", payload.clone()).with_explicit_hash_key(*key)).collect();
                let outcomes = self.kinesis.put_records(stream, entries).expect("the stream is there");
                assert!(outcomes.iter().all(Result::is_ok), "the shards have room");
            }
        }
    }

    /// A worker behind a network of this latency.
    fn worker(&self, application: &str, latency: Duration) -> (WorkerBuilder, Tally) {
        let (tally, started) = (Tally::default(), self.started);
        let handlers = tally.clone();
        let factory = move || Counting { tally: handlers.clone(), started, shard: None };
        let network: Arc<dyn Network> =
            Arc::new(move |_: &Call| Fate { request_delay: latency / 2, response_delay: latency / 2, ..Fate::default() });
        let client = FaultyStream::new(Arc::new(self.kinesis.clone()), Arc::clone(&network), Spawner::current(), Duration::from_secs(30));
        let rows = Arc::new(self.kinesis.lease_table(application));
        let table = FaultyLeaseTable::new(rows, network, Spawner::current(), Duration::from_secs(30));
        let first = Worker::builder(application, self.streams[0].to_string(), factory)
            .stream_client(Arc::new(client))
            .lease_table(Arc::new(table))
            .worker_id("w0")
            .randomness(Randomness::seeded(2))
            .spawner(Spawner::current())
            .stop_on_signals(false)
            .initial_position(InitialPosition::TrimHorizon);
        (self.streams[1..].iter().fold(first, |builder, stream| builder.stream(stream.to_string())), tally)
    }
}

/// A worker at work.
struct Working {
    handle: WorkerHandle,
    task: shardkeeper::task::Task<shardkeeper::Result<RunReport>>,
}

impl Working {
    fn begin(builder: WorkerBuilder) -> Result<Self, String> {
        let worker = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { handle: worker.handle(), task: Spawner::current().spawn("worker", worker.run()) })
    }

    async fn end(mut self) -> Outcome {
        self.handle.shutdown();
        let ended = timeout(Duration::from_secs(60), self.task.join()).await;
        let report = ended.map_err(|_| "it did not stop within a minute")?.map_err(|failed| failed.to_string())?;
        let report = report.map_err(|error| format!("{error:#}"))?;
        require(report.times_expelled == 0, || "it lost its leases".to_owned())?;
        let failed: Vec<_> = report.failures().map(|shard| shard.shard_id.to_string()).collect();
        require(failed.is_empty(), || format!("these failed: {failed:?}"))
    }
}

/// One worker, one handler that does not return for minutes: all other shards keep their pace, no lease is lost, and
/// when it returns nothing is missing.
async fn blocked_among_many(shards: u32, retrieval: Retrieval) -> Outcome {
    const ROUNDS: u64 = 32;
    const EVERY: Duration = Duration::from_secs(5);
    // Polled, an idle shard is looked at every second; pushed, its records are there as soon as the network allows.
    let pace = if retrieval == Retrieval::Polling { Duration::from_secs(2) } else { Duration::from_millis(100) };
    let site = Site::new(1, shards);
    let (builder, tally) = site.worker("fleet", Duration::from_millis(20));
    let working = Working::begin(builder.retrieval(retrieval))?;
    site.put_everywhere(1024);
    tally.reached(u64::from(shards), Duration::from_secs(60)).await?;
    let blocked = ShardId::from_index(u64::from(shards) / 2);
    {
        let mut log = tally.log();
        log.blocked = Some(blocked.clone());
        log.shards.clear();
    }
    let began = Instant::now();
    for round in 1..=ROUNDS {
        sleep_until(began + EVERY * round as u32).await;
        site.put_everywhere(1024);
    }
    sleep(pace).await;
    {
        let log = tally.log();
        require(log.shards.len() as u32 == shards - 1 && !log.shards.keys().any(|(_, shard)| *shard == blocked), || {
            format!("{} of {} shards were processed", log.shards.len(), shards - 1)
        })?;
        for ((_, shard), (count, latest)) in &log.shards {
            require(*count == ROUNDS, || format!("{shard} got {count} of {ROUNDS} records"))?;
            require(*latest <= pace, || format!("a record of {shard} came {latest:?} after its put"))?;
        }
    }
    let held = working.handle.status().shards.len() as u32;
    require(held == shards, || format!("{held} of {shards} leases are held"))?;
    tally.log().blocked = None;
    let all = u64::from(shards) * (ROUNDS + 1);
    tally.reached(all, Duration::from_secs(30)).await?;
    working.end().await?;
    let records = tally.log().records;
    require(records == all, || format!("{records} records were processed, of {all}"))
}

/// From nothing to the first record of every shard, with 20 ms to every service and back.
async fn first_start(streams: u32, shards: u32, bound: Duration) -> Outcome {
    let site = Site::new(streams, shards);
    site.put_everywhere(100);
    let (builder, tally) = site.worker("start", Duration::from_millis(20));
    let working = Working::begin(builder)?;
    tally.reached(u64::from(streams * shards), bound).await?;
    working.end().await
}

/// Three applications poll one shard twice a second each, which allows five calls a second: none is starved, all get
/// everything within the longest wait of the pacing, and each adapts so far that at most one call in three seconds is refused.
async fn three_applications() -> Outcome {
    const SECONDS: u64 = 120;
    let site = Site::new(1, 1);
    let workers: Vec<(Working, Tally)> = ["a", "b", "c"]
        .into_iter()
        .map(|application| {
            let (builder, tally) = site.worker(application, Duration::from_millis(20));
            Ok((Working::begin(builder.randomness(Randomness::seeded(u64::from(application.as_bytes()[0]))))?, tally))
        })
        .collect::<Result<_, String>>()?;
    let throttled = |working: &Working| working.handle.status().shards.iter().map(|shard| shard.throttled_calls).sum::<u64>();
    let mut before = Vec::new();
    for second in 0..SECONDS {
        site.put_everywhere(100);
        sleep(Duration::from_secs(1)).await;
        if second == 30 {
            before = workers.iter().map(|(working, _)| throttled(working)).collect();
        }
    }
    for ((working, tally), before) in workers.into_iter().zip(before) {
        tally.reached(SECONDS, Duration::from_secs(5)).await?;
        let refused = throttled(&working) - before;
        require(refused <= SECONDS / 4, || format!("{refused} calls were refused in a minute and a half"))?;
        let slowest = tally.log().shards.values().map(|(_, latest)| *latest).max().unwrap_or_default();
        require(slowest <= Duration::from_secs(8), || format!("a record came {slowest:?} after its put"))?;
        working.end().await?;
    }
    Ok(())
}

/// The streams are deleted and made again under their names while nobody runs: the old progress means nothing in them, and
/// nobody reads a record with it.
async fn made_again(streams: u32) -> Outcome {
    let site = Site::new(streams, 4);
    site.put_everywhere(100);
    let (builder, tally) = site.worker("again", Duration::from_millis(20));
    let working = Working::begin(builder)?;
    tally.reached(u64::from(streams) * 4, Duration::from_secs(10)).await?;
    working.end().await?;
    for stream in &site.streams {
        site.kinesis.delete_stream(stream).map_err(|error| error.to_string())?;
    }
    sleep(Duration::from_secs(60)).await;
    for stream in &site.streams {
        site.kinesis.create_stream(&CreateStream::provisioned(stream.name(), 4)).map_err(|error| error.to_string())?;
    }
    site.put_everywhere(100);
    let (builder, tally) = site.worker("again", Duration::from_millis(20));
    let worker = builder.build().map_err(|error| error.to_string())?;
    let ended = timeout(Duration::from_secs(60), worker.run()).await.map_err(|_| "it went on for a minute")?;
    let error = ended.err().ok_or("it ended as if nothing had happened")?;
    require(error.kind() == ErrorKind::Mismatch, || format!("{error:#}"))?;
    let read = tally.log().records;
    require(read == 0, || format!("{read} records of the new streams were read"))
}
