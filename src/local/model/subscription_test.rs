//! Stream consumers and subscriptions, step by step.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{super::*, *};
use crate::types::StreamName;

const START: Timestamp = Timestamp::from_millis(1_795_262_400_000);

fn at(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}

fn reference() -> StreamReference {
    "clicks".parse().expect("valid")
}

fn name() -> StreamName {
    "clicks".parse().expect("valid")
}

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

fn model_with(config: Config, shards: u32) -> (Model, ConsumerArn) {
    let mut model = Model::new(config, crate::random::Randomness::seeded(5));
    model.create_stream(START, &CreateStream::provisioned(name(), shards)).expect("created");
    let arn = model.register_stream_consumer(START, &reference(), "app", BTreeMap::new()).expect("registered").arn;
    (model, arn)
}

fn model() -> (Model, ConsumerArn) {
    model_with(Config::default(), 1)
}

fn put(model: &mut Model, now: Timestamp, bytes: usize) -> SequenceNumber {
    let entry = PutEntry::new("k", vec![0; bytes]).with_explicit_hash_key(0);
    model.put_record(now, &reference(), entry, None).expect("put").sequence_number
}

fn subscribe(model: &mut Model, now: Timestamp, arn: &ConsumerArn, position: ShardPosition) -> SubscriptionId {
    model.subscribe_to_shard(now, arn, &shard(0), position).expect("subscribed")
}

#[track_caller]
fn event(model: &mut Model, now: Timestamp, id: SubscriptionId) -> SubscriptionEvent {
    match model.poll_subscription(now, id) {
        SubscriptionStep::Event(event) => event,
        other => panic!("no event: {other:?}"),
    }
}

#[track_caller]
fn waits_until(model: &mut Model, now: Timestamp, id: SubscriptionId, expected: Timestamp) {
    match model.poll_subscription(now, id) {
        SubscriptionStep::Wait { until } => assert_eq!(until, expected),
        other => panic!("does not wait: {other:?}"),
    }
}

#[track_caller]
fn ended(model: &mut Model, now: Timestamp, id: SubscriptionId) -> Option<ServiceErrorCode> {
    match model.poll_subscription(now, id) {
        SubscriptionStep::Ended(error) => error.map(|error| error.code),
        other => panic!("not over: {other:?}"),
    }
}

fn numbers(event: &SubscriptionEvent) -> Vec<SequenceNumber> {
    event.records.iter().map(Record::sequence_number).collect()
}

#[test]
fn records_come_at_once_and_an_idle_shard_is_heard_of_every_five_seconds() {
    let (mut m, arn) = model();
    let first = put(&mut m, at(0), 3);
    let id = subscribe(&mut m, at(10), &arn, ShardPosition::TrimHorizon);
    let got = event(&mut m, at(10), id);
    assert_eq!((numbers(&got), got.continuation, got.millis_behind_latest), (vec![first], Some(first), 0));
    waits_until(&mut m, at(20), id, at(5010));
    let second = put(&mut m, at(100), 3);
    assert_eq!(m.take_woken().into_iter().collect::<Vec<_>>(), [id]);
    assert_eq!(numbers(&event(&mut m, at(100), id)), [second]);
    waits_until(&mut m, at(101), id, at(5100));
    let idle = event(&mut m, at(5100), id);
    assert!(idle.records.is_empty() && idle.millis_behind_latest == 0 && idle.child_shards.is_empty());
    assert!(idle.continuation.expect("the shard is open") > second);
    waits_until(&mut m, at(5100), id, at(10_100));
}

#[test]
fn the_continuation_number_of_an_idle_event_neither_skips_nor_repeats() {
    let (mut m, arn) = model();
    put(&mut m, at(0), 3);
    let id = subscribe(&mut m, at(1), &arn, ShardPosition::Latest);
    let continuation = event(&mut m, at(5001), id).continuation.expect("open");
    let next = put(&mut m, at(5002), 3);
    m.end_subscription(id);
    for (nth, position) in
        [ShardPosition::AfterSequenceNumber(continuation), ShardPosition::AtSequenceNumber(continuation)].into_iter().enumerate()
    {
        let now = at(10_002 + nth as u64 * 5000);
        let id = subscribe(&mut m, now, &arn, position);
        assert_eq!(numbers(&event(&mut m, now, id)), [next]);
    }
}

#[test]
fn a_second_subscription_is_refused_for_five_seconds_and_then_replaces_the_first() {
    // More calls than one a second.
    let limits = Limits { calls: CallRates::off(), ..Limits::enforced() };
    let (mut m, arn) = model_with(Config { limits, ..Config::default() }, 2);
    let other = m.register_stream_consumer(START, &reference(), "other", BTreeMap::new()).expect("registered").arn;
    let first = subscribe(&mut m, at(0), &arn, ShardPosition::Latest);
    let again = |m: &mut Model, now| m.subscribe_to_shard(now, &arn, &shard(0), ShardPosition::Latest);
    for millis in [0, 300, 4999] {
        assert_eq!(again(&mut m, at(millis)).expect_err("too soon").code, ServiceErrorCode::ResourceInUse);
    }
    // Another shard and another consumer are other subscriptions.
    m.subscribe_to_shard(at(1), &arn, &shard(1), ShardPosition::Latest).expect("another shard");
    let theirs = subscribe(&mut m, at(1), &other, ShardPosition::Latest);
    m.take_woken();
    let second = again(&mut m, at(5000)).expect("after five seconds");
    assert!(m.take_woken().contains(&first), "the first must learn it");
    assert_eq!(ended(&mut m, at(5000), first), Some(ServiceErrorCode::ResourceInUse));
    assert_eq!(ended(&mut m, at(5000), first), None, "said once");
    waits_until(&mut m, at(5000), second, at(10_000));
    event(&mut m, at(5001), theirs);
    // The end of the client does not shorten the time.
    m.end_subscription(second);
    assert_eq!(again(&mut m, at(9999)).expect_err("too soon").code, ServiceErrorCode::ResourceInUse);
    again(&mut m, at(10_000)).expect("after five seconds");
}

#[test]
fn a_subscription_lives_five_minutes_or_as_configured() {
    for (life, config) in [
        (300_000, Config::default()),
        (3000, Config { fan_out: FanOut { subscription_life: Duration::from_secs(3), ..FanOut::default() }, ..Config::default() }),
    ] {
        let (mut m, arn) = model_with(config, 1);
        let id = subscribe(&mut m, at(0), &arn, ShardPosition::Latest);
        put(&mut m, at(life - 1), 1);
        event(&mut m, at(life - 1), id);
        waits_until(&mut m, at(life - 1), id, at(life));
        put(&mut m, at(life), 1);
        assert_eq!(ended(&mut m, at(life), id), None);
    }
}

#[test]
fn a_closed_shard_ends_with_its_children_and_without_a_continuation_number() {
    let (mut m, arn) = model();
    let id = subscribe(&mut m, at(0), &arn, ShardPosition::Latest);
    waits_until(&mut m, at(0), id, at(5000));
    put(&mut m, at(1), 1);
    m.take_woken();
    m.split_shard(at(2), &reference(), &shard(0), 1 << 100).expect("split");
    assert!(m.take_woken().contains(&id), "the end is news");
    let last = event(&mut m, at(2), id);
    assert_eq!((last.records.len(), last.continuation), (1, None));
    let children: Vec<_> = last.child_shards.iter().map(|child| (child.id.clone(), child.parents.clone())).collect();
    assert_eq!(children, [(shard(1), vec![shard(0)]), (shard(2), vec![shard(0)])]);
    assert_eq!(ended(&mut m, at(2), id), None);
    // A reader that has done the shard asks at LATEST to hear of the children again.
    let again = subscribe(&mut m, at(6000), &arn, ShardPosition::Latest);
    let end = event(&mut m, at(6000), again);
    assert!(end.records.is_empty() && end.continuation.is_none() && end.child_shards.len() == 2);
}

#[test]
fn a_split_that_takes_its_time_ends_the_subscription_when_it_takes_effect() {
    let delays = Delays { update: Duration::from_secs(2), ..Delays::default() };
    let (mut m, arn) = model_with(Config { delays, ..Config::default() }, 1);
    let id = subscribe(&mut m, at(0), &arn, ShardPosition::Latest);
    m.split_shard(at(1), &reference(), &shard(0), 1 << 100).expect("begun");
    waits_until(&mut m, at(1), id, at(2001));
    assert_eq!(event(&mut m, at(2001), id).child_shards.len(), 2);
}

#[test]
fn a_consumer_gets_two_mebibytes_a_second_from_a_shard_and_no_other_suffers() {
    let limits = Limits { write_bytes_per_second: None, write_records_per_second: None, ..Limits::enforced() };
    let (mut m, arn) = model_with(Config { limits, ..Config::default() }, 1);
    let other = m.register_stream_consumer(START, &reference(), "other", BTreeMap::new()).expect("registered").arn;
    for _ in 0..40 {
        put(&mut m, at(0), 256 * 1024);
    }
    for arn in [arn, other] {
        let id = subscribe(&mut m, at(0), &arn, ShardPosition::TrimHorizon);
        let (mut now, mut bytes, mut events) = (at(0), 0, 0);
        while bytes < 10 * 1024 * 1024 {
            match m.poll_subscription(now, id) {
                SubscriptionStep::Event(event) => {
                    bytes += event.records.iter().map(Record::size_bytes).sum::<usize>();
                    events += 1;
                    assert_eq!(event.millis_behind_latest > 0, bytes < 10 * 1024 * 1024);
                }
                SubscriptionStep::Wait { until } => now = until,
                SubscriptionStep::Ended(error) => panic!("{error:?}"),
            }
        }
        // 10 MiB in events of less than 1 MiB each; two of them and the beginning of a third fit a second.
        assert!(events >= 10);
        assert!((3000..=5500).contains(&now.since(at(0)).as_millis()), "{:?}", now.since(at(0)));
    }
}

#[test]
fn subscriptions_end_with_their_consumer_or_stream() {
    let (mut m, arn) = model();
    let by_arn = ConsumerReference::Arn(arn.clone());
    let first = subscribe(&mut m, at(0), &arn, ShardPosition::Latest);
    m.deregister_stream_consumer(at(1), &by_arn).expect("deregistered");
    assert!(m.take_woken().contains(&first));
    assert_eq!(ended(&mut m, at(1), first), Some(ServiceErrorCode::ResourceNotFound));
    let refused = m.subscribe_to_shard(at(2), &arn, &shard(0), ShardPosition::Latest);
    assert_eq!(refused.expect_err("gone").code, ServiceErrorCode::ResourceNotFound);

    // Registered anew it is another consumer, whose shards nobody holds.
    let anew = m.register_stream_consumer(at(1000), &reference(), "app", BTreeMap::new()).expect("registered").arn;
    assert_ne!(anew, arn);
    let second = subscribe(&mut m, at(1001), &anew, ShardPosition::Latest);
    assert_eq!(m.delete_stream(at(2000), &reference()).expect_err("it has a consumer").code, ServiceErrorCode::ResourceInUse);
    m.delete_stream_with_consumers(at(2000), &reference()).expect("deleted");
    assert!(m.take_woken().contains(&second));
    m.create_stream(at(2001), &CreateStream::provisioned(name(), 1)).expect("created");
    m.register_stream_consumer(at(2001), &reference(), "app", BTreeMap::new()).expect("registered");
    assert_eq!(ended(&mut m, at(2001), second), Some(ServiceErrorCode::ResourceNotFound));
}

#[test]
fn consumers_are_registered_described_listed_and_deregistered() {
    let delays = Delays { consumer: Duration::from_secs(1), ..Delays::default() };
    let limits = Limits { calls: CallRates::off(), ..Limits::enforced() };
    let (mut m, arn) = model_with(Config { delays, limits, ..Config::default() }, 1);
    assert_eq!(arn.to_string(), "arn:aws:kinesis:us-east-1:123456789012:stream/clicks/consumer/app:1795262400");
    assert_eq!(arn.to_string().parse::<ConsumerArn>().expect("its own text"), arn);
    let by_name = ConsumerReference::Name { stream: reference(), name: "app".to_owned() };
    for (millis, status) in [(0, ConsumerStatus::Creating), (999, ConsumerStatus::Creating), (1000, ConsumerStatus::Active)] {
        for consumer in [by_name.clone(), ConsumerReference::Arn(arn.clone())] {
            assert_eq!(m.describe_stream_consumer(at(millis), &consumer).expect("described").status, status);
        }
        let subscribed = m.subscribe_to_shard(at(millis), &arn, &shard(0), ShardPosition::Latest).map_err(|error| error.code).err();
        assert_eq!(subscribed, (status == ConsumerStatus::Creating).then_some(ServiceErrorCode::ResourceInUse));
    }
    let register = |m: &mut Model, name: &str, millis| {
        m.register_stream_consumer(at(millis), &reference(), name, BTreeMap::new()).map(drop).map_err(|error| error.code)
    };
    assert_eq!(register(&mut m, "app", 1000), Err(ServiceErrorCode::ResourceInUse));
    assert_eq!(register(&mut m, "a b", 1000), Err(ServiceErrorCode::Validation));
    for n in 1..=5 {
        assert_eq!(register(&mut m, &format!("c-{n:02}"), 1000), Ok(()));
    }
    assert_eq!(register(&mut m, "c-06", 1999), Err(ServiceErrorCode::LimitExceeded), "five at a time are in creation");
    for n in 6..=19 {
        assert_eq!(register(&mut m, &format!("c-{n:02}"), 1000 * n), Ok(()));
    }
    assert_eq!(register(&mut m, "c-20", 30_000), Err(ServiceErrorCode::LimitExceeded), "twenty are all");
    assert_eq!(m.describe_stream_summary(at(30_000), &reference()).expect("described").description.consumer_count, 20);

    let mut names = Vec::new();
    let mut input = ListStreamConsumers { max_results: Some(6), ..ListStreamConsumers::of(reference()) };
    loop {
        let page = m.list_stream_consumers(at(30_000), &input).expect("listed");
        assert!(page.consumers.len() <= 6);
        names.extend(page.consumers.into_iter().map(|consumer| consumer.name));
        let Some(token) = page.next_token else { break };
        input.next_token = Some(token);
    }
    assert_eq!((names.len(), names[0].as_str(), names.is_sorted()), (20, "app", true));
    let late = m.list_stream_consumers(at(331_000), &input).expect_err("the token is old");
    assert_eq!(late.code, ServiceErrorCode::ExpiredNextToken);

    m.deregister_stream_consumer(at(400_000), &by_name).expect("deregistered");
    assert_eq!(m.describe_stream_consumer(at(400_999), &by_name).expect("still there").status, ConsumerStatus::Deleting);
    assert_eq!(m.describe_stream_consumer(at(401_000), &by_name).expect_err("gone").code, ServiceErrorCode::ResourceNotFound);
}

#[test]
fn calls_about_consumers_have_their_rates() {
    let (mut m, _) = model();
    let missing = ConsumerReference::Name { stream: reference(), name: "app".to_owned() };
    let described: Vec<bool> = (0..21).map(|_| m.describe_stream_consumer(at(0), &missing).is_ok()).collect();
    assert_eq!(described.iter().filter(|ok| **ok).count(), 20);
    let listed = (0..6).filter(|_| m.list_stream_consumers(at(0), &ListStreamConsumers::of(reference())).is_ok()).count();
    assert_eq!(listed, 5);
}

#[test]
fn texts_that_are_no_consumer_arns_are_refused() {
    let stream = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks";
    for bad in [
        "",
        stream,
        &format!("{stream}/consumer/app"),
        &format!("{stream}/consumer/app:"),
        &format!("{stream}/consumer/a b:1"),
        &format!("{stream}/consumer/:1"),
        &format!("{stream}/consumer/app:+1"),
        "/consumer/app:1",
    ] {
        assert!(bad.parse::<ConsumerArn>().is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever the client does in between, the events of subscriptions that follow one another by their continuation
    /// numbers hold every record once, in order, and end with the children.
    #[test]
    fn subscriptions_in_a_row_deliver_everything_once(
        steps in prop::collection::vec((0u64..7000, 0usize..4, any::<bool>()), 1..40), limit_life: bool,
    ) {
        let fan_out = FanOut { subscription_life: Duration::from_secs(if limit_life { 6 } else { 300 }), ..FanOut::default() };
        let (mut m, arn) = model_with(Config { fan_out, ..Config::default() }, 1);
        let mut now = at(0);
        let (mut put_all, mut got) = (Vec::new(), Vec::new());
        let mut position = ShardPosition::TrimHorizon;
        let mut subscription = None;
        let mut done = false;
        let rounds = steps.len();
        for (round, (pause, count, drop_it)) in steps.into_iter().chain(std::iter::repeat_n((5000, 0, false), 3)).enumerate() {
            for _ in 0..count {
                put_all.push(put(&mut m, now, 10));
            }
            if round == rounds {
                m.split_shard(now, &reference(), &shard(0), 1 << 100).expect("split");
            }
            now = now.plus(Duration::from_millis(pause));
            if subscription.is_none() {
                subscription = m.subscribe_to_shard(now, &arn, &shard(0), position).ok();
            }
            while let Some(id) = subscription {
                match m.poll_subscription(now, id) {
                    SubscriptionStep::Event(event) => {
                        got.extend(numbers(&event));
                        match event.continuation {
                            Some(number) => position = ShardPosition::AfterSequenceNumber(number),
                            None => {
                                prop_assert_eq!(event.child_shards.len(), 2);
                                done = true;
                            }
                        }
                    }
                    SubscriptionStep::Wait { until } => {
                        prop_assert!(until > now);
                        break;
                    }
                    SubscriptionStep::Ended(error) => {
                        prop_assert!(error.is_none(), "{:?}", error);
                        subscription = None;
                    }
                }
            }
            if done {
                break;
            }
            if drop_it && let Some(id) = subscription.take() {
                m.end_subscription(id);
            }
        }
        prop_assert!(done);
        prop_assert_eq!(got, put_all);
    }
}
