use std::{collections::BTreeMap, time::Duration};

use super::{super::*, *};
use crate::{
    stream::{ShardPosition, StreamReference},
    types::{ConsumerArn, ShardId},
};

const START: Timestamp = Timestamp::from_millis(1_795_262_400_000);

fn at(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}

fn reference(name: &str) -> StreamReference {
    name.parse().expect("valid")
}

/// Two streams of two shards, and a stream consumer of each.
fn account(limits: Limits) -> (Model, [ConsumerArn; 2]) {
    let mut model = Model::new(Config { limits, ..Config::default() }, Randomness::seeded(3));
    let consumers = ["clicks", "orders"].map(|name| {
        model.create_stream(at(0), &CreateStream::provisioned(name.parse().expect("valid"), 2)).expect("created");
        model.register_stream_consumer(at(0), &reference(name), "shop", BTreeMap::new()).expect("registered").arn
    });
    (model, consumers)
}

/// Makes a call that the rate alone can refuse with `LimitExceeded` or `ProvisionedThroughputExceeded`; what else is
/// wrong with it does not matter.
fn call(m: &mut Model, now: Timestamp, call: RatedCall, stream: &str, shard: u64, consumer: &ConsumerArn) -> Option<ServiceError> {
    let (stream, shard) = (reference(stream), ShardId::from_index(shard));
    let shop = ConsumerReference::Name { stream: stream.clone(), name: "shop".to_owned() };
    let error = match call {
        RatedCall::AddTagsToStream => m.add_tags_to_stream(now, &stream, BTreeMap::from([("k".to_owned(), String::new())])).err(),
        RatedCall::CreateStream => m.create_stream(now, &CreateStream::provisioned(stream.name(), 1)).err(),
        RatedCall::DeleteStream => m.delete_stream(now, &stream).err(),
        RatedCall::DeregisterStreamConsumer => {
            let outcome = m.deregister_stream_consumer(now, &shop).err();
            // The next call would be told that it is gone before it is counted.
            drop(m.register_stream_consumer(now, &stream, "shop", BTreeMap::new()));
            outcome
        }
        RatedCall::DescribeLimits => m.describe_limits(now).err(),
        RatedCall::DescribeStream => m.describe_stream(now, &stream, None, None).err(),
        RatedCall::DescribeStreamConsumer => m.describe_stream_consumer(now, &shop).err(),
        RatedCall::DescribeStreamSummary => m.describe_stream_summary(now, &stream).err(),
        RatedCall::GetRecords => {
            let all = std::mem::replace(&mut m.config_mut().limits.calls, CallRates::off());
            let iterator = m.get_shard_iterator(now, &stream, &shard, ShardPosition::Latest).expect("iterator");
            m.config_mut().limits.calls = all;
            m.get_records(now, &iterator, None).err()
        }
        RatedCall::GetShardIterator => m.get_shard_iterator(now, &stream, &shard, ShardPosition::Latest).err(),
        RatedCall::ListShards => m.list_shards(now, &ListShards { stream: Some(stream), ..ListShards::default() }).err(),
        RatedCall::ListStreamConsumers => m.list_stream_consumers(now, &ListStreamConsumers::of(stream)).err(),
        RatedCall::ListStreams => m.list_streams(now, &ListStreams::default()).err(),
        RatedCall::ListTagsForStream => m.list_tags_for_stream(now, &stream, None, None).err(),
        RatedCall::MergeShards => m.merge_shards(now, &stream, &shard, &shard).err(),
        RatedCall::RegisterStreamConsumer => m.register_stream_consumer(now, &stream, "shop", BTreeMap::new()).err(),
        RatedCall::RemoveTagsFromStream => m.remove_tags_from_stream(now, &stream, &["k".to_owned()]).err(),
        RatedCall::SplitShard => m.split_shard(now, &stream, &shard, 0).err(),
        // A moment to come is refused, so that the rule about subscriptions in place has no part in this.
        RatedCall::SubscribeToShard => {
            m.subscribe_to_shard(now, consumer, &shard, ShardPosition::AtTimestamp(now.plus(Duration::from_secs(1)))).err()
        }
        RatedCall::UpdateShardCount => m.update_shard_count(now, &stream, 9).err().filter(|error| error.message.starts_with("Rate")),
    };
    let limits = [ServiceErrorCode::LimitExceeded, ServiceErrorCode::ProvisionedThroughputExceeded];
    error.filter(|error| limits.contains(&error.code))
}

#[test]
fn each_call_has_its_rate_and_its_scope() {
    for rated in RatedCall::all() {
        let limits = Limits { calls: CallRates::off().with(rated, Some(rated.enforced())), ..Limits::off() };
        let admitted = |m: &mut Model, now, stream: &str, shard, consumer: &ConsumerArn| {
            (0..=rated.enforced() + 3).filter(|_| call(m, now, rated, stream, shard, consumer).is_none()).count()
        };
        let full = rated.enforced() as usize;
        // Another shard, another stream: whose rate is their own depends on the scope.
        let [same, shard, stream] = match rated.scope() {
            RateScope::Account => [0, 0, 0],
            RateScope::Stream => [0, 0, full],
            RateScope::Shard | RateScope::ConsumerAndShard => [0, full, full],
        };
        let (mut m, [clicks, orders]) = account(Limits::off());
        m.config_mut().limits = limits;
        assert_eq!(admitted(&mut m, at(0), "clicks", 0, &clicks), full, "{rated:?}");
        assert_eq!(admitted(&mut m, at(999), "clicks", 0, &clicks), same, "{rated:?} within the second");
        assert_eq!(admitted(&mut m, at(999), "clicks", 1, &clicks), shard, "{rated:?} of another shard");
        assert_eq!(admitted(&mut m, at(999), "orders", 0, &orders), stream, "{rated:?} of another stream");
        assert_eq!(admitted(&mut m, at(2000), "clicks", 0, &clicks), full, "{rated:?} a second later");
        m.config_mut().limits = Limits::off();
        assert_eq!(admitted(&mut m, at(2000), "clicks", 0, &clicks), full + 4, "{rated:?} without limits");
    }
}

#[test]
fn a_rate_that_is_used_up_says_whose() {
    let (mut m, [clicks, _]) = account(Limits { calls: CallRates::enforced(), ..Limits::off() });
    let refused = |m: &mut Model, rated: RatedCall| (0..30).find_map(|_| call(m, at(5000), rated, "clicks", 0, &clicks)).expect("too many");
    let error = refused(&mut m, RatedCall::DescribeStream);
    assert_eq!(error.to_string(), "LimitExceededException: Rate exceeded for stream clicks under account 123456789012.");
    let error = refused(&mut m, RatedCall::ListStreams);
    assert_eq!(error.to_string(), "LimitExceededException: Rate exceeded for account 123456789012.");
    let error = refused(&mut m, RatedCall::SubscribeToShard);
    let expected = format!("LimitExceededException: Rate exceeded for consumer {clicks} and shard shardId-000000000000");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn one_subscription_call_a_second_whatever_came_of_the_one_before() {
    let (mut m, [arn, _]) = account(Limits::enforced());
    let mut subscribe = |millis, position| {
        let outcome = m.subscribe_to_shard(at(millis), &arn, &ShardId::from_index(0), position);
        outcome.map(drop).map_err(|error| error.code)
    };
    let ahead = ShardPosition::AtTimestamp(at(60_000));
    let (limit, in_use) = (Err(ServiceErrorCode::LimitExceeded), Err(ServiceErrorCode::ResourceInUse));
    assert_eq!(subscribe(0, ahead), Err(ServiceErrorCode::InvalidArgument));
    assert_eq!(subscribe(999, ShardPosition::Latest), limit);
    assert_eq!(subscribe(1000, ShardPosition::Latest), Ok(()));
    assert_eq!(subscribe(1300, ShardPosition::Latest), in_use, "promised within five seconds of a success");
    assert_eq!(subscribe(2299, ShardPosition::Latest), limit);
    assert_eq!(subscribe(2300, ShardPosition::Latest), in_use);
    assert_eq!(subscribe(6000, ShardPosition::Latest), Ok(()));
}

#[test]
fn five_streams_and_five_consumers_of_the_account_are_made_at_a_time() {
    let delays = Delays { create: Duration::from_secs(30), consumer: Duration::from_secs(30), ..Delays::default() };
    let limits = Limits { calls: CallRates::off(), ..Limits::enforced() };
    let mut m = Model::new(Config { limits, delays, ..Config::default() }, Randomness::seeded(3));
    let names: Vec<String> = (0..6).map(|n| format!("s{n}")).collect();
    let create = |m: &mut Model, now, name: &str| m.create_stream(now, &CreateStream::provisioned(name.parse().expect("valid"), 1));
    for name in &names[..5] {
        create(&mut m, at(0), name).expect("one of five");
    }
    let error = create(&mut m, at(29_999), &names[5]).expect_err("the sixth");
    assert_eq!(error.code, ServiceErrorCode::LimitExceeded);
    assert!(error.message.contains("CREATING") && error.message.contains("123456789012"), "{error}");
    create(&mut m, at(30_000), &names[5]).expect("the others are done");

    let register = |m: &mut Model, now, stream: &str| m.register_stream_consumer(now, &reference(stream), "shop", BTreeMap::new());
    for name in &names[..5] {
        register(&mut m, at(60_000), name).expect("one of five");
    }
    let error = register(&mut m, at(60_001), &names[5]).expect_err("the sixth, though of another stream");
    assert_eq!(error.code, ServiceErrorCode::LimitExceeded);
    assert!(error.message.contains("CREATING"), "{error}");
    register(&mut m, at(90_000), &names[5]).expect("the others are done");
}

#[test]
fn an_account_has_fifty_on_demand_streams() {
    let limits = Limits { calls: CallRates::off(), ..Limits::enforced() };
    let mut m = Model::new(Config { limits, ..Config::default() }, Randomness::seeded(3));
    for n in 0..50 {
        m.create_stream(at(0), &CreateStream::on_demand(format!("s{n}").parse().expect("valid"))).expect("one of fifty");
    }
    let error = m.create_stream(at(0), &CreateStream::on_demand("more".parse().expect("valid"))).expect_err("the next");
    assert_eq!(error.code, ServiceErrorCode::LimitExceeded);
    m.create_stream(at(0), &CreateStream::provisioned("more".parse().expect("valid"), 1)).expect("of the other mode");
    let error = m.update_stream_mode(at(0), &reference("more"), StreamMode::OnDemand, None).expect_err("it would be the next");
    assert_eq!(error.code, ServiceErrorCode::LimitExceeded);
    assert_eq!(m.describe_limits(at(0)).expect("no rate").on_demand_stream_count_limit, 50);
}

#[test]
fn a_stream_grows_to_ten_thousand_shards() {
    let mut m = Model::new(Config::default(), Randomness::seeded(3));
    m.create_stream(at(0), &CreateStream::provisioned("clicks".parse().expect("valid"), 6000)).expect("created");
    let error = m.update_shard_count(at(0), &reference("clicks"), 10_001).expect_err("too many");
    assert_eq!(error.code, ServiceErrorCode::LimitExceeded);
    m.update_shard_count(at(0), &reference("clicks"), 10_000).expect("as many as may be");
}

#[test]
fn rates_are_plain_data_and_what_is_not_named_is_as_the_service_has_it() {
    let read: Limits = serde_json::from_str(r#"{"calls":{"ListStreams":null,"DescribeStream":2}}"#).expect("valid");
    let expected = CallRates::enforced().with(RatedCall::ListStreams, None).with(RatedCall::DescribeStream, Some(2));
    assert_eq!(read, Limits { calls: expected, ..Limits::enforced() });
    let text = serde_json::to_string(&read).expect("plain data");
    assert_eq!(serde_json::from_str::<Limits>(&text).expect("its own"), read);
    // The table is in the order of the names, by which it is looked up.
    assert!(RatedCall::all().enumerate().all(|(index, call)| call as usize == index));
}
