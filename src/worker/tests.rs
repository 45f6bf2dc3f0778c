//! Workers from the builder to the report.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::*;
use crate::{
    ErrorKind,
    clock::TokioClock,
    lease::{LeaseTable, MemoryLeaseTable},
    local::{CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    random::Randomness,
    retry::RetryConfig,
    stream::StreamClient,
    task::Spawner,
    testing::{Arrival, Call, Fate, FaultyLeaseTable, FaultyStream, Operation, ProcessorLog},
    types::{InitialPosition, Timestamp},
};

const STREAMS: [&str; 2] = ["clicks", "orders"];

fn kinesis() -> LocalKinesis {
    let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
    let kinesis = LocalKinesis::new(crate::local::Config::default(), Arc::new(clock), Randomness::seeded(1));
    for name in STREAMS {
        kinesis.create_stream(&CreateStream::provisioned(name.parse().expect("valid"), 1)).expect("created");
        for n in 0..3 {
            kinesis.put_record(&name.parse().expect("valid"), PutEntry::new(format!("key-{n}"), name), None).expect("put");
        }
    }
    kinesis
}

fn in_virtual_time(builder: WorkerBuilder, seed: u64) -> WorkerBuilder {
    builder
        .initial_position(InitialPosition::TrimHorizon)
        .randomness(Randomness::seeded(seed))
        .clock(Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000))))
        .spawner(Spawner::current())
        .stop_on_signals(false)
}

async fn until(handle: &WorkerHandle, what: &str, holds: impl Fn(&WorkerStatus) -> bool) {
    for _ in 0..6_000 {
        if holds(&handle.status()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a minute is enough for: {what}; {:?}", handle.status());
}

/// Refuses every batch.
struct Refuse;

#[async_trait]
impl RecordProcessor for Refuse {
    async fn process_records(&mut self, _input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        Err("no such user".into())
    }
}

/// The sequence numbers of the first and the last record of a stream with one shard.
async fn ends_of(kinesis: &LocalKinesis) -> [String; 2] {
    let shard = crate::types::ShardId::from_index(0);
    let iterator = kinesis
        .get_shard_iterator(&"clicks".parse().expect("valid"), &shard, crate::stream::ShardPosition::TrimHorizon)
        .expect("there is a shard");
    let records = kinesis.get_records(&iterator, None).expect("records").records;
    [&records[0], &records[records.len() - 1]].map(|record| record.sequence_number().to_string())
}

#[tokio::test(start_paused = true)]
async fn the_report_names_the_batch_at_which_a_shard_was_failing_when_the_worker_was_told_to_stop() {
    let kinesis = kinesis();
    let [first, last] = ends_of(&kinesis).await;
    for (max_attempts, phase) in [(None, "retrying"), (Some(2), "stopped")] {
        let builder = Worker::builder("shop", "clicks", || Refuse).local(&kinesis).configure(|config| {
            config.consumer.processor_retry = RetryConfig { max_attempts, ..RetryConfig::default() };
        });
        let worker = in_virtual_time(builder, 3).build().expect("complete");
        let handle = worker.handle();
        let mut running = Spawner::current().spawn("worker", worker.run());
        let is_there = |status: &WorkerStatus| {
            let json = serde_json::to_value(status).expect("plain data");
            json["shards"][0]["phase"] == phase && json["shards"][0]["failed_calls"].as_u64() > Some(1)
        };
        until(&handle, phase, is_there).await;
        handle.shutdown();
        let report = running.join().await.expect("no panic").expect("a clean end");
        let failures: Vec<String> = report.failures().map(|shard| shard.to_string()).collect();
        let [failure] = failures.as_slice() else { panic!("one shard failed: {failures:?}") };
        for part in ["shardId-000000000000", "clicks", "process_records", &first, &last, "no such user"] {
            assert!(failure.contains(part), "{phase}: nothing of {part} in {failure}");
        }
        assert_eq!(matches!(report.shards[0].ending, ShardEnding::Failed(_)), max_attempts.is_some(), "{failure}");
        assert_eq!(report.check().expect_err("a failure").kind(), ErrorKind::Processor);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_recovered_is_no_failure() {
    let kinesis = kinesis();
    let log = ProcessorLog::default();
    struct Once(bool);
    #[async_trait]
    impl RecordProcessor for Once {
        async fn process_records(&mut self, _input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
            if std::mem::replace(&mut self.0, true) { Ok(()) } else { Err("hiccup".into()) }
        }
    }
    let factory = log.factory_around(|| Once(false));
    let worker = in_virtual_time(Worker::builder("shop", "clicks", factory).local(&kinesis), 3).build().expect("complete");
    let handle = worker.handle();
    let mut running = Spawner::current().spawn("worker", worker.run());
    until(&handle, "the records are processed", |status| status.shards.iter().any(|shard| shard.records == 3)).await;
    assert_eq!(handle.status().shards[0].failure, None);
    assert_eq!(handle.status().shards[0].stream, "clicks");
    handle.shutdown();
    let report = running.join().await.expect("no panic").expect("a clean end");
    report.check().expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_reached_is_in_the_status_and_the_report() {
    let unreachable = |operation: Operation| {
        move |call: &Call| Fate {
            arrival: if call.operation == operation { Arrival::Refused(ErrorKind::Unavailable) } else { Arrival::Delivered },
            ..Fate::default()
        }
    };
    for (operation, words) in [
        (Operation::DescribeStream, "find stream clicks"),
        (Operation::Initialize, "set up"),
        (Operation::Scan, "join the fleet"),
        (Operation::ListShards, "make the leases of the shards"),
    ] {
        let (network, limit) = (Arc::new(unreachable(operation)), Duration::from_secs(1));
        let client: Arc<dyn StreamClient> =
            Arc::new(FaultyStream::new(Arc::new(kinesis()), Arc::clone(&network) as _, Spawner::current(), limit));
        let table: Arc<dyn LeaseTable> =
            Arc::new(FaultyLeaseTable::new(Arc::new(MemoryLeaseTable::default()), network, Spawner::current(), limit));
        let builder = Worker::builder("shop", "clicks", ProcessorLog::default().factory()).stream_client(client).lease_table(table);
        let worker = in_virtual_time(builder, 3).build().expect("complete");
        let handle = worker.handle();
        assert_eq!(handle.status().obstacle, None);
        let mut running = Spawner::current().spawn("worker", worker.run());
        until(&handle, words, |status| status.obstacle.as_ref().is_some_and(|why| why.contains(words))).await;
        handle.shutdown();
        let report = running.join().await.expect("no panic").expect("a clean end");
        assert!(report.not_started.as_ref().is_some_and(|why| why.contains(words)), "{report:?}");
        let error = report.check().expect_err("it never got to work");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_obstacle_that_goes_away_leaves_no_trace() {
    let kinesis = kinesis();
    let first_calls_fail = |call: &Call| Fate {
        arrival: if call.number < 5 { Arrival::Refused(ErrorKind::Unavailable) } else { Arrival::Delivered },
        ..Fate::default()
    };
    let client = FaultyStream::new(Arc::new(kinesis.clone()), Arc::new(first_calls_fail), Spawner::current(), Duration::from_secs(1));
    let table = Arc::new(kinesis.lease_table("shop"));
    let builder = Worker::builder("shop", "clicks", ProcessorLog::default().factory()).stream_client(Arc::new(client)).lease_table(table);
    let worker = in_virtual_time(builder, 3).build().expect("complete");
    let handle = worker.handle();
    let mut running = Spawner::current().spawn("worker", worker.run());
    until(&handle, "it waits", |status| status.obstacle.is_some()).await;
    until(&handle, "it reads", |status| status.shards.iter().any(|shard| shard.records == 3)).await;
    assert_eq!(handle.status().obstacle, None);
    handle.shutdown();
    let report = running.join().await.expect("no panic").expect("a clean end");
    assert_eq!(report.not_started, None);
    report.check().expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_another_stream_is_refused_also_while_the_leader_finds_nothing_wrong() {
    let kinesis = kinesis();
    let table = MemoryLeaseTable::default();
    let worker = |stream, seed| {
        let builder = Worker::builder("shop", stream, ProcessorLog::default().factory());
        let builder = builder.stream_client(Arc::new(kinesis.clone())).lease_table(Arc::new(table.clone()));
        in_virtual_time(builder, seed).build().expect("complete")
    };
    let (reader, stranger) = (worker("clicks", 3), worker("orders", 4));
    let handle = reader.handle();
    let mut reading = Spawner::current().spawn("reader", reader.run());
    until(&handle, "the stream is read", |status| status.shards.iter().any(|shard| shard.records == 3)).await;
    let mut running = Spawner::current().spawn("stranger", stranger.run());
    // With one shard the fleet gives the second worker nothing, until the first one leaves.
    tokio::time::sleep(Duration::from_secs(20)).await;
    handle.shutdown();
    reading.join().await.expect("no panic").expect("a clean end");
    let error = running.join().await.expect("no panic").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    for part in ["stream/clicks", "stream/orders", "another application name"] {
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_and_an_arn_of_one_stream_are_not_two_streams() {
    let kinesis = kinesis();
    let arn = kinesis.describe_stream_summary(&"clicks".parse().expect("valid")).expect("there").description.arn;
    let builder = Worker::builder("shop", "clicks", ProcessorLog::default().factory()).stream(arn.as_str()).local(&kinesis);
    let error = in_virtual_time(builder, 3).build().expect("only the service knows").run().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains(arn.as_str()) && error.message().contains("once"), "{error}");
}

/// The message of a builder that is refused.
fn refused(builder: WorkerBuilder) -> String {
    let error = builder.build().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

fn builder(application: &str) -> WorkerBuilder {
    Worker::builder(application, "clicks", ProcessorLog::default().factory())
}

#[test]
fn what_cannot_be_is_refused_with_the_fix() {
    let kinesis = LocalKinesis::in_memory;
    let cases: [(WorkerBuilder, &[&str]); 9] = [
        (builder("shop"), &["aws(&config)", "local(&kinesis)", "stream_client(..)"]),
        (builder("shop").stream_client(Arc::new(kinesis())), &["lease_table(..)", "aws(&config)", "local(&kinesis)"]),
        (builder("").local(&kinesis()), &["application name is empty", "1 to 255"]),
        (builder(&"x".repeat(256)).local(&kinesis()), &["256", "1 to 255"]),
        (builder("shop").stream("clicks").local(&kinesis()), &["clicks", "once"]),
        (
            builder("shop").local(&kinesis()).configure(|config| config.consumer.drain_timeout = Duration::from_secs(60)),
            &["consumer.drain_timeout is 60s", "lease.drain_timeout 30s", "raise", "lower"],
        ),
        (
            builder("shop").local(&kinesis()).configure(|config| config.lease.drain_timeout = Duration::MAX),
            &["lease.drain_timeout", "up to 24 h"],
        ),
        (
            builder("shop").local(&kinesis()).configure(|config| config.consumer.lease_lost_timeout = Duration::MAX),
            &["lease_lost_timeout", "up to 24 h"],
        ),
        (
            builder("shop").local(&kinesis()).configure(|config| config.shard_sync_interval = Duration::from_secs(1)),
            &["shard_sync_interval is 1s", "1 min up to 24 h"],
        ),
    ];
    for (builder, parts) in cases {
        let message = refused(builder);
        for part in parts {
            assert!(message.contains(part), "nothing of {part:?} in: {message}");
        }
    }
}

#[cfg(feature = "aws")]
#[test]
fn on_aws_names_and_regions_have_to_fit() {
    use aws_types::{SdkConfig, region::Region};

    let config = || {
        SdkConfig::builder()
            .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .build()
    };
    for application in ["", "ab", "click printer", "a/b", &"x".repeat(256)] {
        let message = refused(builder(application).aws(&config()));
        assert!(message.contains(application) && message.contains("3 to 255 letters"), "{message}");
    }
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
    let message = refused(builder("shop").stream(arn).aws(&config()));
    for part in [arn, "eu-west-1", "eu-central-1", "AWS_REGION"] {
        assert!(message.contains(part), "{message}");
    }
    builder("shop").stream(arn.replace("west", "central")).aws(&config()).build().expect("of this region");
    let nowhere = SdkConfig::builder().behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest()).build();
    assert!(refused(builder("shop").aws(&nowhere)).contains("set AWS_REGION"));
    // With a table of its own, an application may be called anything.
    builder("click printer").aws(&config()).lease_table(Arc::new(MemoryLeaseTable::default())).build().expect("not the table's name");
}
