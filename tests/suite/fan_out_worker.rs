//! Whole workers that read by enhanced fan-out over the wire, from a server with the service's rules that misbehaves:
//! every record is processed once, and in order.
//!
//! The times of the server and of the worker are short here, so that each fault costs a second or two. None of what is
//! asserted depends on how fast the machine is: a slow one only sees more subscriptions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shardkeeper::{
    InitialPosition, Worker,
    clock::SystemClock,
    lease::MemoryLeaseTable,
    local::{
        Config, CreateStream, FanOut, Limits, LocalKinesis, PutEntry,
        server::{FaultKind, FaultRule, LocalServer},
    },
    random::Randomness,
    retrieval::{Consumer, Retrieval},
    stream::{StreamReference, aws::AwsStreamClient},
    task::{Spawner, Task},
    testing::{ProcessorLog, What},
    types::ShardId,
    worker::{RunReport, WorkerHandle},
};
use tokio::time::{Instant, sleep, timeout};

use crate::rig::{LOOPBACK, sdk_config};

/// Long enough for any machine; only a defect takes it.
const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: usize = 5;

/// A worker, and the server that it reads from.
struct Reading {
    kinesis: LocalKinesis,
    server: LocalServer,
    log: ProcessorLog,
    handle: WorkerHandle,
    worker: Task<shardkeeper::Result<RunReport>>,
    put: usize,
}

impl Reading {
    async fn start(shards: u32, fan_out: FanOut) -> Self {
        let config = Config { limits: Limits::enforced(), fan_out, ..Config::default() };
        let kinesis = LocalKinesis::new(config, Arc::new(SystemClock), Randomness::seeded(1));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), shards)).expect("created");
        let server = LocalServer::bind(LOOPBACK, kinesis.clone()).await.expect("a free port");
        let client = AwsStreamClient::from_builder(sdk_config(&server.endpoint_url()), Default::default());
        let log = ProcessorLog::default();
        let worker = Worker::builder("shop", "clicks", log.factory())
            .stream_client(Arc::new(client))
            .lease_table(Arc::new(MemoryLeaseTable::default()))
            .initial_position(InitialPosition::TrimHorizon)
            .retrieval(Retrieval::FanOut(Consumer::OfApplication))
            .configure(|config| {
                config.fan_out.idle_event_interval = Duration::from_millis(100);
                config.fan_out.silence_timeout = Duration::from_secs(1);
            })
            .stop_on_signals(false)
            .build()
            .expect("complete");
        let handle = worker.handle();
        let worker = Spawner::current().spawn("worker", worker.run());
        Self { kinesis, server, log, handle, worker, put: 0 }
    }

    /// As short as the service's times can be made, so that a successor is not refused for long.
    const fn quick() -> FanOut {
        FanOut {
            subscription_life: Duration::from_secs(300),
            idle_event_interval: Duration::from_millis(100),
            takeover_after: Duration::from_millis(500),
        }
    }

    fn stream() -> StreamReference {
        "clicks".parse().expect("valid")
    }

    /// Puts records, in turn with each key, whose payloads count.
    fn put(&mut self, records: usize) {
        for _ in 0..records {
            let entry = PutEntry::new(format!("key-{}", self.put % KEYS), self.put.to_string());
            self.kinesis.put_record(&Self::stream(), entry, None).expect("put");
            self.put += 1;
        }
    }

    /// Waits until everything put is processed, and looks whether it was processed once and in order.
    async fn catch_up(&self) {
        let count = |what: &What| if let What::ProcessRecords { records, .. } = what { records.len() } else { 0 };
        let done = self.log.wait_until(|calls| calls.iter().map(|call| count(&call.what)).sum::<usize>() >= self.put);
        if timeout(PATIENCE, done).await.is_err() {
            panic!("{} of {} records: {:#?}", self.log.processed().len(), self.put, self.handle.status());
        }
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for record in self.log.processed() {
            let number = String::from_utf8_lossy(record.data()).parse().expect("a number");
            by_key.entry(record.partition_key().to_owned()).or_default().push(number);
        }
        for (key, numbers) in by_key {
            let first = numbers[0] % KEYS;
            let expected: Vec<usize> = (0..self.put).filter(|number| number % KEYS == first).collect();
            assert_eq!(numbers, expected, "{key}");
        }
    }

    /// Has the next matching thing go wrong, and waits until it has.
    async fn suffer(&self, kind: FaultKind) {
        self.suffer_rule(FaultRule::new(kind).stream("clicks").count(1)).await;
    }

    async fn suffer_rule(&self, rule: FaultRule) {
        let id = self.server.faults().add(rule.clone()).expect("valid");
        let deadline = Instant::now() + PATIENCE;
        while self.server.faults().list().iter().any(|fault| fault.id == id && Some(fault.fired) < rule.count) {
            assert!(Instant::now() < deadline, "never happened: {rule:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(mut self) {
        self.catch_up().await;
        self.handle.shutdown();
        timeout(PATIENCE, self.worker.join()).await.expect("it stops").expect("no panic").expect("a clean end");
        assert_eq!(self.log.processed().len(), self.put, "once");
    }
}

#[tokio::test]
async fn a_subscription_that_freezes_is_replaced_and_nothing_is_lost_or_repeated() {
    let mut reading = Reading::start(2, Reading::quick()).await;
    for _ in 0..3 {
        reading.put(20);
        reading.catch_up().await;
        reading.suffer(FaultKind::FreezeSubscription).await;
        reading.put(20);
        reading.catch_up().await;
    }
    // In the midst of a burst, too.
    reading.put(20);
    reading.suffer(FaultKind::FreezeSubscription).await;
    reading.stop().await;
}

#[tokio::test]
async fn whatever_exception_ends_a_subscription_it_goes_on_where_it_was() {
    let mut reading = Reading::start(1, Reading::quick()).await;
    for error in [
        "InternalFailureException",
        "KMSThrottlingException",
        "LimitExceededException",
        "ResourceInUseException",
        "ResourceNotFoundException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "KMSOptInRequired",
        "AccessDeniedException",
        "ValidationException",
        "AnExceptionOfTomorrow",
    ] {
        reading.put(10);
        reading.catch_up().await;
        reading.suffer(FaultKind::CutSubscription { error: Some(error.to_owned()) }).await;
        reading.put(10);
        reading.catch_up().await;
    }
    reading.stop().await;
}

#[tokio::test]
async fn connections_that_break_off_lose_and_repeat_nothing() {
    let mut reading = Reading::start(2, Reading::quick()).await;
    for round in 0..4 {
        reading.put(20);
        reading.catch_up().await;
        if round % 2 == 0 {
            reading.put(20);
        }
        // A running subscription, and then the next call for another.
        let subscribe = |kind| FaultRule::new(kind).operation("SubscribeToShard").stream("clicks").count(1);
        let next_call = if round < 2 { subscribe(FaultKind::ConnectionReset) } else { subscribe(FaultKind::AnswerLost) };
        tokio::join!(reading.suffer(FaultKind::CutSubscription { error: None }), reading.suffer_rule(next_call));
        reading.put(20);
        reading.catch_up().await;
    }
    reading.stop().await;
}

#[tokio::test]
async fn subscriptions_that_end_every_three_seconds_hand_over_without_a_gap() {
    // The service's own five seconds before a successor may come hold.
    let fan_out =
        FanOut { subscription_life: Duration::from_secs(3), idle_event_interval: Duration::from_millis(100), ..FanOut::default() };
    let mut reading = Reading::start(2, fan_out).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        reading.put(5);
        sleep(Duration::from_millis(50)).await;
    }
    reading.stop().await;
}

#[tokio::test]
async fn a_reshard_under_way_keeps_the_order_of_every_key() {
    let mut reading = Reading::start(2, Reading::quick()).await;
    reading.put(50);
    reading.kinesis.split_shard(&Reading::stream(), &ShardId::from_index(0), 1 << 125).expect("split");
    reading.put(50);
    reading.catch_up().await;
    reading.kinesis.merge_shards(&Reading::stream(), &ShardId::from_index(3), &ShardId::from_index(1)).expect("merge");
    reading.suffer(FaultKind::CutSubscription { error: None }).await;
    reading.put(50);
    reading.catch_up().await;
    reading.kinesis.update_shard_count(&Reading::stream(), 4).expect("scaled");
    reading.put(50);
    reading.stop().await;
}
