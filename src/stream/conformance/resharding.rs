//! Splits, merges and new shard counts.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{Suite, TestStream, a_moment, assert_kind, numbers, patiently, request};
use crate::{
    error::ErrorKind,
    stream::{ShardFilter, ShardPosition},
    types::{HashKeyRange, Shard, ShardId},
};

const HALF: u128 = 1 << 127;

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

async fn split(stream: &TestStream<'_>, index: u64, key: u128) {
    patiently(|| async { stream.control().split_shard(&stream.name, &shard(index), key).await }).await.expect("split");
    stream.until_active().await;
}

async fn merge(stream: &TestStream<'_>, first: u64, second: u64) {
    patiently(|| async { stream.control().merge_shards(&stream.name, &shard(first), &shard(second)).await }).await.expect("merge");
    stream.until_active().await;
}

fn range(start: u128, end: u128) -> HashKeyRange {
    HashKeyRange::new(start, end).expect("in order")
}

pub(super) async fn a_split_closes_the_parent_and_makes_two_children(suite: &Suite<'_>) {
    let stream = suite.stream("split", 1).await;
    let put = stream.put_numbers(0, 0, 2).await;
    split(&stream, 0, HALF).await;
    let shards = stream.shards(ShardFilter::All).await;
    let [parent, low, high] = &shards[..] else { panic!("expected 3 shards, got {shards:?}") };
    let ending = parent.ending_sequence_number.expect("the parent is closed");
    assert!(ending >= put[1].sequence_number);
    assert_eq!((&low.id, low.hash_key_range, low.is_open()), (&shard(1), range(0, HALF - 1), true));
    assert_eq!((&high.id, high.hash_key_range, high.is_open()), (&shard(2), range(HALF, u128::MAX), true));
    for child in [low, high] {
        assert_eq!(child.parents, [shard(0)]);
        assert!(child.starting_sequence_number > ending, "a child begins below the end of its parent");
    }
    stream.delete().await;
}

pub(super) async fn a_merge_closes_both_parents_and_makes_one_child(suite: &Suite<'_>) {
    let stream = suite.stream("merge", 2).await;
    merge(&stream, 0, 1).await;
    let shards = stream.shards(ShardFilter::All).await;
    assert_eq!(shards.len(), 3);
    assert!(!shards[0].is_open() && !shards[1].is_open() && shards[2].is_open());
    assert_eq!((&shards[2].parents[..], shards[2].hash_key_range), (&[shard(0), shard(1)][..], HashKeyRange::FULL));
    stream.delete().await;
}

pub(super) async fn the_end_of_a_split_shard_names_its_children(suite: &Suite<'_>) {
    let stream = suite.stream("split-end", 1).await;
    stream.put_numbers(0, 0, 3).await;
    let iterator = stream.iterator(&shard(0), ShardPosition::TrimHorizon).await;
    let before = stream.page(&iterator, 1).await;
    split(&stream, 0, HALF).await;
    let (rest, end) = stream.drain(before.next_iterator.expect("the shard is open"), 1).await;
    assert_eq!(numbers(&rest), [1, 2]);
    let end = match end.next_iterator {
        // The service may need one more call to find the end.
        Some(next) => stream.page(&next, 1).await,
        None => end,
    };
    assert!(end.next_iterator.is_none(), "a closed shard ends");
    assert_eq!(end.millis_behind_latest, 0);
    let children: Vec<_> = end.child_shards.iter().map(|child| (&child.id, &child.parents[..], child.hash_key_range)).collect();
    let parents = [shard(0)];
    assert_eq!(children, [(&shard(1), &parents[..], range(0, HALF - 1)), (&shard(2), &parents[..], range(HALF, u128::MAX))]);
    stream.delete().await;
}

pub(super) async fn the_end_of_a_merged_shard_names_both_parents_of_the_child(suite: &Suite<'_>) {
    let stream = suite.stream("merge-end", 2).await;
    stream.put_numbers(0, 0, 1).await;
    merge(&stream, 0, 1).await;
    for parent in 0..2 {
        let iterator = stream.iterator(&shard(parent), ShardPosition::TrimHorizon).await;
        let (_, mut end) = stream.drain(iterator, 10).await;
        if let Some(next) = &end.next_iterator {
            end = stream.page(next, 10).await;
        }
        assert!(end.next_iterator.is_none(), "a closed shard ends");
        let [child] = &end.child_shards[..] else { panic!("expected one child, got {:?}", end.child_shards) };
        assert_eq!((&child.id, &child.parents[..], child.hash_key_range), (&shard(2), &[shard(0), shard(1)][..], HashKeyRange::FULL));
    }
    stream.delete().await;
}

pub(super) async fn children_take_what_follows_a_split(suite: &Suite<'_>) {
    let stream = suite.stream("split-route", 1).await;
    stream.put_numbers(0, 0, 1).await;
    split(&stream, 0, HALF).await;
    let low = stream.put_numbers(HALF - 1, 1, 1).await;
    let high = stream.put_numbers(HALF, 2, 1).await;
    assert_eq!((&low[0].shard_id, &high[0].shard_id), (&shard(1), &shard(2)));
    for (index, expected) in [(0, [0]), (1, [1]), (2, [2])] {
        assert_eq!(numbers(&stream.read(&shard(index), ShardPosition::TrimHorizon).await), expected);
    }
    stream.delete().await;
}

pub(super) async fn a_closed_shard_can_be_read_from_anywhere(suite: &Suite<'_>) {
    let stream = suite.stream("closed", 1).await;
    let mut put = stream.put_numbers(0, 0, 1).await;
    a_moment().await;
    put.extend(stream.put_numbers(0, 1, 2).await);
    split(&stream, 0, HALF).await;
    let all = stream.read(&shard(0), ShardPosition::TrimHorizon).await;
    assert_eq!(numbers(&all), [0, 1, 2]);
    let second = all[1].approximate_arrival().expect("stamped");
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::AtTimestamp(second)).await)[0], 1);
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::AtSequenceNumber(put[1].sequence_number)).await), [1, 2]);
    assert_eq!(numbers(&stream.read(&shard(0), ShardPosition::AfterSequenceNumber(put[1].sequence_number)).await), [2]);
    assert!(stream.read(&shard(0), ShardPosition::Latest).await.is_empty());
    let end = stream.iterator(&shard(0), ShardPosition::AfterSequenceNumber(put[2].sequence_number)).await;
    let (none, end) = stream.drain(end, 10).await;
    assert!(none.is_empty() && end.next_iterator.is_none() && end.child_shards.len() == 2, "{end:?}");
    stream.delete().await;
}

/// Reads every shard after its parents, following the children that the ends of shards name.
async fn read_lineage(stream: &TestStream<'_>, roots: Vec<ShardId>) -> BTreeMap<ShardId, Vec<(String, u32)>> {
    let mut read = BTreeMap::new();
    let mut known: BTreeMap<ShardId, BTreeSet<ShardId>> = roots.into_iter().map(|root| (root, BTreeSet::new())).collect();
    while let Some((id, _)) = known.iter().find(|(id, parents)| !read.contains_key(*id) && parents.iter().all(|p| read.contains_key(p))) {
        let id = id.clone();
        let iterator = stream.iterator(&id, ShardPosition::TrimHorizon).await;
        let (records, mut end) = stream.drain(iterator, 10_000).await;
        if let Some(next) = end.next_iterator.take() {
            end = stream.page(&next, 10).await;
        }
        for child in end.child_shards {
            known.insert(child.id, child.parents.into_iter().collect());
        }
        let keyed = records.iter().map(|record| record.partition_key().to_owned()).zip(numbers(&records)).collect();
        read.insert(id, keyed);
    }
    assert_eq!(read.len(), known.len(), "some shards wait for parents that do not come: {known:?}");
    read
}

async fn put_keyed(stream: &TestStream<'_>, from: u32) {
    stream.put((from..from + 12).map(|n| request(&format!("key-{}", n % 4), n.to_string())).collect()).await;
}

pub(super) async fn nothing_is_lost_or_repeated_through_resharding(suite: &Suite<'_>) {
    let stream = suite.stream("lineage", 2).await;
    let roots = stream.shard_ids(ShardFilter::All).await;
    put_keyed(&stream, 0).await;
    split(&stream, 0, HALF / 2).await;
    put_keyed(&stream, 12).await;
    merge(&stream, 3, 1).await;
    put_keyed(&stream, 24).await;
    split(&stream, 4, HALF).await;
    split(&stream, 2, HALF / 4).await;
    put_keyed(&stream, 36).await;

    let read = read_lineage(&stream, roots).await;
    let listed: BTreeSet<ShardId> = stream.shard_ids(ShardFilter::All).await.into_iter().collect();
    assert_eq!(read.keys().cloned().collect::<BTreeSet<_>>(), listed);
    let mut all: Vec<u32> = read.values().flatten().map(|(_, n)| *n).collect();
    all.sort_unstable();
    assert_eq!(all, (0..48).collect::<Vec<_>>());
    // Ids grow from parents to children, so that reading shards by id reads each key in order.
    for key in 0..4 {
        let key = format!("key-{key}");
        let order: Vec<u32> = read.values().flatten().filter(|(k, _)| *k == key).map(|(_, n)| *n).collect();
        assert!(order.is_sorted(), "{key}: {order:?}");
    }
    stream.delete().await;
}

/// The open shards hold every hash key once.
fn assert_full_cover(shards: &[Shard]) {
    let mut open: Vec<HashKeyRange> = shards.iter().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range).collect();
    open.sort_unstable();
    assert_eq!((open[0].start(), open[open.len() - 1].end()), (0, u128::MAX));
    assert!(open.windows(2).all(|w| w[0].end() + 1 == w[1].start()), "{open:?}");
}

pub(super) async fn a_new_shard_count_leaves_a_full_cover(suite: &Suite<'_>) {
    let stream = suite.stream("scale", 2).await;
    let roots = stream.shard_ids(ShardFilter::All).await;
    let mut from = 0;
    for target in [4, 3, 5, 3, 3] {
        put_keyed(&stream, from).await;
        from += 12;
        patiently(|| stream.control().update_shard_count(&stream.name, target)).await.expect("update the shard count");
        stream.until_active().await;
        let shards = stream.shards(ShardFilter::All).await;
        assert_full_cover(&shards);
        assert_eq!(stream.shards(ShardFilter::AtLatest).await.len(), target as usize);
        let ranges: BTreeMap<_, _> = shards.iter().map(|shard| (&shard.id, shard.hash_key_range)).collect();
        for shard in shards.iter().filter(|shard| !roots.contains(&shard.id)) {
            assert!(matches!(shard.parents.len(), 1 | 2), "{shard:?}");
            assert!(shard.parents.iter().all(|parent| ranges[parent].overlaps(shard.hash_key_range)), "{shard:?}");
        }
    }
    let mut all: Vec<u32> = read_lineage(&stream, roots).await.into_values().flatten().map(|(_, n)| n).collect();
    all.sort_unstable();
    assert_eq!(all, (0..from).collect::<Vec<_>>());
    assert_kind(stream.control().update_shard_count(&stream.name, 7).await, ErrorKind::LimitExceeded);
    stream.delete().await;
}

pub(super) async fn a_closed_shard_is_not_split_again(suite: &Suite<'_>) {
    let stream = suite.stream("split-twice", 1).await;
    split(&stream, 0, HALF).await;
    assert_kind(patiently(|| async { stream.control().split_shard(&stream.name, &shard(0), HALF).await }).await, ErrorKind::InvalidInput);
    assert_kind(patiently(|| async { stream.control().split_shard(&stream.name, &shard(7), HALF).await }).await, ErrorKind::NotFound);
    assert_eq!(stream.shards(ShardFilter::All).await.len(), 3);
    stream.delete().await;
}

pub(super) async fn only_neighbours_are_merged(suite: &Suite<'_>) {
    let stream = suite.stream("merge-far", 3).await;
    assert_kind(
        patiently(|| async { stream.control().merge_shards(&stream.name, &shard(0), &shard(2)).await }).await,
        ErrorKind::InvalidInput,
    );
    assert_kind(
        patiently(|| async { stream.control().merge_shards(&stream.name, &shard(1), &shard(1)).await }).await,
        ErrorKind::InvalidInput,
    );
    assert_eq!(stream.shards(ShardFilter::AtLatest).await.len(), 3);
    stream.delete().await;
}

pub(super) async fn a_split_outside_the_shard_is_refused(suite: &Suite<'_>) {
    let stream = suite.stream("split-outside", 2).await;
    for key in [0, 1, HALF - 1, HALF, u128::MAX] {
        assert_kind(
            patiently(|| async { stream.control().split_shard(&stream.name, &shard(0), key).await }).await,
            ErrorKind::InvalidInput,
        );
    }
    assert_eq!(stream.shards(ShardFilter::AtLatest).await.len(), 2);
    stream.delete().await;
}
