use std::sync::Arc;

use rusqlite::params;

use crate::{
    clock::TokioClock,
    error::ErrorKind,
    local::{Config, CreateStream, Delays, LocalKinesis, PutEntry, RecordDistributionStrategy},
    random::Randomness,
    stream::{
        ShardFilter, ShardIterator, ShardPosition, StreamClient, StreamReference,
        conformance::{CASES, LONG_CASES, Suite},
    },
    types::{ShardId, Timestamp},
};

fn open_with(dir: &std::path::Path, config: Config, at_millis: i64) -> crate::Result<LocalKinesis> {
    let clock = TokioClock::starting_at(Timestamp::from_millis(at_millis));
    LocalKinesis::open(dir, config, Arc::new(clock), Randomness::seeded(3))
}

fn open(dir: &std::path::Path) -> LocalKinesis {
    open_with(dir, Config::default(), 1_795_262_400_000).expect("open")
}

fn read(kinesis: &LocalKinesis, stream: &StreamReference, iterator: &ShardIterator) -> Vec<(String, Vec<u8>, String, Option<Timestamp>)> {
    let page = LocalKinesis::get_records(kinesis, iterator, None).unwrap_or_else(|error| panic!("{stream}: {error}"));
    let record = |record: &crate::types::Record| {
        (record.partition_key().to_owned(), record.data().to_vec(), record.sequence_number().to_string(), record.approximate_arrival())
    };
    page.records.iter().map(record).collect()
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_conformance_suite() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let kinesis = open(dir.path());
    Suite::new(&kinesis, &kinesis, "suite").run(CASES).await;
    Suite::new(&kinesis, &kinesis, "long").run(LONG_CASES).await;
}

#[tokio::test(start_paused = true)]
async fn everything_survives_a_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let data = dir.path().join("made/when/missing");
    let stream: StreamReference = "clicks".parse().expect("valid");
    let shard = ShardId::from_index;

    let kinesis = open(&data);
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 2)).expect("create");
    kinesis.create_stream(&CreateStream::provisioned("gone".parse().expect("valid"), 1)).expect("create");
    kinesis.put_record(&"gone".parse().expect("valid"), PutEntry::new("k", "v"), None).expect("put");
    kinesis.delete_stream(&"gone".parse().expect("valid")).expect("delete");
    let low = |n: u8| PutEntry::new(format!("key {n} ✓"), vec![n, 0, 255]).with_explicit_hash_key(0);
    for n in 0..3 {
        kinesis.put_record(&stream, low(n), None).expect("put");
    }
    kinesis.split_shard(&stream, &shard(0), 1 << 100).expect("split");
    kinesis.put_records(&stream, (3..6).map(low).collect()).expect("put");
    kinesis.increase_stream_retention_period(&stream, 48).expect("increase");
    kinesis.register_stream_consumer(&stream, "app", [("team".to_owned(), "x".to_owned())].into()).expect("register");
    kinesis.start_stream_encryption(&stream, "alias/aws/kinesis").expect("encrypt");
    let commitment = kinesis.update_account_settings(true).expect("committed");
    let warm: StreamReference = "warm".parse().expect("valid");
    kinesis.create_stream(&CreateStream { warm_throughput_mibps: Some(6), ..CreateStream::on_demand(warm.name()) }).expect("create");
    kinesis.update_stream_record_distribution_strategy(&warm, RecordDistributionStrategy::Auto).expect("distribute");
    let summary_of_warm = kinesis.describe_stream_summary(&warm).expect("describe");
    assert!(summary_of_warm.warm_throughput.is_some_and(|throughput| throughput.current_mibps == 6));
    let iterators: Vec<_> =
        (0..4).map(|n| kinesis.get_shard_iterator(&stream, &shard(n), ShardPosition::TrimHorizon).expect("iterator")).collect();
    let before: Vec<_> = iterators.iter().map(|iterator| read(&kinesis, &stream, iterator)).collect();
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [3, 0, 3, 0]);
    let shards = StreamClient::list_shards(&kinesis, &stream, &ShardFilter::All, None).await.expect("list").shards;
    let summary = kinesis.describe_stream_summary(&stream).expect("describe");
    drop(kinesis);

    let kinesis = open_with(&data, Config::default(), 1_795_262_405_000).expect("open again");
    assert_eq!(kinesis.describe_stream_summary(&stream).expect("describe"), summary);
    assert_eq!(kinesis.describe_stream_summary(&warm).expect("describe"), summary_of_warm);
    assert_eq!(kinesis.describe_account_settings().expect("describe"), commitment);
    assert_eq!(kinesis.list_streams(&crate::local::ListStreams::default()).expect("list").streams.len(), 2);
    assert_eq!(StreamClient::list_shards(&kinesis, &stream, &ShardFilter::All, None).await.expect("list").shards, shards);
    // Iterators go on where they were.
    let after: Vec<_> = iterators.iter().map(|iterator| read(&kinesis, &stream, iterator)).collect();
    assert_eq!(after, before);
    let end = LocalKinesis::get_records(&kinesis, &iterators[0], None).expect("records");
    assert!(end.next_iterator.is_none() && end.child_shards.len() == 2);
    let consumers = kinesis.list_stream_consumers(&crate::local::ListStreamConsumers::of(stream.clone())).expect("list").consumers;
    let [consumer] = consumers.as_slice() else { panic!("{consumers:?}") };
    assert_eq!((consumer.name.as_str(), consumer.status), ("app", crate::stream::ConsumerStatus::Active));
    kinesis.subscribe_to_shard(&consumer.arn, &shard(0), ShardPosition::TrimHorizon).expect("subscribe");
    // Numbers go on above those before.
    let put = kinesis.put_record(&stream, low(6), None).expect("put");
    assert_eq!(put.shard_id, shard(2));
    assert!(put.sequence_number.to_string() > before[2][2].2);
}

#[tokio::test(start_paused = true)]
async fn numbers_are_not_used_again_after_their_records_left() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let stream: StreamReference = "clicks".parse().expect("valid");
    let kinesis = open(dir.path());
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("create");
    let put = |kinesis: &LocalKinesis| kinesis.put_record(&stream, PutEntry::new("k", "v"), None).expect("put");
    let mut last = put(&kinesis);
    for _ in 0..8 {
        last = put(&kinesis);
    }
    tokio::time::sleep(std::time::Duration::from_secs(25 * 3600)).await;
    let iterator = kinesis.get_shard_iterator(&stream, &last.shard_id, ShardPosition::TrimHorizon).expect("iterator");
    assert!(read(&kinesis, &stream, &iterator).is_empty());
    drop(kinesis);

    let rows: u32 = rusqlite::Connection::open(dir.path().join(super::FILE))
        .expect("open")
        .query_row("SELECT count(*) FROM records", params![], |row| row.get(0))
        .expect("count");
    assert_eq!(rows, 0, "what left retention leaves the file");
    let kinesis = open(dir.path());
    let next = put(&kinesis);
    assert!(next.sequence_number > last.sequence_number);
}

#[tokio::test(start_paused = true)]
async fn a_change_under_way_is_finished_after_a_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let stream: StreamReference = "clicks".parse().expect("valid");
    let minute = std::time::Duration::from_secs(60);
    let config = Config { delays: Delays { update: minute, delete: minute, ..Delays::default() }, ..Config::default() };
    let kinesis = open_with(dir.path(), config.clone(), 1_795_262_400_000).expect("open");
    for name in ["clicks", "gone"] {
        kinesis.create_stream(&CreateStream::provisioned(name.parse().expect("valid"), 1)).expect("create");
    }
    kinesis.split_shard(&stream, &ShardId::from_index(0), 1 << 127).expect("split");
    kinesis.delete_stream(&"gone".parse().expect("valid")).expect("delete");
    drop(kinesis);
    let kinesis = open_with(dir.path(), config.clone(), 1_795_262_430_000).expect("open");
    assert_eq!(kinesis.describe_stream_summary(&stream).expect("describe").description.open_shard_count, 1);
    drop(kinesis);
    let kinesis = open_with(dir.path(), config, 1_795_262_460_000).expect("open");
    assert_eq!(kinesis.describe_stream_summary(&stream).expect("describe").description.open_shard_count, 2);
    assert!(kinesis.describe_stream_summary(&"gone".parse().expect("valid")).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_used_is_named_with_the_fix() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let refused = |path: &std::path::Path, fix: &str| {
        let error = open_with(path, Config::default(), 0).expect_err("unusable");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(&path.display().to_string()) && error.message().contains(fix), "{error:?}");
    };
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").expect("write");
    refused(&file, "pass a directory");
    refused(&file.join("below"), "pass a directory");

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).expect("create");
    std::fs::write(foreign.join(super::FILE), "x".repeat(5000)).expect("write");
    refused(&foreign, "pass another data directory");

    let other = dir.path().join("other");
    std::fs::create_dir(&other).expect("create");
    let database = rusqlite::Connection::open(other.join(super::FILE)).expect("open");
    database.execute_batch("CREATE TABLE theirs (x)").expect("create");
    drop(database);
    refused(&other, "pass another data directory");
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let first = open(dir.path());
    let error = open_with(dir.path(), Config::default(), 0).expect_err("in use");
    assert!(error.message().contains("in use by another process"), "{error:?}");
    drop(first);
    open(dir.path());
}

#[tokio::test(start_paused = true)]
async fn a_file_of_a_version_without_account_settings_is_read() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open(dir.path()));
    let file = rusqlite::Connection::open(dir.path().join(super::FILE)).expect("open");
    file.execute_batch("DROP TABLE account").expect("as it was");
    drop(file);
    let kinesis = open(dir.path());
    assert_eq!(kinesis.describe_account_settings().expect("describe").started, None);
    kinesis.update_account_settings(true).expect("committed");
    drop(kinesis);
    assert!(open(dir.path()).describe_account_settings().expect("describe").started.is_some());
}
