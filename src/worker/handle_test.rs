//! Pauses and the rate limit of whole workers.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    clock::{SharedClock, TokioClock},
    consumer::ShardPhase,
    local::{self, CreateStream, LocalKinesis, PutEntry},
    random::Randomness,
    task::{Spawner, Task},
    testing::ProcessorLog,
    types::{InitialPosition, Shard, ShardId, StreamName, Timestamp},
    worker::{RunReport, Worker, WorkerBuilder, WorkerStatus},
};

/// Streams in a process, and what was put into them.
struct Scene {
    kinesis: LocalKinesis,
    clock: SharedClock,
    log: ProcessorLog,
    put: u64,
}

struct Running {
    handle: WorkerHandle,
    task: Task<Result<RunReport>>,
}

fn name(stream: &str) -> StreamName {
    stream.parse().expect("valid")
}

fn shard(n: u64) -> ShardId {
    ShardId::from_index(n)
}

impl Scene {
    fn new(streams: &[(&str, u32)]) -> Self {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000)));
        let limits = local::Limits { write_bytes_per_second: None, write_records_per_second: None, ..local::Limits::enforced() };
        let kinesis = LocalKinesis::new(local::Config { limits, ..local::Config::default() }, Arc::clone(&clock), Randomness::seeded(1));
        for (stream, shards) in streams {
            kinesis.create_stream(&CreateStream::provisioned(name(stream), *shards)).expect("created");
        }
        Self { kinesis, clock, log: ProcessorLog::default(), put: 0 }
    }

    /// Puts this many records into each shard of a stream.
    fn put(&mut self, stream: &str, records: u64) {
        let reference = stream.parse().expect("valid");
        let shards = self.kinesis.describe_stream(&reference, None, None).expect("there").shards;
        for shard in shards.iter().filter(|shard| Shard::is_open(shard)) {
            for _ in 0..records {
                let mut entry = PutEntry::new("key", self.put.to_string());
                entry.explicit_hash_key = Some(shard.hash_key_range.start());
                self.put += 1;
                self.kinesis.put_record(&reference, entry, None).expect("the stream takes it");
            }
        }
    }

    fn builder(&self, worker: &str, seed: u64, streams: &[&str]) -> WorkerBuilder {
        let builder = Worker::builder("shop", streams[0], self.log.factory());
        let builder = streams[1..].iter().fold(builder, |builder, stream| builder.stream(stream));
        builder
            .local(&self.kinesis)
            .worker_id(worker)
            .initial_position(InitialPosition::TrimHorizon)
            .randomness(Randomness::seeded(seed))
            .clock(Arc::clone(&self.clock))
            .spawner(Spawner::current())
            .stop_on_signals(false)
    }

    /// The payloads of all records processed, repeats included, in order.
    fn processed(&self) -> Vec<u64> {
        let number = |data: &[u8]| std::str::from_utf8(data).expect("text").parse().expect("a number");
        let mut numbers: Vec<u64> = self.log.processed().iter().map(|record| number(record.data())).collect();
        numbers.sort_unstable();
        numbers
    }

    async fn until_processed(&self, records: u64) {
        for _ in 0..36_000 {
            if self.log.processed().len() as u64 >= records {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("an hour is enough for {records} records, {} were processed", self.log.processed().len());
    }
}

impl Running {
    fn start(builder: WorkerBuilder) -> Self {
        let worker = builder.build().expect("complete");
        Self { handle: worker.handle(), task: Spawner::current().spawn("worker", worker.run()) }
    }

    fn phases(&self) -> BTreeMap<(String, ShardId), ShardPhase> {
        let WorkerStatus { shards, .. } = self.handle.status();
        shards.into_iter().map(|s| ((s.stream, s.shard_id), s.phase)).collect()
    }

    fn paused(&self) -> usize {
        self.phases().values().filter(|phase| **phase == ShardPhase::Paused).count()
    }

    async fn stop(mut self) -> RunReport {
        self.handle.shutdown();
        self.task.join().await.expect("no panic").expect("a clean end")
    }
}

#[tokio::test(start_paused = true)]
async fn ten_shards_share_the_rate_limit_evenly_and_it_holds_within_five_percent() {
    let mut scene = Scene::new(&[("clicks", 10)]);
    scene.put("clicks", 3000);
    let builder = scene.builder("host-1", 2, &["clicks"]).configure(|config| config.records_per_second = Some(200));
    let running = Running::start(builder);
    assert_eq!(running.handle.status().rate_limit, Some(200));
    sleep(Duration::from_secs(10)).await;
    for (limit, ten_seconds) in [(200, 3), (1000, 2), (37, 3)] {
        running.handle.set_rate_limit(Some(limit)).expect("not zero");
        for _ in 0..ten_seconds {
            let before: BTreeMap<_, _> = running.handle.status().shards.into_iter().map(|s| (s.shard_id, s.records)).collect();
            assert_eq!(before.len(), 10);
            sleep(Duration::from_secs(10)).await;
            let of_shards: Vec<u64> = running.handle.status().shards.iter().map(|s| s.records - before[&s.shard_id]).collect();
            let (sum, expected) = (of_shards.iter().sum::<u64>() as f64, 10.0 * f64::from(limit));
            assert!((sum - expected).abs() <= 0.05 * expected, "{sum} records in ten seconds of {limit}/s");
            // One of them may have what was saved up when the limit was changed: 0.4 seconds' worth.
            let share = expected / 10.0;
            let uneven = of_shards.iter().any(|n| (*n as f64 - share).abs() > 0.1 * share + 0.4 * f64::from(limit));
            assert!(!uneven, "{of_shards:?} at {limit}/s");
        }
    }
    running.handle.set_rate_limit(None).expect("no limit");
    assert_eq!(running.handle.status().rate_limit, None);
    scene.until_processed(30_000).await;
    assert_eq!(scene.processed(), (0..30_000).collect::<Vec<_>>());
    running.stop().await.check().expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_is_refused_with_the_fix() {
    let scene = Scene::new(&[("clicks", 1)]);
    let builder = scene.builder("host-1", 2, &["clicks"]);
    let error = builder.configure(|config| config.records_per_second = Some(0)).build().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("records_per_second is 0") && error.message().contains("pause"), "{error}");
    let handle = scene.builder("host-1", 2, &["clicks"]).build().expect("complete").handle();
    assert_eq!(handle.set_rate_limit(Some(0)).expect_err("refused").kind(), ErrorKind::InvalidInput);
    assert_eq!(handle.status().rate_limit, None);
}

#[tokio::test(start_paused = true)]
async fn shards_are_paused_and_resumed_one_by_one_by_stream_and_all_and_start_as_they_were_told() {
    let mut scene = Scene::new(&[("clicks", 3), ("orders", 2)]);
    scene.put("clicks", 10);
    scene.put("orders", 10);
    let worker = scene.builder("host-1", 2, &["clicks", "orders"]).build().expect("complete");
    let handle = worker.handle();
    assert_eq!(handle.pause(&Shards::All), 0, "before it runs it holds none");
    let running = Running { handle: handle.clone(), task: Spawner::current().spawn("worker", worker.run()) };
    sleep(Duration::from_secs(60)).await;
    assert_eq!((running.paused(), scene.processed().len()), (5, 0));
    assert_eq!(scene.log.names(), ["initialize"; 5]);

    assert_eq!(handle.resume(&Shards::Shard(name("clicks"), shard(1))), 1);
    scene.until_processed(10).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((running.paused(), scene.processed().len()), (4, 10));
    assert_eq!(running.phases()[&("clicks".to_owned(), shard(1))], ShardPhase::Idle);

    assert_eq!(handle.resume(&Shards::Stream(name("orders"))), 2);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((running.paused(), scene.processed().len()), (2, 30));
    assert_eq!(handle.pause(&Shards::Stream(name("payments"))), 0);

    // The children of a shard of a paused stream are of that stream.
    handle.pause(&Shards::Stream(name("orders")));
    scene.kinesis.split_shard(&"orders".parse().expect("valid"), &shard(0), 1 << 125).expect("an open shard");
    handle.resume(&Shards::Shard(name("orders"), shard(0)));
    sleep(Duration::from_secs(60)).await;
    scene.put("orders", 5);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((running.paused(), scene.processed().len()), (5, 30), "{:?}", running.phases());

    assert_eq!(handle.resume(&Shards::All), 6);
    scene.until_processed(65).await;
    assert_eq!(scene.processed(), (0..65).collect::<Vec<_>>());
    running.stop().await.check().expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_keeps_its_leases_and_stops_at_once() {
    let mut scene = Scene::new(&[("clicks", 4)]);
    scene.put("clicks", 10);
    let running = Running::start(scene.builder("host-1", 2, &["clicks"]));
    scene.until_processed(40).await;
    running.handle.pause(&Shards::All);
    scene.put("clicks", 10);
    // Many times as long as a lease lasts without being renewed.
    sleep(Duration::from_secs(3600)).await;
    let status = running.handle.status();
    assert_eq!((running.paused(), status.shards.len()), (4, 4));
    assert!(status.shards.iter().all(|s| s.millis_behind_latest >= Some(3_598_000)), "{status:?}");
    assert_eq!(scene.log.names().iter().filter(|call| **call == "initialize").count(), 4, "no lease was lost");
    let stopped = Instant::now();
    let report = running.stop().await;
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
    report.check().expect("all is well");
    assert_eq!((report.records, report.kpl.received), (40, 80), "what was fetched is for the next one");

    let next = Running::start(scene.builder("host-2", 3, &["clicks"]));
    scene.until_processed(80).await;
    assert_eq!(scene.processed(), (0..80).collect::<Vec<_>>());
    next.stop().await.check().expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn a_paused_shard_that_moves_is_read_by_its_new_owner_unless_it_is_paused_there() {
    let mut scene = Scene::new(&[("clicks", 4)]);
    let first = Running::start(scene.builder("host-1", 2, &["clicks"]));
    sleep(Duration::from_secs(30)).await;
    first.handle.pause(&Shards::All);
    scene.put("clicks", 10);
    sleep(Duration::from_secs(30)).await;
    assert_eq!((first.paused(), scene.processed().len()), (4, 0));
    let second = Running::start(scene.builder("host-2", 3, &["clicks"]));
    second.handle.pause(&Shards::Shard(name("clicks"), shard(0)));
    sleep(Duration::from_secs(60)).await;
    let held = second.phases();
    let (paused, read) = (second.paused(), held.len() - second.paused());
    assert_eq!((first.paused(), held.len()), (2, 2), "the fleet is as even as any");
    assert_eq!(scene.processed().len(), 10 * read);
    assert_eq!(paused, usize::from(held.contains_key(&("clicks".to_owned(), shard(0)))));
    assert_eq!(scene.log.names().iter().filter(|call| **call == "initialize").count(), 6, "nothing moves but two shards");
    first.handle.resume(&Shards::All);
    second.handle.resume(&Shards::All);
    scene.until_processed(40).await;
    assert_eq!(scene.processed(), (0..40).collect::<Vec<_>>());
    first.stop().await.check().expect("all is well");
    second.stop().await.check().expect("all is well");
}
