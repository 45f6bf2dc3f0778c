//! What happens after minutes and days. Needs paused time that the stream shares.

use std::time::Duration;

use super::harness::{Suite, assert_kind, numbers, patiently};
use crate::{
    error::ErrorKind,
    stream::{ShardFilter, ShardPosition},
    types::ShardId,
};

const HOUR: Duration = Duration::from_secs(3600);

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

pub(super) async fn an_iterator_expires_after_five_minutes(suite: &Suite<'_>) {
    let stream = suite.stream("expiry", 1).await;
    stream.put_numbers(0, 0, 2).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    let page = stream.page(&iterator, 1).await;
    assert_eq!(numbers(&page.records), [0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_kind(suite.client.get_records(&stream.reference, &iterator, 1).await, ErrorKind::ExpiredIterator);
    // The next one has a life of its own.
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(numbers(&stream.page(&page.next_iterator.expect("the shard is open"), 1).await.records), [1]);
    stream.delete().await;
}

pub(super) async fn many_shards_come_in_pages_and_their_tokens_expire(suite: &Suite<'_>) {
    const COUNT: u32 = 10_050;
    let stream = suite.stream("many", COUNT).await;
    let all = stream.shards(ShardFilter::AfterShardId(shard(9))).await;
    assert_eq!(all.len(), COUNT as usize - 10);
    assert!(all.windows(2).all(|w| w[0].id < w[1].id));
    let page = suite.client.list_shards(&stream.reference, &ShardFilter::AfterShardId(shard(9)), None).await.expect("first page");
    let token = page.next.expect("an answer holds at most 10,000 shards");
    assert_eq!(page.shards[0].id, shard(10));
    tokio::time::sleep(Duration::from_secs(301)).await;
    let late = patiently(|| suite.client.list_shards(&stream.reference, &ShardFilter::All, Some(&token))).await;
    assert_kind(late, ErrorKind::ExpiredToken);
    stream.delete().await;
}

pub(super) async fn records_leave_after_retention(suite: &Suite<'_>) {
    let stream = suite.stream("retention", 1).await;
    for n in 0..4 {
        stream.put_numbers(0, n, 1).await;
        tokio::time::sleep(10 * HOUR).await;
    }
    // 40, 30, 20 and 10 hours old.
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::TrimHorizon).await), [2, 3]);
    tokio::time::sleep(20 * HOUR).await;
    assert!(stream.read(&shard(0), ShardPosition::TrimHorizon).await.is_empty());
    let receipt = stream.put_numbers(0, 4, 1).await;
    let read = stream.read(&shard(0), ShardPosition::TrimHorizon).await;
    assert_eq!((numbers(&read), read[0].sequence_number()), (vec![4], receipt[0].sequence_number));
    stream.delete().await;
}

pub(super) async fn a_longer_retention_keeps_records(suite: &Suite<'_>) {
    let stream = suite.stream("longer", 1).await;
    stream.put_numbers(0, 0, 1).await;
    tokio::time::sleep(25 * HOUR).await;
    stream.put_numbers(0, 1, 1).await;
    assert_kind(stream.control().increase_retention(&stream.name, 12).await, ErrorKind::InvalidInput);
    stream.control().increase_retention(&stream.name, 168).await.expect("increase the retention");
    let description = suite.client.describe_stream(&stream.reference).await.expect("describe");
    assert_eq!(description.retention_hours, 168);
    tokio::time::sleep(100 * HOUR).await;
    // What had left before does not come back.
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::TrimHorizon).await), [1]);
    stream.delete().await;
}

pub(super) async fn a_position_that_was_trimmed_goes_on_at_the_oldest_record(suite: &Suite<'_>) {
    let stream = suite.stream("trimmed", 1).await;
    let put = stream.put_numbers(0, 0, 2).await;
    tokio::time::sleep(24 * HOUR - Duration::from_secs(60)).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::AtSequenceNumber(put[0].sequence_number)).await;
    stream.put_numbers(0, 2, 2).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(numbers(&stream.drain(iterator, 10).await.0), [2, 3]);
    for position in [ShardPosition::AtSequenceNumber(put[0].sequence_number), ShardPosition::AfterSequenceNumber(put[0].sequence_number)] {
        assert_eq!(numbers(&stream.read(&shard(0), position).await), [2, 3]);
    }
    stream.delete().await;
}

pub(super) async fn closed_shards_leave_after_retention(suite: &Suite<'_>) {
    let stream = suite.stream("closed-leave", 1).await;
    stream.put_numbers(0, 0, 1).await;
    tokio::time::sleep(HOUR).await;
    patiently(|| async { stream.control().split_shard(&stream.name, &shard(0), 1 << 127).await }).await.expect("split");
    stream.until_active().await;
    tokio::time::sleep(23 * HOUR + HOUR / 2).await;
    // The record is gone, the shard is still known by its end.
    assert_eq!(stream.shard_ids(ShardFilter::All).await, [0, 1, 2].map(shard));
    assert_eq!(stream.shard_ids(ShardFilter::AtTrimHorizon).await, [shard(0)]);
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let (none, end) = stream.drain(iterator, 10).await;
    assert!(none.is_empty() && end.next_iterator.is_none() && end.child_shards.len() == 2, "{end:?}");
    tokio::time::sleep(HOUR).await;
    assert_eq!(stream.shard_ids(ShardFilter::All).await, [1, 2].map(shard));
    assert_eq!(stream.shard_ids(ShardFilter::AtTrimHorizon).await, [1, 2].map(shard));
    assert_kind(suite.client.shard_iterator(&stream.reference, &shard(0), ShardPosition::TrimHorizon).await, ErrorKind::NotFound);
    stream.delete().await;
}

pub(super) async fn a_child_outlives_its_parents(suite: &Suite<'_>) {
    let stream = suite.stream("child", 2).await;
    patiently(|| async { stream.control().merge_shards(&stream.name, &shard(0), &shard(1)).await }).await.expect("merge");
    stream.until_active().await;
    let put = stream.put_numbers(0, 0, 1).await;
    tokio::time::sleep(25 * HOUR).await;
    let shards = stream.shards(ShardFilter::All).await;
    let [child] = &shards[..] else { panic!("expected the child only, got {shards:?}") };
    // It still says where it came from.
    assert_eq!((&child.id, &child.parents[..]), (&shard(2), &[shard(0), shard(1)][..]));
    let later = stream.put_numbers(0, 1, 1).await;
    assert!(later[0].sequence_number > put[0].sequence_number);
    patiently(|| async { stream.control().split_shard(&stream.name, &shard(2), 1 << 127).await }).await.expect("split");
    stream.until_active().await;
    assert_eq!(stream.shard_ids(ShardFilter::All).await, [2, 3, 4].map(shard));
    stream.delete().await;
}
