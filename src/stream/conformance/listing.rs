//! Streams and their shards, described and listed.

use super::harness::{Suite, a_moment, assert_kind, patiently};
use crate::{
    error::ErrorKind,
    stream::{PageToken, ShardFilter, ShardPosition, StreamReference, StreamStatus},
    types::{ShardId, Timestamp},
};

pub(super) async fn a_stream_is_described(suite: &Suite<'_>) {
    let stream = suite.stream("described", 3).await;
    let description = patiently(|| suite.client.describe_stream(&stream.reference)).await.expect("describe");
    assert_eq!((&description.name, description.arn.stream_name()), (&stream.name, stream.name.clone()));
    assert_eq!((description.status, description.retention_hours, description.open_shard_count), (StreamStatus::Active, 24, 3));
    assert!(description.created > Timestamp::default());
    stream.delete().await;
}

pub(super) async fn a_missing_stream_is_not_found(suite: &Suite<'_>) {
    let missing = suite.missing_stream();
    assert_kind(patiently(|| suite.client.describe_stream(&missing)).await, ErrorKind::NotFound);
    assert_kind(patiently(|| suite.client.list_shards(&missing, &ShardFilter::All, None)).await, ErrorKind::NotFound);
    let shard = ShardId::from_index(0);
    assert_kind(suite.client.shard_iterator(&missing, &shard, ShardPosition::Latest).await, ErrorKind::NotFound);
}

pub(super) async fn a_stream_is_found_by_its_arn(suite: &Suite<'_>) {
    let stream = suite.stream("by-arn", 1).await;
    stream.put_numbers(0, 0, 2).await;
    let by_name = patiently(|| suite.client.describe_stream(&stream.reference)).await.expect("describe");
    let arn = StreamReference::Arn(by_name.arn.clone());
    assert_eq!(patiently(|| suite.client.describe_stream(&arn)).await.expect("describe by ARN"), by_name);
    let page = patiently(|| suite.client.list_shards(&arn, &ShardFilter::All, None)).await.expect("list by ARN");
    assert_eq!(page.shards, stream.shards(ShardFilter::All).await);
    let iterator = suite.client.shard_iterator(&arn, &page.shards[0].id, ShardPosition::TrimHorizon).await.expect("iterator by ARN");
    let records = patiently(|| suite.client.get_records(&arn, &iterator, 10)).await.expect("records by ARN").records;
    assert_eq!(records.len(), 2);
    stream.delete().await;
}

pub(super) async fn a_recreated_stream_has_another_creation_time(suite: &Suite<'_>) {
    let stream = suite.stream("recreated", 1).await;
    stream.put_numbers(0, 0, 3).await;
    let before = patiently(|| suite.client.describe_stream(&stream.reference)).await.expect("describe").created;
    let iterator = stream.iterator(&ShardId::from_index(0), ShardPosition::TrimHorizon).await;
    stream.delete().await;
    assert_kind(patiently(|| suite.client.get_records(&stream.reference, &iterator, 10)).await, ErrorKind::NotFound);
    a_moment().await;
    stream.create(1).await;
    let after = patiently(|| suite.client.describe_stream(&stream.reference)).await.expect("describe").created;
    assert!(after > before, "{after} is not after {before}");
    assert!(stream.read(&ShardId::from_index(0), ShardPosition::TrimHorizon).await.is_empty(), "records of the deleted stream");
    stream.delete().await;
}

pub(super) async fn shards_cover_every_hash_key_once(suite: &Suite<'_>) {
    let stream = suite.stream("cover", 7).await;
    let shards = stream.shards(ShardFilter::All).await;
    assert_eq!(shards.len(), 7);
    assert!(shards.iter().all(|shard| shard.is_open() && shard.parents.is_empty()));
    for (i, shard) in shards.iter().enumerate() {
        assert_eq!(shard.id, ShardId::from_index(i as u64));
        assert_eq!(shard.starting_sequence_number.to_string().len(), 56);
    }
    assert_eq!((shards[0].hash_key_range.start(), shards[6].hash_key_range.end()), (0, u128::MAX));
    assert!(shards.windows(2).all(|w| w[0].hash_key_range.end() + 1 == w[1].hash_key_range.start()));
    stream.delete().await;
}

pub(super) async fn shards_are_listed_after_an_id(suite: &Suite<'_>) {
    let stream = suite.stream("after-id", 5).await;
    let after = |index| ShardFilter::AfterShardId(ShardId::from_index(index));
    assert_eq!(stream.shard_ids(after(2)).await, [ShardId::from_index(3), ShardId::from_index(4)]);
    assert!(stream.shard_ids(after(4)).await.is_empty());
    stream.delete().await;
}

pub(super) async fn shards_are_listed_by_the_moment_they_were_open(suite: &Suite<'_>) {
    let stream = suite.stream("at-moment", 2).await;
    let mut moments = Vec::new();
    for step in 0..2u32 {
        a_moment().await;
        stream.put_numbers(u128::MAX, step, 1).await;
        a_moment().await;
        if step == 0 {
            stream.control().split_shard(&stream.name, &ShardId::from_index(0), 1000).await.expect("split");
            stream.until_active().await;
        }
    }
    for record in stream.read(&ShardId::from_index(1), ShardPosition::TrimHorizon).await {
        moments.push(record.approximate_arrival().expect("the service stamps records"));
    }
    let ids = |indexes: &[u64]| indexes.iter().map(|i| ShardId::from_index(*i)).collect::<Vec<_>>();
    assert_eq!(stream.shard_ids(ShardFilter::AtTimestamp(moments[0])).await, ids(&[0, 1]));
    assert_eq!(stream.shard_ids(ShardFilter::AtTimestamp(moments[1])).await, ids(&[1, 2, 3]));
    assert_eq!(stream.shard_ids(ShardFilter::FromTimestamp(moments[0])).await, ids(&[0, 1, 2, 3]));
    assert_eq!(stream.shard_ids(ShardFilter::FromTimestamp(moments[1])).await, ids(&[1, 2, 3]));
    stream.delete().await;
}

pub(super) async fn shards_are_listed_at_both_ends_of_time(suite: &Suite<'_>) {
    let stream = suite.stream("at-ends", 2).await;
    a_moment().await;
    stream.control().merge_shards(&stream.name, &ShardId::from_index(0), &ShardId::from_index(1)).await.expect("merge");
    stream.until_active().await;
    let ids = |indexes: &[u64]| indexes.iter().map(|i| ShardId::from_index(*i)).collect::<Vec<_>>();
    assert_eq!(stream.shard_ids(ShardFilter::AtLatest).await, ids(&[2]));
    assert_eq!(stream.shard_ids(ShardFilter::AtTrimHorizon).await, ids(&[0, 1]));
    assert_eq!(stream.shard_ids(ShardFilter::All).await, ids(&[0, 1, 2]));
    stream.delete().await;
}

pub(super) async fn a_page_token_of_nonsense_is_refused(suite: &Suite<'_>) {
    let stream = suite.stream("bad-token", 1).await;
    let token = PageToken("bm9uc2Vuc2U=".to_owned());
    assert_kind(patiently(|| suite.client.list_shards(&stream.reference, &ShardFilter::All, Some(&token))).await, ErrorKind::InvalidInput);
    stream.delete().await;
}
