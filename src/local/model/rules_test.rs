//! Rules of the service that the conformance suite cannot see, or not precisely.

use std::time::Duration;

use super::*;
use crate::{
    limits::{PUT_RECORDS_MAX_RECORDS, RECORD_MAX_BYTES},
    stream::{RecordsPage, ShardFilter, ShardIterator, ShardPosition, StreamStatus},
    types::ShardId,
};

const START: Timestamp = Timestamp::from_millis(1_795_262_400_000);
const MIB: usize = 1024 * 1024;

fn at(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}

fn stream() -> StreamReference {
    "clicks".parse().expect("valid")
}

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

fn model_with(config: Config, shards: u32) -> Model {
    let mut model = Model::new(config, Randomness::seeded(5));
    model.create_stream(START, &CreateStream::provisioned("clicks".parse().expect("valid"), shards)).expect("create");
    model
}

fn model(shards: u32) -> Model {
    model_with(Config::default(), shards)
}

fn entry(bytes: usize) -> PutEntry {
    PutEntry::new("k", vec![0; bytes]).with_explicit_hash_key(0)
}

fn iterator(model: &mut Model, now: Timestamp) -> ShardIterator {
    model.get_shard_iterator(now, &stream(), &shard(0), ShardPosition::TrimHorizon).expect("iterator")
}

fn shards(model: &mut Model, now: Timestamp) -> Vec<crate::types::Shard> {
    model.list_shards(now, &ListShards { stream: Some(stream()), ..Default::default() }).expect("list").shards
}

#[track_caller]
fn assert_error<T: std::fmt::Debug>(outcome: Result<T, ServiceError>, code: ServiceErrorCode, message: &str) {
    let error = outcome.expect_err(message);
    assert_eq!((error.code, &*error.message), (code, message));
}

#[test]
fn errors_are_worded_as_the_service_words_them() {
    use ServiceErrorCode::{InvalidArgument, LimitExceeded, ResourceInUse, ResourceNotFound, Validation};
    let mut m = model(2);
    let missing: StreamReference = "other".parse().expect("valid");
    assert_error(m.describe_stream_summary(START, &missing), ResourceNotFound, "Stream other under account 123456789012 not found.");
    let elsewhere: StreamReference = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks".parse().expect("valid");
    assert_error(m.describe_stream_summary(START, &elsewhere), ResourceNotFound, "Stream clicks under account 123456789012 not found.");
    let again = CreateStream::provisioned("clicks".parse().expect("valid"), 1);
    assert_error(m.create_stream(START, &again), ResourceInUse, "Stream clicks under account 123456789012 already exists.");
    assert_error(
        m.create_stream(START, &CreateStream::provisioned("none".parse().expect("valid"), 0)),
        Validation,
        "1 validation error detected: Value '0' at 'shardCount' failed to satisfy constraint: \
         Member must have value greater than or equal to 1",
    );
    assert_error(
        m.create_stream(START, &CreateStream::provisioned("large".parse().expect("valid"), 20_000)),
        LimitExceeded,
        "This request would exceed the shard limit for the account 123456789012 in us-east-1. Current shard count for the account: 2. \
         Limit: 20000. Number of additional shards that would have resulted from this request: 20000. Refer to the AWS Service Limits \
         page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.",
    );
    assert_error(
        m.get_shard_iterator(START, &stream(), &shard(7), ShardPosition::Latest),
        ResourceNotFound,
        "Shard shardId-000000000007 in stream clicks under account 123456789012 does not exist",
    );
    let number = m.put_record(START, &stream(), entry(1), None).expect("put").sequence_number;
    assert_error(
        m.get_shard_iterator(START, &stream(), &shard(1), ShardPosition::AtSequenceNumber(number)),
        InvalidArgument,
        "Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was used in a call to a shard with shardId-000000000001",
    );
    assert_error(
        m.get_shard_iterator(START, &stream(), &shard(0), ShardPosition::AtTimestamp(at(1))),
        InvalidArgument,
        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: 1795262400001, \
         currentTimestampInMillis: 1795262400000",
    );
    assert_error(
        m.split_shard(START, &stream(), &shard(0), 1),
        InvalidArgument,
        "NewStartingHashKey 1 used in SplitShard() on shard shardId-000000000000 in stream clicks under account 123456789012 is not both \
         greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey 170141183460469231731687303715884105727.",
    );
    assert_error(
        m.merge_shards(START, &stream(), &shard(1), &shard(9)),
        ResourceNotFound,
        "Could not find shard shardId-000000000009 in stream clicks under account 123456789012.",
    );
    m.merge_shards(START, &stream(), &shard(1), &shard(0)).expect("merge");
    assert_error(
        m.split_shard(START, &stream(), &shard(1), 1 << 127),
        InvalidArgument,
        "Shard shardId-000000000001 in stream clicks under account 123456789012 has already been merged or split, and thus is not eligible \
         for merging or splitting.",
    );
    assert_error(
        m.update_shard_count(START, &stream(), 3),
        LimitExceeded,
        "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 1, Target shard count: 3",
    );
    assert_error(
        m.increase_stream_retention_period(START, &stream(), 8761),
        InvalidArgument,
        "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.",
    );
    m.increase_stream_retention_period(START, &stream(), 72).expect("increase");
    assert_error(
        m.increase_stream_retention_period(START, &stream(), 48),
        InvalidArgument,
        "Requested retention period (48 hours) for stream clicks can not be shorter than existing retention period (72 hours). \
         Use DecreaseRetentionPeriod API.",
    );
    m.decrease_stream_retention_period(START, &stream(), 24).expect("decrease");
}

#[test]
fn an_expired_iterator_says_when_it_was_made() {
    let mut m = model(1);
    let old = iterator(&mut m, START);
    m.get_records(at(300_000), &old, None).expect("five minutes old");
    assert_error(
        m.get_records(at(300_001), &old, None),
        ServiceErrorCode::ExpiredIterator,
        "Iterator expired. The iterator was created at time Sat Nov 21 12:00:00 UTC 2026 while right now it is Sat Nov 21 12:05:00 UTC 2026 \
         which is further in the future than the tolerated delay of 300000 milliseconds.",
    );
}

#[test]
fn an_iterator_does_not_read_a_successor_of_the_same_name() {
    let mut m = model(1);
    let old = iterator(&mut m, START);
    m.delete_stream(at(1), &stream()).expect("delete");
    m.create_stream(at(2), &CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("create");
    m.put_record(at(3), &stream(), entry(1), None).expect("put");
    assert_error(
        m.get_records(at(3), &old, None),
        ServiceErrorCode::ResourceNotFound,
        "Shard shardId-000000000000 in stream clicks under account 123456789012 does not exist",
    );
}

#[test]
fn put_records_fails_entry_by_entry_where_a_shard_is_full() {
    let mut m = model(2);
    let other = PutEntry::new("k", vec![0; 1000]).with_explicit_hash_key(u128::MAX);
    let entries = vec![entry(MIB / 2), entry(MIB / 2 - 1), other.clone(), entry(MIB / 2)];
    let outcomes = m.put_records(START, &stream(), entries).expect("the call itself succeeds");
    let failed: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
    // Partition keys count: 1 MiB - 1 of data and 2 bytes of keys are too much.
    assert_eq!(failed, [false, true, false, true]);
    assert_error(
        outcomes[3].clone(),
        ServiceErrorCode::ProvisionedThroughputExceeded,
        "Rate exceeded for shard shardId-000000000000 in stream clicks under account 123456789012.",
    );
    assert_eq!(
        m.put_record(at(999), &stream(), entry(MIB / 2), None).expect_err("the same second").code,
        ServiceErrorCode::ProvisionedThroughputExceeded
    );
    m.put_record(at(1000), &stream(), entry(MIB / 2), None).expect("the next second");
    let page = read_all(&mut m, at(1000));
    assert_eq!(page.records.len(), 2, "what failed was not put");

    let many = |n| vec![PutEntry::new("k", vec![]).with_explicit_hash_key(u128::MAX); n];
    let mut failed = 0;
    for _ in 0..3 {
        failed += m.put_records(at(5000), &stream(), many(PUT_RECORDS_MAX_RECORDS)).expect("put").iter().filter(|o| o.is_err()).count();
    }
    assert_eq!(failed, 500, "1,000 records a second");
}

fn read_all(m: &mut Model, now: Timestamp) -> RecordsPage {
    let iterator = iterator(m, now);
    m.get_records(now, &iterator, None).expect("records")
}

#[test]
fn requests_out_of_bounds_are_refused_whole_and_quote_nothing() {
    let mut m = model(1);
    let long = "x".repeat(257);
    for entries in [
        vec![],
        vec![entry(1); PUT_RECORDS_MAX_RECORDS + 1],
        vec![entry(1), entry(MIB)],
        vec![entry(1), PutEntry::new("", "canary")],
        vec![entry(1), PutEntry::new(long.as_str(), "canary")],
        vec![entry(MIB - 1); 11],
    ] {
        let error = m.put_records(START, &stream(), entries).expect_err("out of bounds");
        assert!(matches!(error.code, ServiceErrorCode::Validation | ServiceErrorCode::InvalidArgument), "{error}");
        assert!(!error.message.contains("canary") && !error.message.contains("xx"), "{error}");
    }
    assert!(read_all(&mut m, START).records.is_empty());
    m.put_record(START, &stream(), PutEntry::new("ü".repeat(256).as_str(), "v"), None).expect("256 characters, 512 bytes");
}

#[test]
fn a_stream_can_take_records_of_10_mib() {
    let mut m = model(1);
    let large = CreateStream { max_record_bytes: Some(RECORD_MAX_BYTES), ..CreateStream::provisioned("large".parse().expect("valid"), 1) };
    m.create_stream(START, &large).expect("create");
    let large: StreamReference = "large".parse().expect("valid");
    let full = m.put_record(START, &large, entry(RECORD_MAX_BYTES), None).expect_err("with its key it is too large");
    assert_eq!(full.code, ServiceErrorCode::Validation);
    m.put_record(START, &large, entry(RECORD_MAX_BYTES - 1), None).expect("put");
    // It used the write rate of ten seconds.
    assert!(m.put_record(at(9_999), &large, entry(1), None).is_err());
    m.put_record(at(10_001), &large, entry(1), None).expect("put");
    let iterator = m.get_shard_iterator(at(10_001), &large, &shard(0), ShardPosition::TrimHorizon).expect("iterator");
    let page = m.get_records(at(10_001), &iterator, None).expect("records");
    assert_eq!(page.records.len(), 1, "one record may be more than an answer holds");
    assert_eq!(page.records[0].data().len(), RECORD_MAX_BYTES - 1);
    assert!(
        m.create_stream(START, &CreateStream { max_record_bytes: Some(1), ..CreateStream::on_demand("s".parse().expect("valid")) })
            .is_err()
    );
}

#[test]
fn payloads_are_shared_not_copied() {
    let mut m = model(1);
    let data = bytes::Bytes::from(vec![1; 1000]);
    m.put_record(START, &stream(), PutEntry::new("k", data.clone()), None).expect("put");
    assert_eq!(read_all(&mut m, START).records[0].data().as_ptr(), data.as_ptr());
}

#[test]
fn five_reads_a_second_and_two_mib() {
    let mut m = model_with(Config { limits: Limits { write_bytes_per_second: None, ..Limits::enforced() }, ..Config::default() }, 1);
    let empty = iterator(&mut m, START);
    let served = (0..10).filter(|_| m.get_records(START, &empty, None).is_ok()).count();
    assert_eq!(served, 5);
    assert_error(
        m.get_records(START, &empty, None),
        ServiceErrorCode::ProvisionedThroughputExceeded,
        "Rate exceeded for shard shardId-000000000000 in stream clicks under account 123456789012.",
    );
    for _ in 0..30 {
        m.put_record(at(2000), &stream(), entry(MIB - 1), None).expect("put");
    }
    let mut next = iterator(&mut m, at(2000));
    let mut answered = Vec::new();
    for now in (2000..30_000).step_by(50) {
        if let Ok(page) = m.get_records(at(now), &next, None) {
            answered.push((now, page.records.len()));
            next = page.next_iterator.expect("the shard is open");
        }
        if answered.len() == 3 {
            break;
        }
    }
    // An answer of 10 MiB closes the shard for five seconds.
    assert_eq!(answered, [(2000, 10), (7000, 10), (12_000, 10)]);
}

#[test]
fn five_iterators_a_second() {
    let mut m = model(2);
    let served = |m: &mut Model, index, now| {
        (0..7).filter(|_| m.get_shard_iterator(now, &stream(), &shard(index), ShardPosition::Latest).is_ok()).count()
    };
    assert_eq!([served(&mut m, 0, START), served(&mut m, 1, START), served(&mut m, 0, at(1000))], [5, 5, 5]);
}

#[test]
fn a_new_shard_count_makes_as_many_shards_as_the_service() {
    // Open shards before and after, and shards made in all: measured against the service by others.
    for (before, target, made) in [(2, 4, 6), (4, 5, 15), (10, 13, 37), (4, 2, 6), (5, 3, 7)] {
        let mut m = model(before);
        let answer = m.update_shard_count(START, &stream(), target).expect("update");
        assert_eq!((answer.current_shard_count, answer.target_shard_count), (before, target));
        let all = shards(&mut m, START);
        let open: Vec<_> = all.iter().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range).collect();
        assert_eq!((all.len(), open.len()), (made, target as usize), "{before} to {target}");
    }
}

#[test]
fn the_shard_count_changes_ten_times_a_day() {
    let mut m = model(4);
    for i in 0..10 {
        m.update_shard_count(at(i), &stream(), if i % 2 == 0 { 5 } else { 4 }).expect("update");
    }
    assert_eq!(m.update_shard_count(at(20), &stream(), 5).expect_err("the eleventh").code, ServiceErrorCode::LimitExceeded);
    m.update_shard_count(at(24 * 3_600_000), &stream(), 5).expect("the first has aged out");
}

#[test]
fn on_demand_streams_begin_with_four_shards_that_are_not_the_users() {
    let mut m = model(1);
    m.create_stream(START, &CreateStream::on_demand("auto".parse().expect("valid"))).expect("create");
    let auto: StreamReference = "auto".parse().expect("valid");
    let summary = m.describe_stream_summary(START, &auto).expect("describe");
    assert_eq!((summary.mode, summary.description.open_shard_count), (StreamMode::OnDemand, 4));
    assert_eq!(m.update_shard_count(START, &auto, 8).expect_err("on demand").code, ServiceErrorCode::Validation);
    let counted = CreateStream { shard_count: Some(1), ..CreateStream::on_demand("auto-2".parse().expect("valid")) };
    assert_eq!(m.create_stream(START, &counted).expect_err("a count").code, ServiceErrorCode::Validation);
}

#[test]
fn changes_take_their_time() {
    let second = Duration::from_secs(1);
    let mut m =
        model_with(Config { delays: Delays { create: second, delete: second, update: second, consumer: second }, ..Config::default() }, 1);
    let status = |m: &mut Model, now| m.describe_stream_summary(now, &stream()).map(|summary| summary.description.status);
    assert_eq!(status(&mut m, at(999)), Ok(StreamStatus::Creating));
    assert!(m.describe_stream(at(999), &stream(), None, None).expect("describe").shards.is_empty());
    let list = ListShards { stream: Some(stream()), ..Default::default() };
    assert_eq!(m.list_shards(at(999), &list).expect_err("in the making").code, ServiceErrorCode::ResourceInUse);
    assert_eq!(m.put_record(at(999), &stream(), entry(1), None).expect_err("in the making").code, ServiceErrorCode::ResourceNotFound);
    assert_eq!(m.delete_stream(at(999), &stream()).expect_err("in the making").code, ServiceErrorCode::ResourceInUse);
    assert_eq!(status(&mut m, at(1000)), Ok(StreamStatus::Active));

    m.split_shard(at(2000), &stream(), &shard(0), 1 << 127).expect("split");
    assert_eq!(status(&mut m, at(2999)), Ok(StreamStatus::Updating));
    assert_error(
        m.merge_shards(at(2999), &stream(), &shard(0), &shard(0)),
        ServiceErrorCode::ResourceInUse,
        "Stream clicks under account 123456789012 not ACTIVE, instead in state UPDATING",
    );
    assert_eq!(m.put_record(at(2999), &stream(), entry(1), None).expect("put").shard_id, shard(0));
    assert_eq!(shards(&mut m, at(2999)).len(), 1);
    assert_eq!(m.put_record(at(3000), &stream(), entry(1), None).expect("put").shard_id, shard(1));
    assert_eq!(shards(&mut m, at(3000)).len(), 3);

    m.delete_stream(at(4000), &stream()).expect("delete");
    assert_eq!(status(&mut m, at(4999)), Ok(StreamStatus::Deleting));
    assert_eq!(read_all(&mut m, at(4999)).records.len(), 1, "readable until it is gone");
    assert!(status(&mut m, at(5000)).is_err());
    m.create_stream(at(5000), &CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("the name is free");
}

#[test]
fn the_list_of_shards_can_lag_behind_a_split() {
    let lag = Duration::from_secs(5);
    let mut m = model_with(Config { quirks: Quirks { list_shards_lag: lag, ..Quirks::default() }, ..Config::default() }, 1);
    m.split_shard(at(1000), &stream(), &shard(0), 1 << 127).expect("split");
    let seen = shards(&mut m, at(5999));
    assert!(seen.len() == 1 && seen[0].is_open());
    // The end of the shard tells at once.
    assert_eq!(read_all(&mut m, at(5999)).child_shards.len(), 2);
    assert_eq!(shards(&mut m, at(6000)).len(), 3);
}

#[test]
fn empty_answers_lose_nothing() {
    let quirks = Quirks { empty_answers: 0.5, ..Quirks::default() };
    let mut m = model_with(Config { quirks, limits: Limits::off(), ..Config::default() }, 1);
    for _ in 0..40 {
        m.put_record(START, &stream(), entry(1), None).expect("put");
    }
    let mut next = iterator(&mut m, at(500));
    let (mut records, mut empty) = (0, 0);
    loop {
        let page = m.get_records(at(500), &next, Some(1)).expect("records");
        records += page.records.len();
        next = page.next_iterator.expect("the shard is open");
        if page.millis_behind_latest == 0 {
            break;
        }
        empty += usize::from(page.records.is_empty());
        assert_eq!(page.millis_behind_latest, 500);
    }
    assert!(records == 40 && empty > 5, "{records} records, {empty} empty answers");
}

#[test]
fn streams_are_listed_by_name_in_pages() {
    let mut m = model(1);
    for name in ["b", "a", "d", "c"] {
        m.create_stream(START, &CreateStream::provisioned(name.parse().expect("valid"), 1)).expect("create");
    }
    let names = |page: &StreamsPage| page.streams.iter().map(|s| s.description.name.to_string()).collect::<Vec<_>>();
    let first = m.list_streams(START, &ListStreams { limit: Some(2), ..Default::default() }).expect("list");
    assert_eq!(names(&first), ["a", "b"]);
    let token = first.next_token.expect("more follow");
    let rest = m.list_streams(at(1), &ListStreams { next_token: Some(token.clone()), ..Default::default() }).expect("list");
    assert_eq!((names(&rest), rest.next_token), (vec!["c".to_owned(), "clicks".to_owned(), "d".to_owned()], None));
    let late = ListStreams { next_token: Some(token), ..Default::default() };
    assert_eq!(m.list_streams(at(300_001), &late).expect_err("late").code, ServiceErrorCode::ExpiredNextToken);
    let after = ListStreams { exclusive_start_stream_name: Some("c".to_owned()), ..Default::default() };
    assert_eq!(names(&m.list_streams(START, &after).expect("list")), ["clicks", "d"]);
}

#[test]
fn list_shards_refuses_arguments_that_exclude_each_other() {
    let mut m = model(3);
    let first = m.list_shards(START, &ListShards { stream: Some(stream()), max_results: Some(1), ..Default::default() }).expect("list");
    let with_token = || ListShards { next_token: first.next.clone(), ..Default::default() };
    m.list_shards(START, &with_token()).expect("the token alone");
    for (input, message) in [
        (ListShards::default(), "Either NextToken or StreamName should be provided."),
        (ListShards { stream: Some(stream()), ..with_token() }, "NextToken and StreamName cannot be provided together."),
        (ListShards { filter: Some(ShardFilter::All), ..with_token() }, "NextToken and ShardFilter cannot be provided together."),
        (
            ListShards { exclusive_start_shard_id: Some(shard(0)), ..with_token() },
            "NextToken and ExclusiveStartShardId cannot be provided together.",
        ),
    ] {
        assert_error(m.list_shards(START, &input), ServiceErrorCode::InvalidArgument, message);
    }
    let other = ListShards { stream: Some(stream()), stream_creation_timestamp: Some(at(1)), ..Default::default() };
    assert_eq!(m.list_shards(START, &other).expect_err("another creation time").code, ServiceErrorCode::ResourceNotFound);
}

#[test]
fn records_keep_their_order_when_the_clock_is_set_back() {
    let mut m = model(1);
    for now in [5000, 3000, 4000, 6000] {
        m.put_record(at(now), &stream(), entry(1), None).expect("put");
    }
    let arrivals: Vec<_> = read_all(&mut m, at(6000)).records.iter().map(|r| r.approximate_arrival().expect("stamped")).collect();
    assert_eq!(arrivals, [at(5000), at(5000), at(5000), at(6000)]);
}

#[test]
fn a_sequence_number_for_ordering_must_be_of_the_past() {
    let mut m = model(1);
    let number = m.put_record(at(10_000), &stream(), entry(1), None).expect("put").sequence_number;
    m.put_record(at(10_000), &stream(), entry(1), Some(number)).expect("put after it");
    let error = m.put_record(START, &stream(), entry(1), Some(number)).expect_err("from the future");
    assert!(error.message.starts_with("ExclusiveMinimumSequenceNumber 4"), "{error}");
}
