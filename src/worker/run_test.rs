//! The run loop: signals, leases that wait, the report.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::TokioClock,
    lease::{
        Lease, MemoryLeaseTable,
        coordinator::{Command, Fence, LeaseHandle, Tenure},
    },
    local::{self, CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    random::Randomness,
    types::{Checkpoint, InitialPosition, ShardId, Timestamp},
    worker::WorkerHandle,
};

/// Never returns.
struct Hangs;

#[async_trait]
impl RecordProcessor for Hangs {
    async fn process_records(&mut self, _input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        std::future::pending().await
    }
}

fn worker() -> Worker {
    let clock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000)));
    let kinesis = LocalKinesis::new(local::Config::default(), Arc::<TokioClock>::clone(&clock), Randomness::seeded(7));
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("a new stream");
    let stream: StreamReference = "clicks".parse().expect("valid");
    kinesis.put_record(&stream, PutEntry::new("key", b"1".to_vec()), None).expect("the stream takes it");
    Worker::builder("shop", "clicks", || Hangs)
        .local(&kinesis)
        .initial_position(InitialPosition::TrimHorizon)
        .worker_id("host-1")
        .clock(clock)
        .randomness(Randomness::seeded(8))
        .spawner(Spawner::current())
        .build()
        .expect("valid")
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_stops_the_worker_and_the_second_ends_it_at_once() {
    for signals in [1, 2] {
        let worker = worker();
        let handle = worker.handle();
        let (sender, receiver) = mpsc::channel(4);
        let received = stream::unfold(receiver, |mut r| async move { r.recv().await.map(|()| ((), r)) }).boxed();
        let mut running = Spawner::current().spawn("worker", worker.run_until(received));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(handle.status().shards.iter().any(|s| s.why.contains("processes")), "{:?}", handle.status());
        let told = Instant::now();
        sender.send(()).await.expect("it listens");
        tokio::time::sleep(Duration::from_secs(2)).await;
        if signals == 2 {
            sender.send(()).await.expect("it listens");
        }
        let outcome = running.join().await.expect("no panic");
        if signals == 2 {
            assert_eq!(outcome.expect_err("not done").kind(), ErrorKind::Shutdown);
            assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
        } else {
            assert!(outcome.expect("a clean end").tenures >= 1);
            assert!(told.elapsed() >= Duration::from_secs(30), "the batch in hand gets its time: {:?}", told.elapsed());
        }
    }
}

fn held(counter: u64) -> (HeldLease, mpsc::Receiver<Command>) {
    let identifier = StreamIdentifier::Single("clicks".parse().expect("valid"));
    let lease = Lease { counter, ..Lease::new(&identifier, ShardId::from_index(0), Checkpoint::TrimHorizon) };
    let tenure = Tenure::new(&lease, Fence::new(), CancellationToken::new());
    let (commands, receiver) = mpsc::channel(4);
    (HeldLease { lease, handle: LeaseHandle { tenure, commands } }, receiver)
}

#[tokio::test(start_paused = true)]
async fn a_lease_won_back_does_not_wait_for_ever_for_a_consumer_that_blocks() {
    let patience = Duration::from_secs(10);
    let mut consumers = Consumers {
        contexts: BTreeMap::new(),
        table: Arc::new(MemoryLeaseTable::new()),
        refusal: None,
        running: FuturesUnordered::new(),
        waiting: BTreeMap::new(),
        patience,
        handle: WorkerHandle::new("host-1".parse().expect("valid")),
        ended: Ended::default(),
    };
    // The former consumer blocks its thread: it has a status, and nothing of it moves.
    let (lost, _former) = held(3);
    let clock: crate::clock::SharedClock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(0)));
    let cell = StatusCell::new(&"clicks".parse().expect("valid"), &lost.lease, clock);
    consumers.handle.shared.shards.lock().expect("not poisoned").insert(lost.lease.key.clone(), cell.clone());
    let (won, mut commands) = held(7);
    consumers.start(won);
    assert!(cell.snapshot().why.contains("won back"));
    let started = Instant::now();
    let ends = consumers.patience_ends();
    assert_eq!(ends, Some(started + patience));
    until(ends).await;
    consumers.release_waiting();
    assert!(commands.recv().await.is_none(), "the lease has no consumer any more, which releases it");
    assert!(!cell.snapshot().why.contains("won back") && consumers.waiting.is_empty());
    assert_eq!(consumers.patience_ends(), None);
}

#[test]
fn a_report_keeps_the_last_tenures_and_all_counts() {
    let mut ended = Ended::default();
    let report = |n: u64, ending| ShardReport {
        stream: "clicks".to_owned(),
        shard_id: ShardId::from_index(n),
        failure: (n == 0).then(|| "as told".to_owned()),
        ending,
        records: 2,
        kpl: KplCounts { received: 9, delivered: 4, filtered: 3, quarantined: 2, ..KplCounts::default() },
        throttled_calls: 5,
        replaced_subscriptions: n % 2,
        checkpoint: String::new(),
    };
    ended.push(report(0, ShardEnding::Failed("as told".to_owned())));
    for n in 1..2500 {
        ended.push(report(n, ShardEnding::Surrendered));
    }
    assert_eq!((ended.tenures, ended.records, ended.shards.len()), (2500, 5000, KEPT_TENURES));
    assert_eq!((ended.throttled_calls, ended.replaced_subscriptions), (12_500, 1250));
    let KplCounts { received, delivered, filtered, quarantined, .. } = ended.kpl;
    assert_eq!((received, delivered, filtered, quarantined), (22_500, 10_000, 7500, 5000));
    let kept: Vec<&ShardId> = ended.shards.iter().map(|s| &s.shard_id).collect();
    assert_eq!(*kept[0], ShardId::from_index(0), "a failure outlives what went well");
    assert_eq!((kept[1], kept[KEPT_TENURES - 1]), (&ShardId::from_index(1501), &ShardId::from_index(2499)));
}
