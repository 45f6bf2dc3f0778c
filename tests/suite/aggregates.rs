//! Aggregates of the Kinesis Producer Library, from the local stream through whole workers, in virtual time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shardkeeper::{
    BoxError, InitialPosition, ProcessRecordsInput, Record, RecordProcessor, Worker, async_trait,
    clock::{SharedClock, TokioClock},
    local::{self, CreateStream, LocalKinesis, PutEntry},
    random::Randomness,
    retrieval::kpl::{KplCounts, Policy, Quarantine, QuarantineInput, QuarantineReason},
    stream::StreamReference,
    task::Task,
    testing::{Aggregator, Process},
    types::{ShardId, Timestamp},
    worker::{RunReport, WorkerHandle},
};

/// What was processed, and after how many records the processor stands still for ever.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<Record>, Option<usize>)>>);

impl Seen {
    fn with<T>(&self, f: impl FnOnce(&mut (Vec<Record>, Option<usize>)) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn texts(&self) -> Vec<String> {
        self.with(|(records, _)| records.iter().map(|r| String::from_utf8_lossy(r.data()).into_owned()).collect())
    }

    fn stop_after(&self, records: Option<usize>) {
        self.with(|(_, stop)| *stop = records);
    }

    async fn until(&self, records: usize) {
        let enough = async {
            while self.with(|(seen, _)| seen.len()) < records {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), enough).await.expect("an hour is enough");
    }
}

/// Checkpoints at every record.
struct OneByOne(Seen);

#[async_trait]
impl RecordProcessor for OneByOne {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        for record in input.records {
            if self.0.with(|(seen, stop)| stop.is_some_and(|stop| seen.len() >= stop)) {
                std::future::pending::<()>().await;
            }
            self.0.with(|(seen, _)| seen.push(record.clone()));
            input.checkpointer.checkpoint_at(record).await?;
        }
        Ok(())
    }
}

struct Scene {
    kinesis: LocalKinesis,
    stream: StreamReference,
    clock: SharedClock,
    seen: Seen,
}

struct Running {
    handle: WorkerHandle,
    process: Process,
    task: Task<shardkeeper::Result<RunReport>>,
}

impl Running {
    async fn stop(mut self) -> RunReport {
        self.handle.shutdown();
        self.task.join().await.expect("it is not killed").expect("it ends well")
    }
}

impl Scene {
    fn new() -> Self {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000)));
        let kinesis = LocalKinesis::new(local::Config::default(), Arc::clone(&clock), Randomness::seeded(1));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("a new stream");
        Self { kinesis, stream: "clicks".parse().expect("valid"), clock, seen: Seen::default() }
    }

    fn put(&self, entry: impl Into<PutEntry>) {
        self.kinesis.put_record(&self.stream, entry.into(), None).expect("the stream takes it");
    }

    fn put_aggregate(&self, texts: &[&str]) {
        let mut aggregator = Aggregator::default();
        texts.iter().for_each(|text| aggregator.add("key", text));
        self.put(aggregator.finish());
    }

    fn start(&self, name: &str, change: impl FnOnce(shardkeeper::WorkerBuilder) -> shardkeeper::WorkerBuilder) -> Running {
        let process = Process::new();
        let seen = self.seen.clone();
        let builder = Worker::builder("aggregates", "clicks", move || OneByOne(seen.clone()))
            .local(&self.kinesis)
            .initial_position(InitialPosition::TrimHorizon)
            .configure(|config| config.consumer.checkpoint_interval = None)
            .worker_id(name)
            .clock(Arc::clone(&self.clock))
            .randomness(Randomness::seeded(2))
            .spawner(process.spawner())
            .stop_on_signals(false);
        let worker = change(builder).build().expect("valid settings");
        let handle = worker.handle();
        let task = process.spawner().spawn("worker", worker.run());
        Running { handle, process, task }
    }
}

/// In = delivered + filtered + quarantined, for each tenure and for the run, and what was processed had been delivered.
fn assert_accounted(report: &RunReport) {
    let adds_up = |kpl: &KplCounts| kpl.received == kpl.delivered + kpl.filtered + kpl.quarantined;
    let mut sum = KplCounts::default();
    for shard in &report.shards {
        assert!(adds_up(&shard.kpl) && shard.records <= shard.kpl.delivered, "{shard}: {:?}", shard.kpl);
        sum.add(&shard.kpl);
    }
    assert_eq!(report.kpl, sum);
    assert!(adds_up(&report.kpl), "{:?}", report.kpl);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_user_record_loses_and_repeats_nothing() {
    let all = ["p0", "a1", "a2", "a3", "b4", "p5", "c6", "c7"];
    for crash in 0..=all.len() {
        let scene = Scene::new();
        scene.put(PutEntry::new("key", "p0"));
        scene.put_aggregate(&["a1", "a2", "a3"]);
        scene.put_aggregate(&["b4"]);
        scene.put(PutEntry::new("key", "p5"));
        scene.put_aggregate(&["c6", "c7"]);

        scene.seen.stop_after(Some(crash));
        let first = scene.start("host-1", |builder| builder);
        scene.seen.until(crash).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.process.kill();
        assert_eq!(scene.seen.texts(), all[..crash]);

        scene.seen.stop_after(None);
        let second = scene.start("host-2", |builder| builder);
        scene.seen.until(all.len()).await;
        scene.put(PutEntry::new("key", "later"));
        scene.seen.until(all.len() + 1).await;
        let status = second.handle.status();
        let report = second.stop().await;
        assert_eq!(scene.seen.texts(), [&all[..], &["later"]].concat(), "crashed after {crash}");
        assert_eq!(report.records as usize, all.len() + 1 - crash);
        assert_eq!(status.shards[0].kpl.delivered, report.records, "what was processed before is not counted again");
        assert_accounted(&report);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_split_an_aggregate_of_both_children_arrives_in_full() {
    let scene = Scene::new();
    let worker = scene.start("host-1", |builder| builder);
    scene.put(PutEntry::new("key", "before"));
    scene.seen.until(1).await;
    scene.kinesis.split_shard(&scene.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    tokio::time::sleep(Duration::from_secs(60)).await;
    // The producer has not looked at the shards since.
    let mut aggregator = Aggregator::default();
    aggregator.add_with_explicit_hash_key("key", 1, "lower");
    aggregator.add_with_explicit_hash_key("key", u128::MAX, "upper");
    scene.put(aggregator.finish());
    scene.seen.until(3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let report = worker.stop().await;
    assert_eq!(scene.seen.texts(), ["before", "lower", "upper"]);
    assert_accounted(&report);
    let KplCounts { aggregates, received, delivered, .. } = report.kpl;
    assert_eq!((report.tenures, aggregates, received, delivered), (3, 1, 3, 3), "the shard that has ended counts too");
}

/// Refuses twice, panics once, and then keeps.
#[derive(Debug, Clone, Default)]
struct Bucket(Arc<Mutex<Kept>>);

/// Calls, and what was kept.
type Kept = (u32, Vec<(QuarantineReason, Record)>);

#[async_trait]
impl Quarantine for Bucket {
    async fn keep(&self, input: QuarantineInput<'_>) -> Result<(), BoxError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        match state.0 {
            1 | 2 => Err("the bucket is not there".into()),
            3 => panic!("no bucket"),
            _ => {
                assert_eq!(input.shard_id, &ShardId::from_index(0));
                state.1.extend(input.records.iter().map(|q| (q.reason, q.record.clone())));
                Ok(())
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_kept_before_anything_that_follows_is_delivered() {
    let scene = Scene::new();
    let quarantine = Bucket::default();
    scene.put(PutEntry::new("key", &b"\xf3\x89\x9a\xc2 is no aggregate, though it begins as one"[..]));
    scene.put_aggregate(&["a", "b"]);
    let worker = scene.start("host-1", |builder| builder.quarantine(quarantine.clone()));
    while quarantine.0.lock().unwrap_or_else(PoisonError::into_inner).1.is_empty() {
        assert_eq!(scene.seen.texts(), [""; 0], "it is held back first");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.seen.until(2).await;
    let counts = worker.handle.status().shards[0].kpl;
    assert_eq!((counts.received, counts.delivered, counts.quarantined, counts.filtered), (3, 2, 1, 0));
    let report = worker.stop().await;
    assert_accounted(&report);
    assert_eq!((report.kpl, report.shards[0].kpl), (counts, counts));
    assert_eq!(scene.seen.texts(), ["a", "b"]);
    let held = quarantine.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
    assert_eq!(held.len(), 1);
    assert!(matches!(held[0].0, QuarantineReason::Malformed(_)));
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_leaves_out_is_in_the_report_after_the_shard_has_gone() {
    let scene = Scene::new();
    let worker = scene.start("host-1", |builder| builder.configure(|config| config.deaggregation = Some(Policy::DeliverInRange)));
    scene.kinesis.split_shard(&scene.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut aggregator = Aggregator::default();
    aggregator.add_with_explicit_hash_key("key", 1, "lower");
    aggregator.add_with_explicit_hash_key("key", u128::MAX, "upper");
    let mut aggregate = PutEntry::from(aggregator.finish());
    aggregate.explicit_hash_key = Some(1);
    scene.put(aggregate);
    scene.seen.until(1).await;
    // The shard that got it is no longer held when the worker stops.
    scene.kinesis.merge_shards(&scene.stream, &ShardId::from_index(1), &ShardId::from_index(2)).expect("neighbours");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(worker.handle.status().shards.iter().all(|shard| shard.kpl.received == 0));
    let report = worker.stop().await;
    assert_accounted(&report);
    assert_eq!((report.kpl.received, report.kpl.delivered, report.kpl.filtered, report.records), (2, 1, 1, 1));
    assert_eq!(scene.seen.texts(), ["lower"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_divides_aggregates_and_a_crash_in_between_loses_and_repeats_nothing() {
    let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let scene = Scene::new();
    texts.chunks(20).for_each(|chunk| scene.put_aggregate(&chunk.iter().map(String::as_str).collect::<Vec<_>>()));
    let slowly = |builder: shardkeeper::WorkerBuilder| builder.configure(|config| config.records_per_second = Some(5));
    let mut done = 0;
    for name in ["host-1", "host-2", "host-3"] {
        let worker = scene.start(name, slowly);
        scene.seen.until(done + 13).await;
        done = scene.seen.texts().len();
        tokio::time::sleep(Duration::from_millis(1)).await;
        worker.process.kill();
    }
    let last = scene.start("host-4", slowly);
    scene.seen.until(100).await;
    assert_accounted(&last.stop().await);
    assert_eq!(scene.seen.texts(), texts);
}

#[tokio::test(start_paused = true)]
async fn switched_off_an_aggregate_is_the_record_that_it_is() {
    let scene = Scene::new();
    scene.put_aggregate(&["a", "b"]);
    let worker = scene.start("host-1", |builder| builder.configure(|config| config.deaggregation = None));
    scene.seen.until(1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    worker.stop().await;
    scene.seen.with(|(records, _)| {
        assert_eq!(records.len(), 1);
        assert!(!records[0].is_aggregated() && records[0].data().starts_with(b"\xf3\x89\x9a\xc2"));
    });
}

#[test]
fn a_quarantine_that_nobody_keeps_is_refused() {
    let kinesis = LocalKinesis::in_memory();
    let builder = Worker::builder("aggregates", "clicks", || OneByOne(Seen::default())).local(&kinesis);
    let error = builder.configure(|config| config.deaggregation = Some(Policy::Quarantine)).build().expect_err("nobody keeps it");
    assert!(error.message().contains("quarantine(..)"), "{error}");
}
