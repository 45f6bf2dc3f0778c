//! Stream consumers, and records pushed to them.

use std::time::Duration;

use super::harness::{Suite, TestStream, assert_kind, numbers, patiently};
use crate::{
    error::ErrorKind,
    stream::{ConsumerDescription, ConsumerReference, ConsumerStatus, ShardPosition, Subscription, SubscriptionEvent},
    types::{ConsumerArn, ConsumerName, Record, SequenceNumber, ShardId, StreamArn},
};

const PATIENCE: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);
/// Longer than the time between the events of an idle shard.
const SILENCE: Duration = Duration::from_secs(15);

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

fn shop() -> ConsumerName {
    ConsumerName::new("shop").expect("letters")
}

async fn arn_of(stream: &TestStream<'_>) -> StreamArn {
    patiently(|| stream.client().describe_stream(&stream.reference)).await.expect("describe the stream").arn
}

async fn by_name(stream: &TestStream<'_>) -> ConsumerReference {
    ConsumerReference::Name { stream: arn_of(stream).await, name: shop() }
}

/// Registers a consumer and waits until it can subscribe.
async fn register(stream: &TestStream<'_>) -> ConsumerDescription {
    let stream_arn = arn_of(stream).await;
    let shop = shop();
    let made = patiently(|| stream.client().register_stream_consumer(&stream_arn, &shop)).await.expect("register a consumer");
    let reference = ConsumerReference::Arn(made.arn);
    for _ in 0..PATIENCE {
        let consumer = patiently(|| stream.client().describe_stream_consumer(&reference)).await.expect("describe the consumer");
        if consumer.status == ConsumerStatus::Active {
            return consumer;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("the consumer of {} does not become active", stream.name);
}

/// Subscribes, also where the consumer has had another subscription a moment ago.
async fn subscribe(stream: &TestStream<'_>, consumer: &ConsumerArn, of: u64, position: ShardPosition) -> Box<dyn Subscription> {
    let shard = shard(of);
    for _ in 0..PATIENCE {
        match patiently(|| stream.client().subscribe_to_shard(consumer, &shard, position)).await {
            Err(error) if error.kind() == ErrorKind::ResourceInUse => tokio::time::sleep(PAUSE).await,
            outcome => return outcome.expect("subscribe"),
        }
    }
    panic!("{} takes no subscription", stream.name);
}

async fn next(subscription: &mut Box<dyn Subscription>) -> Option<SubscriptionEvent> {
    let event = tokio::time::timeout(SILENCE, subscription.next()).await.expect("a subscription is never silent for so long");
    event.expect("nothing is wrong with it")
}

/// Reads until there are so many records.
async fn read(subscription: &mut Box<dyn Subscription>, count: usize) -> (Vec<Record>, SubscriptionEvent) {
    let mut records = Vec::new();
    loop {
        let mut event = next(subscription).await.expect("the shard is open");
        records.append(&mut event.records);
        if records.len() >= count {
            return (records, event);
        }
    }
}

async fn until_gone(stream: &TestStream<'_>, reference: &ConsumerReference) {
    for _ in 0..PATIENCE {
        match patiently(|| stream.client().describe_stream_consumer(reference)).await {
            Ok(consumer) => assert_eq!(consumer.status, ConsumerStatus::Deleting),
            Err(error) => return assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("the consumer of {} is still there after it was deregistered", stream.name);
}

pub(super) async fn a_consumer_is_registered_described_and_deregistered(suite: &Suite<'_>) {
    let stream = suite.stream("consumer", 1).await;
    let reference = by_name(&stream).await;
    assert_kind(patiently(|| suite.client.describe_stream_consumer(&reference)).await, ErrorKind::NotFound);
    let made = register(&stream).await;
    assert_eq!((made.name, made.arn.consumer_name(), made.arn.stream_name()), (shop(), shop(), stream.name.clone()));
    let found = patiently(|| suite.client.describe_stream_consumer(&reference)).await.expect("by its name");
    assert_eq!((&found.arn, found.created), (&made.arn, made.created));
    let (stream_arn, shop) = (arn_of(&stream).await, shop());
    let listed = patiently(|| suite.client.list_stream_consumers(&stream_arn)).await.expect("list the consumers");
    assert_eq!(listed, [found]);
    let again = patiently(|| suite.client.register_stream_consumer(&stream_arn, &shop)).await;
    assert_kind(again, ErrorKind::ResourceInUse);
    patiently(|| suite.client.deregister_stream_consumer(&reference)).await.expect("deregister it");
    until_gone(&stream, &reference).await;
    stream.delete().await;
}

pub(super) async fn a_subscription_delivers_what_was_put_and_what_is(suite: &Suite<'_>) {
    let stream = suite.stream("pushed", 1).await;
    let put = stream.put_numbers(0, 0, 3).await;
    let consumer = register(&stream).await.arn;
    let mut subscription = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    let (records, _) = read(&mut subscription, 3).await;
    assert_eq!(numbers(&records), [0, 1, 2]);
    assert_eq!(records.iter().map(Record::sequence_number).collect::<Vec<_>>(), put.iter().map(|r| r.sequence_number).collect::<Vec<_>>());
    let put = stream.put_numbers(0, 3, 2).await;
    let (records, event) = read(&mut subscription, 2).await;
    assert_eq!(numbers(&records), [3, 4]);
    assert!(event.continuation >= Some(put[1].sequence_number) && event.child_shards.is_empty());
    stream.delete().await;
}

pub(super) async fn an_idle_subscription_says_that_it_is_at_the_tip(suite: &Suite<'_>) {
    let stream = suite.stream("idle", 1).await;
    let put = stream.put_numbers(0, 0, 3).await;
    let consumer = register(&stream).await.arn;
    let mut subscription = subscribe(&stream, &consumer, 0, ShardPosition::Latest).await;
    let heard = subscription.heard();
    let begun = heard.at();
    for _ in 0..2 {
        let event = next(&mut subscription).await.expect("the shard is open");
        assert!(event.records.is_empty() && event.millis_behind_latest == 0, "{event:?}");
        assert!(event.continuation >= Some(put[2].sequence_number), "{event:?}");
    }
    assert!(heard.at() > begun, "it says when events came");
    stream.put_numbers(0, 3, 1).await;
    assert_eq!(numbers(&read(&mut subscription, 1).await.0), [3]);
    stream.delete().await;
}

pub(super) async fn subscriptions_begin_where_they_are_told(suite: &Suite<'_>) {
    let stream = suite.stream("subscribed-at", 1).await;
    let put = stream.put_numbers(0, 0, 4).await;
    let consumer = register(&stream).await.arn;
    for (position, from) in [
        (ShardPosition::AtSequenceNumber(put[2].sequence_number), 2),
        (ShardPosition::AfterSequenceNumber(put[2].sequence_number), 3),
        (ShardPosition::TrimHorizon, 0),
    ] {
        let mut subscription = subscribe(&stream, &consumer, 0, position).await;
        let (records, _) = read(&mut subscription, 4 - from).await;
        assert_eq!(numbers(&records), (from as u32..4).collect::<Vec<_>>(), "{position:?}");
    }
    let missing = suite.client.subscribe_to_shard(&consumer, &shard(7), ShardPosition::TrimHorizon).await;
    assert_kind(missing, ErrorKind::NotFound);
    stream.delete().await;
}

pub(super) async fn subscriptions_join_at_the_continuation_number(suite: &Suite<'_>) {
    let stream = suite.stream("joined", 1).await;
    let consumer = register(&stream).await.arn;
    let mut position = ShardPosition::TrimHorizon;
    let mut read_so_far = Vec::new();
    for round in 0..3 {
        stream.put_numbers(0, round * 10, 10).await;
        let mut subscription = subscribe(&stream, &consumer, 0, position).await;
        let (records, event) = read(&mut subscription, 10).await;
        read_so_far.extend(numbers(&records));
        let continuation: SequenceNumber = event.continuation.expect("the shard is open");
        position = ShardPosition::AfterSequenceNumber(continuation);
    }
    assert_eq!(read_so_far, (0..30).collect::<Vec<_>>());
    stream.delete().await;
}

pub(super) async fn a_second_subscription_is_refused_at_first_and_takes_over_later(suite: &Suite<'_>) {
    let stream = suite.stream("takeover", 1).await;
    let consumer = register(&stream).await.arn;
    let mut first = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    let second = suite.client.subscribe_to_shard(&consumer, &shard(0), ShardPosition::TrimHorizon).await;
    assert_kind(second, ErrorKind::ResourceInUse);
    let mut second = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    // The first one ends, whatever was still on its way.
    let ended = tokio::time::timeout(SILENCE, async {
        loop {
            match first.next().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    match ended.await.expect("the one before ends") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceInUse, "{error:?}"),
    }
    stream.put_numbers(0, 0, 1).await;
    assert_eq!(numbers(&read(&mut second, 1).await.0), [0]);
    stream.delete().await;
}

pub(super) async fn the_end_of_a_shard_ends_its_subscription_and_names_the_children(suite: &Suite<'_>) {
    let stream = suite.stream("pushed-end", 1).await;
    stream.put_numbers(0, 0, 2).await;
    let consumer = register(&stream).await.arn;
    let mut subscription = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    read(&mut subscription, 2).await;
    stream.put_numbers(0, 2, 1).await;
    patiently(|| async { stream.control().split_shard(&stream.name, &shard(0), 1 << 127).await }).await.expect("split");
    let mut records = Vec::new();
    let end = loop {
        let mut event = next(&mut subscription).await.expect("the end is said before it comes");
        records.append(&mut event.records);
        if event.continuation.is_none() {
            break event;
        }
    };
    assert_eq!(numbers(&records), [2]);
    let mut children: Vec<_> = end.child_shards.iter().map(|child| (child.id.clone(), child.parents.clone())).collect();
    children.sort();
    assert_eq!(children, [(shard(1), vec![shard(0)]), (shard(2), vec![shard(0)])]);
    assert!(next(&mut subscription).await.is_none());
    // It is said again to who subscribes again.
    let mut again = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    let mut records = Vec::new();
    loop {
        let mut event = next(&mut again).await.expect("the end is said before it comes");
        records.append(&mut event.records);
        if event.continuation.is_none() {
            assert_eq!(event.child_shards.len(), 2);
            break;
        }
    }
    assert_eq!(numbers(&records), [0, 1, 2]);
    stream.delete().await;
}

pub(super) async fn a_consumer_that_is_gone_ends_its_subscriptions(suite: &Suite<'_>) {
    let stream = suite.stream("gone", 1).await;
    let consumer = register(&stream).await.arn;
    let mut subscription = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    let reference = ConsumerReference::Arn(consumer.clone());
    patiently(|| suite.client.deregister_stream_consumer(&reference)).await.expect("deregister it");
    let ended = tokio::time::timeout(SILENCE, async {
        loop {
            match subscription.next().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    if let Err(error) = ended.await.expect("it ends") {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    let shard = shard(0);
    for _ in 0..PATIENCE {
        match patiently(|| suite.client.subscribe_to_shard(&consumer, &shard, ShardPosition::TrimHorizon)).await {
            Err(error) if error.kind() == ErrorKind::ResourceInUse => tokio::time::sleep(PAUSE).await,
            outcome => {
                assert_kind(outcome, ErrorKind::NotFound);
                return stream.delete().await;
            }
        }
    }
    panic!("{} does not forget its consumer", stream.name);
}

pub(super) async fn a_subscription_lasts_five_minutes(suite: &Suite<'_>) {
    let stream = suite.stream("lasts", 1).await;
    let consumer = register(&stream).await.arn;
    let begun = tokio::time::Instant::now();
    let mut subscription = subscribe(&stream, &consumer, 0, ShardPosition::TrimHorizon).await;
    while next(&mut subscription).await.is_some() {}
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(295)..Duration::from_secs(306)).contains(&lasted), "{lasted:?}");
    stream.delete().await;
}
