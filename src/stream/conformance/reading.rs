//! Records put and read.

use bytes::Bytes;

use super::harness::{PutRequest, Suite, a_moment, assert_kind, numbers, patiently, request};
use crate::{
    error::ErrorKind,
    stream::{ShardFilter, ShardIterator, ShardPosition},
    types::{Record, ShardId, Timestamp},
};

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

pub(super) async fn records_come_back_as_they_were_put(suite: &Suite<'_>) {
    let stream = suite.stream("as-put", 1).await;
    let every_byte = Bytes::from((0..=255).collect::<Vec<u8>>());
    let requests = vec![
        request("plain", "text"),
        request("empty", ""),
        request("bytes", every_byte),
        request("Schlüssel ✓ \"quoted\" \\ \u{1}", "{\"json\": [1, 2]}"),
        request(&"k".repeat(256), vec![7u8; 100_000]),
    ];
    let receipts = stream.put(requests.clone()).await;
    let records = stream.read(&shard(0), ShardPosition::TrimHorizon).await;
    assert_eq!(records.len(), requests.len());
    for ((record, request), receipt) in records.iter().zip(&requests).zip(&receipts) {
        assert_eq!(record.partition_key(), request.partition_key);
        assert!(record.data() == &request.data, "the payload of {record:?} changed");
        assert_eq!((record.sequence_number(), &receipt.shard_id), (receipt.sequence_number, &shard(0)));
        assert!(record.approximate_arrival().is_some_and(|at| at > Timestamp::default()));
        assert!(!record.is_aggregated());
    }
    assert!(records.is_sorted_by_key(Record::approximate_arrival));
    stream.delete().await;
}

pub(super) async fn a_record_goes_where_its_key_says(suite: &Suite<'_>) {
    let stream = suite.stream("routing", 2).await;
    let explicit = |key: u128| PutRequest { explicit_hash_key: Some(key), ..request("a", "") };
    // MD5 of "a" begins with 0c, of "b" with 92.
    let requests = vec![request("a", ""), request("b", ""), explicit(0), explicit((1 << 127) - 1), explicit(1 << 127), explicit(u128::MAX)];
    let went: Vec<ShardId> = stream.put(requests).await.into_iter().map(|receipt| receipt.shard_id).collect();
    assert_eq!(went, [0, 1, 0, 0, 1, 1].map(shard));
    stream.delete().await;
}

pub(super) async fn sequence_numbers_grow_within_a_shard(suite: &Suite<'_>) {
    let stream = suite.stream("sequence", 2).await;
    let mut last = [None, None];
    for receipt in stream.put((0..40).map(|n: u32| request(&n.to_string(), "")).collect()).await {
        let last = &mut last[usize::from(receipt.shard_id == shard(1))];
        assert!(Some(receipt.sequence_number) > *last, "{} does not grow", receipt.sequence_number);
        *last = Some(receipt.sequence_number);
    }
    for listed in stream.shards(ShardFilter::All).await {
        let records = stream.read(&listed.id, ShardPosition::TrimHorizon).await;
        assert!(records.iter().all(|record| record.sequence_number() >= listed.starting_sequence_number));
        assert!(records.is_sorted_by_key(Record::sequence_number));
    }
    stream.delete().await;
}

pub(super) async fn reading_from_the_trim_horizon_returns_everything(suite: &Suite<'_>) {
    let stream = suite.stream("trim-horizon", 1).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    stream.put_numbers(0, 0, 5).await;
    assert_eq!(numbers(&stream.drain(iterator, 10_000).await.0), [0, 1, 2, 3, 4]);
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::TrimHorizon).await), [0, 1, 2, 3, 4]);
    stream.delete().await;
}

pub(super) async fn reading_from_latest_returns_only_what_follows(suite: &Suite<'_>) {
    let stream = suite.stream("latest", 1).await;
    stream.put_numbers(0, 0, 3).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::Latest).await;
    let (none, page) = stream.drain(iterator, 10_000).await;
    assert!(none.is_empty(), "{none:?}");
    stream.put_numbers(0, 3, 2).await;
    let (records, _) = stream.drain(page.next_iterator.expect("the shard is open"), 10_000).await;
    assert_eq!(numbers(&records), [3, 4]);
    stream.delete().await;
}

pub(super) async fn reading_at_a_sequence_number_includes_it(suite: &Suite<'_>) {
    let stream = suite.stream("at-sequence", 1).await;
    let receipts = stream.put_numbers(0, 0, 4).await;
    for (i, receipt) in receipts.iter().enumerate() {
        let records = stream.read(&shard(0), ShardPosition::AtSequenceNumber(receipt.sequence_number)).await;
        assert_eq!(numbers(&records), (i as u32..4).collect::<Vec<_>>());
    }
    let first = stream.shards(ShardFilter::All).await[0].starting_sequence_number;
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::AtSequenceNumber(first)).await), [0, 1, 2, 3]);
    stream.delete().await;
}

pub(super) async fn reading_after_a_sequence_number_excludes_it(suite: &Suite<'_>) {
    let stream = suite.stream("after-sequence", 1).await;
    let receipts = stream.put_numbers(0, 0, 4).await;
    for (i, receipt) in receipts.iter().enumerate() {
        let records = stream.read(&shard(0), ShardPosition::AfterSequenceNumber(receipt.sequence_number)).await;
        assert_eq!(numbers(&records), (i as u32 + 1..4).collect::<Vec<_>>());
    }
    stream.delete().await;
}

pub(super) async fn reading_at_a_moment_begins_there(suite: &Suite<'_>) {
    let stream = suite.stream("at-timestamp", 1).await;
    for n in 0..3 {
        a_moment().await;
        stream.put_numbers(0, n, 1).await;
    }
    a_moment().await;
    let records = stream.read(&shard(0), ShardPosition::TrimHorizon).await;
    let arrivals: Vec<Timestamp> = records.iter().map(|record| record.approximate_arrival().expect("stamped")).collect();
    let later = |moment: Timestamp| Timestamp::from_millis(moment.as_millis() + 1);
    for (moment, expected) in [
        (Timestamp::from_millis(1000), &[0, 1, 2][..]),
        (arrivals[0], &[0, 1, 2]),
        (later(arrivals[0]), &[1, 2]),
        (arrivals[1], &[1, 2]),
        (arrivals[2], &[2]),
        (later(arrivals[2]), &[]),
    ] {
        assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::AtTimestamp(moment)).await), expected, "at {moment} of {arrivals:?}");
    }
    // Past the end it waits for what comes.
    let iterator = stream.iterator(&shard(0), ShardPosition::AtTimestamp(later(arrivals[2]))).await;
    stream.put_numbers(0, 3, 1).await;
    assert_eq!(numbers(&stream.drain(iterator, 10).await.0), [3]);
    stream.delete().await;
}

pub(super) async fn pages_join_without_gap_or_repeat(suite: &Suite<'_>) {
    let stream = suite.stream("pages", 1).await;
    stream.put_numbers(0, 0, 23).await;
    let mut iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let mut seen = Vec::new();
    while seen.len() < 23 {
        let page = stream.page(&iterator, 5).await;
        assert!(page.records.len() <= 5);
        seen.extend(numbers(&page.records));
        iterator = page.next_iterator.expect("the shard is open");
    }
    assert_eq!(seen, (0..23).collect::<Vec<_>>());
    stream.delete().await;
}

pub(super) async fn an_iterator_can_be_used_again(suite: &Suite<'_>) {
    let stream = suite.stream("again", 1).await;
    stream.put_numbers(0, 0, 6).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let first = numbers(&stream.page(&iterator, 4).await.records);
    let second = numbers(&stream.page(&iterator, 4).await.records);
    assert!(first.len() == second.len() && first == second && first[0] == 0, "{first:?} and {second:?}");
    stream.delete().await;
}

pub(super) async fn an_empty_shard_goes_on(suite: &Suite<'_>) {
    let stream = suite.stream("empty", 1).await;
    let mut iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    for _ in 0..3 {
        let page = stream.page(&iterator, 10).await;
        assert!(page.records.is_empty() && page.child_shards.is_empty());
        assert_eq!(page.millis_behind_latest, 0);
        iterator = page.next_iterator.expect("the shard is open");
    }
    stream.delete().await;
}

pub(super) async fn an_iterator_of_nonsense_is_refused(suite: &Suite<'_>) {
    let stream = suite.stream("bad-iterator", 1).await;
    for text in ["nonsense", "AAAAAAAAAAE="] {
        let iterator = ShardIterator(text.to_owned());
        assert_kind(patiently(|| suite.client.get_records(&stream.reference, &iterator, 10)).await, ErrorKind::InvalidInput);
    }
    stream.delete().await;
}

pub(super) async fn a_limit_out_of_range_is_refused(suite: &Suite<'_>) {
    let stream = suite.stream("bad-limit", 1).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    for limit in [0, 10_001] {
        assert_kind(patiently(|| suite.client.get_records(&stream.reference, &iterator, limit)).await, ErrorKind::InvalidInput);
    }
    stream.delete().await;
}

pub(super) async fn a_sequence_number_of_another_shard_is_refused(suite: &Suite<'_>) {
    let stream = suite.stream("bad-sequence", 2).await;
    let receipt = stream.put_numbers(0, 0, 1).await.remove(0);
    let other = shard(1);
    for position in [ShardPosition::AtSequenceNumber(receipt.sequence_number), ShardPosition::AfterSequenceNumber(receipt.sequence_number)]
    {
        assert_kind(patiently(|| suite.client.shard_iterator(&stream.reference, &other, position)).await, ErrorKind::InvalidInput);
    }
    stream.delete().await;
}

pub(super) async fn a_missing_shard_is_not_found(suite: &Suite<'_>) {
    let stream = suite.stream("missing-shard", 1).await;
    let missing = shard(9);
    for position in [ShardPosition::TrimHorizon, ShardPosition::Latest] {
        assert_kind(patiently(|| suite.client.shard_iterator(&stream.reference, &missing, position)).await, ErrorKind::NotFound);
    }
    stream.delete().await;
}

pub(super) async fn lag_is_positive_behind_the_tip_and_zero_at_it(suite: &Suite<'_>) {
    let stream = suite.stream("lag", 1).await;
    stream.put_numbers(0, 0, 2).await;
    a_moment().await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let behind = stream.page(&iterator, 1).await;
    assert!(behind.millis_behind_latest >= 10, "{} ms behind with a record waiting", behind.millis_behind_latest);
    let tip = stream.page(&behind.next_iterator.expect("the shard is open"), 1).await;
    assert_eq!((numbers(&tip.records), tip.millis_behind_latest), (vec![1], 0));
    stream.delete().await;
}

pub(super) async fn an_answer_is_at_most_10_mib(suite: &Suite<'_>) {
    const MIB: usize = 1024 * 1024;
    let stream = suite.stream("10-mib", 1).await;
    stream.put((0..12u8).map(|n| request("k", vec![n; MIB - 1])).collect()).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let page = stream.page(&iterator, 10_000).await;
    let bytes: usize = page.records.iter().map(|record| record.data().len()).sum();
    assert!(bytes <= 10 * MIB && page.records.len() == 10, "{bytes} bytes in {} records", page.records.len());
    let rest = stream.page(&page.next_iterator.expect("the shard is open"), 10_000).await;
    let firsts: Vec<u8> = page.records.iter().chain(&rest.records).map(|record| record.data()[0]).collect();
    assert_eq!(firsts, (0..12).collect::<Vec<_>>());
    stream.delete().await;
}

pub(super) async fn calls_beyond_the_rate_are_throttled(suite: &Suite<'_>) {
    let stream = suite.stream("rate", 1).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let (mut served, mut throttled) = (0, 0);
    for _ in 0..20 {
        match suite.client.get_records(&stream.reference, &iterator, 10).await {
            Ok(_) => served += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Throttled, "{error:?}");
                assert!(error.is_retryable() && error.has_no_side_effects());
                throttled += 1;
            }
        }
    }
    // A stream without limits serves them all.
    assert!(throttled == 0 || served >= 5, "{served} served, {throttled} throttled");
    stream.page(&iterator, 10).await;
    stream.delete().await;
}
