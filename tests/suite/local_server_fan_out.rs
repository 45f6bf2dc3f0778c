//! Enhanced fan-out of the local server: by the AWS SDK over HTTP/1.1, and by a bare client over clear-text HTTP/2 with
//! CBOR, as the Java KCL speaks it.

use std::{sync::Arc, time::Duration};

use aws_sdk_kinesis::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::{Blob, DateTime, event_stream::EventReceiver},
    types::{
        ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
        error::SubscribeToShardEventStreamError,
    },
};
use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use bytes::BytesMut;
use ciborium::value::Value;
use http::StatusCode;
use http_body_util::BodyExt;
use shardkeeper::{
    clock::SystemClock,
    local::{
        Config, FanOut, Limits, LocalKinesis, PutEntry,
        server::{FaultKind, FaultRule, LocalServer},
    },
    random::Randomness,
};

use crate::rig::{H2, LOOPBACK, Setup, make, map, member, sdk_config, setup};

type Events = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;

const SHARD: &str = "shardId-000000000000";

async fn register(sdk: &Client, stream_arn: &str, name: &str) -> String {
    let registered = sdk.register_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await.expect("registered");
    let consumer = registered.consumer.expect("present");
    assert_eq!(consumer.consumer_status, ConsumerStatus::Creating);
    let described = sdk.describe_stream_consumer().consumer_arn(&consumer.consumer_arn).send().await.expect("described");
    let described = described.consumer_description.expect("present");
    assert_eq!((described.consumer_status, described.stream_arn.as_str()), (ConsumerStatus::Active, stream_arn));
    consumer.consumer_arn
}

fn from(kind: ShardIteratorType) -> StartingPosition {
    StartingPosition::builder().r#type(kind).build().expect("complete")
}

fn after(number: &str) -> StartingPosition {
    StartingPosition::builder().r#type(ShardIteratorType::AfterSequenceNumber).sequence_number(number).build().expect("complete")
}

async fn subscribe(sdk: &Client, consumer: &str, position: StartingPosition) -> Events {
    let request = sdk.subscribe_to_shard().consumer_arn(consumer).shard_id(SHARD).starting_position(position);
    request.send().await.expect("subscribed").event_stream
}

async fn next(events: &mut Events) -> SubscribeToShardEvent {
    match events.recv().await.expect("no error").expect("an event") {
        SubscribeToShardEventStream::SubscribeToShardEvent(event) => event,
        other => panic!("{other:?}"),
    }
}

async fn put(sdk: &Client, text: &str) -> String {
    let put = sdk.put_record().stream_name("clicks").partition_key("k").data(Blob::new(text)).send().await.expect("put");
    put.sequence_number
}

fn texts(event: &SubscribeToShardEvent) -> Vec<String> {
    event.records.iter().map(|record| String::from_utf8(record.data.as_ref().to_vec()).expect("text")).collect()
}

#[tokio::test]
async fn records_are_pushed_as_they_are_put_and_continue_after_their_number() {
    let Setup { server, sdk, clock, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    put(&sdk, "a").await;
    let mut events = subscribe(&sdk, &consumer, from(ShardIteratorType::TrimHorizon)).await;
    let first = next(&mut events).await;
    assert_eq!((texts(&first), first.millis_behind_latest), (vec!["a".to_owned()], 0));
    let arrival = first.records[0].approximate_arrival_timestamp.expect("present").as_secs_f64();
    assert!((arrival - 1_795_262_400.123).abs() < 0.0005, "{arrival}");
    let number = put(&sdk, "b").await;
    let second = next(&mut events).await;
    assert_eq!(texts(&second), ["b"]);
    assert_eq!(second.continuation_sequence_number, number);
    assert!(second.child_shards.is_none());
    drop(events);

    put(&sdk, "c").await;
    clock.advance(Duration::from_secs(5));
    let mut events = subscribe(&sdk, &consumer, after(&second.continuation_sequence_number)).await;
    assert_eq!(texts(&next(&mut events).await), ["c"]);
    clock.advance(Duration::from_secs(5));
    let at = StartingPosition::builder().r#type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(1_795_262_400_123));
    let mut events = subscribe(&sdk, &consumer, at.build().expect("complete")).await;
    assert_eq!(texts(&next(&mut events).await), ["a", "b", "c"]);
    // A server that stops does not wait five minutes for its subscriptions.
    server.stop().await;
    assert!(events.recv().await.expect("an orderly end").is_none());
}

#[tokio::test]
async fn a_second_subscription_is_refused_and_then_takes_over() {
    let Setup { server: _server, sdk, clock, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    let mut first = subscribe(&sdk, &consumer, from(ShardIteratorType::Latest)).await;
    let again =
        || sdk.subscribe_to_shard().consumer_arn(&consumer).shard_id(SHARD).starting_position(from(ShardIteratorType::Latest)).send();
    clock.advance(Duration::from_millis(4000));
    assert_eq!(again().await.expect_err("too soon").code(), Some("ResourceInUseException"));
    clock.advance(Duration::from_millis(999));
    assert_eq!(again().await.expect_err("twice a second").code(), Some("LimitExceededException"));
    clock.advance(Duration::from_millis(1));
    let mut second = again().await.expect("after five seconds").event_stream;
    let end = loop {
        match first.recv().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the first ends with an error"),
            Err(SdkError::ServiceError(error)) => break error.into_err(),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(matches!(end, SubscribeToShardEventStreamError::ResourceInUseException(_)), "{end:?}");
    put(&sdk, "a").await;
    assert_eq!(texts(&next(&mut second).await), ["a"]);
}

#[tokio::test]
async fn a_subscription_ends_after_five_minutes_and_at_the_end_of_its_shard() {
    let Setup { server: _server, sdk, clock, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    let mut events = subscribe(&sdk, &consumer, from(ShardIteratorType::Latest)).await;
    clock.advance(Duration::from_secs(300));
    // The clock of the test moves only by hand, so something has to wake the subscription.
    put(&sdk, "a").await;
    assert!(events.recv().await.expect("an orderly end").is_none());

    let mut events = subscribe(&sdk, &consumer, from(ShardIteratorType::TrimHorizon)).await;
    assert_eq!(texts(&next(&mut events).await), ["a"]);
    let half = (u128::MAX / 2).to_string();
    sdk.split_shard().stream_arn(&arn).shard_to_split(SHARD).new_starting_hash_key(half).send().await.expect("split");
    let last = next(&mut events).await;
    let children = last.child_shards.expect("present");
    assert_eq!(children.iter().map(|c| c.shard_id.as_str()).collect::<Vec<_>>(), ["shardId-000000000001", "shardId-000000000002"]);
    assert_eq!(children[0].parent_shards, [SHARD]);
    assert_eq!(last.continuation_sequence_number, "", "absent on the wire");
    assert!(events.recv().await.expect("an orderly end").is_none());
}

#[tokio::test]
async fn an_idle_shard_is_heard_of() {
    let fan_out = FanOut { idle_event_interval: Duration::from_millis(5), ..FanOut::default() };
    let kinesis = LocalKinesis::new(Config { fan_out, ..Config::default() }, Arc::new(SystemClock), Randomness::seeded(3));
    let server = LocalServer::bind(LOOPBACK, kinesis).await.expect("a free port");
    let sdk = Client::from_conf(sdk_config(&server.endpoint_url()).build());
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    let mut events = subscribe(&sdk, &consumer, from(ShardIteratorType::Latest)).await;
    for _ in 0..3 {
        let idle = next(&mut events).await;
        assert!(idle.records.is_empty() && idle.millis_behind_latest == 0 && !idle.continuation_sequence_number.is_empty());
    }
}

#[tokio::test]
async fn consumers_are_listed_and_deregistered() {
    let Setup { server: _server, sdk, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    for name in ["a", "b", "c"] {
        register(&sdk, &arn, name).await;
    }
    let first = sdk.list_stream_consumers().stream_arn(&arn).max_results(2).send().await.expect("listed");
    let second = sdk.list_stream_consumers().stream_arn(&arn).set_next_token(first.next_token).send().await.expect("listed");
    let names: Vec<_> = first.consumers.iter().chain(&second.consumers).flatten().map(|c| c.consumer_name.as_str()).collect();
    assert_eq!((names, second.next_token), (vec!["a", "b", "c"], None));

    let mut events = subscribe(&sdk, &first.consumers.expect("present")[0].consumer_arn, from(ShardIteratorType::Latest)).await;
    sdk.deregister_stream_consumer().stream_arn(&arn).consumer_name("a").send().await.expect("deregistered");
    let end = events.recv().await.expect_err("the consumer is gone").into_service_error();
    assert!(matches!(end, SubscribeToShardEventStreamError::ResourceNotFoundException(_)), "{end:?}");

    let again = sdk.register_stream_consumer().stream_arn(&arn).consumer_name("b").send().await.expect_err("taken");
    assert_eq!(again.code(), Some("ResourceInUseException"));
    let gone = sdk.describe_stream_consumer().stream_arn(&arn).consumer_name("a").send().await.expect_err("gone");
    assert_eq!(gone.code(), Some("ResourceNotFoundException"));
    let refused = sdk.delete_stream().stream_arn(&arn).send().await.expect_err("it has consumers");
    assert_eq!(refused.code(), Some("ResourceInUseException"));
    let dry = sdk.subscribe_to_shard().consumer_arn(format!("{arn}/consumer/b:1795262400")).shard_id(SHARD).dry_run(true);
    let dry = dry.starting_position(from(ShardIteratorType::Latest)).send().await.expect_err("a dry run never succeeds");
    assert_eq!(dry.code(), Some("DryRunOperationException"));
    sdk.delete_stream().stream_arn(&arn).enforce_consumer_deletion(true).send().await.expect("deleted");
}

fn from_trim_horizon(consumer: &str) -> Value {
    map([("ConsumerARN", consumer.into()), ("ShardId", SHARD.into()), ("StartingPosition", map([("Type", "TRIM_HORIZON".into())]))])
}

#[tokio::test]
async fn http_2_carries_events_in_cbor() {
    let Setup { server, sdk, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    put(&sdk, "hello").await;
    let (mut h2, _driver) = H2::connect(&server).await;
    let response = h2.send("SubscribeToShard", from_trim_horizon(&consumer)).await;
    assert_eq!(
        (response.status(), &response.headers()["content-type"]),
        (StatusCode::OK, &"application/vnd.amazon.eventstream".parse().unwrap())
    );
    let mut body = response.into_body();
    let (mut decoder, mut buffer, mut messages) = (MessageFrameDecoder::new(), BytesMut::new(), Vec::new());
    while messages.len() < 2 {
        let frame = body.frame().await.expect("more").expect("whole");
        buffer.extend_from_slice(frame.data_ref().expect("data"));
        while let DecodedFrame::Complete(message) = decoder.decode_frame(&mut buffer).expect("valid") {
            messages.push(message);
        }
    }
    let header = |n: usize, name: &str| {
        let header = messages[n].headers().iter().find(|header| header.name().as_str() == name).expect("present");
        header.value().as_string().expect("a text").as_str().to_owned()
    };
    assert_eq!((header(0, ":event-type"), header(1, ":event-type")), ("initial-response".to_owned(), "SubscribeToShardEvent".to_owned()));
    let event: Value = ciborium::from_reader(&messages[1].payload()[..]).expect("CBOR");
    let records = member(&event, "Records").as_array().expect("a list");
    assert_eq!(member(&records[0], "Data"), &Value::Bytes(b"hello".to_vec()));
    assert_eq!(member(&records[0], "ApproximateArrivalTimestamp"), &Value::from(1_795_262_400_123_i64));
}

#[tokio::test]
async fn a_client_that_went_away_is_noticed() {
    let Setup { server, sdk, kinesis, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    let events = subscribe(&sdk, &consumer, from(ShardIteratorType::Latest)).await;
    assert_eq!(kinesis.running_subscriptions(), 1);
    drop(events);
    drop(sdk);
    while kinesis.running_subscriptions() > 0 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_written_to() {
    let Setup { server, sdk, kinesis, .. } = setup(Limits::off()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;
    for _ in 0..16 {
        let entry = PutEntry::new("k", vec![7; 1024 * 1024 - 1]);
        kinesis.put_record(&"clicks".parse().expect("valid"), entry, None).expect("put");
    }
    // A rule that never happens counts the events that are made.
    let never = FaultRule::new(FaultKind::CutSubscription { error: None }).skip(u64::MAX);
    server.faults().add(never).expect("valid");
    let (mut h2, _driver) = H2::connect(&server).await;
    let mut body = h2.send("SubscribeToShard", from_trim_horizon(&consumer)).await.into_body();
    let mut made = 0;
    for _ in 0..200_000 {
        tokio::task::yield_now().await;
        made = server.faults().list()[0].matched;
    }
    // The windows of HTTP/2 take a few megabytes.
    assert!((1..=8).contains(&made), "{made} of 16 events were made for a client that read none");
    let mut bytes = 0;
    while bytes < 16 * (1024 * 1024 - 1) {
        let frame = body.frame().await.expect("more").expect("whole");
        bytes += frame.data_ref().expect("data").len();
    }
    assert_eq!(kinesis.running_subscriptions(), 1);
}

#[tokio::test]
async fn settings_are_changed_and_described() {
    use aws_sdk_kinesis::types::{EncryptionType, MetricsName, StreamMode, StreamModeDetails};
    let Setup { server: _server, sdk, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = register(&sdk, &arn, "app").await;

    sdk.add_tags_to_stream().stream_name("clicks").tags("team", "x").tags("tier", "gold").send().await.expect("tagged");
    sdk.remove_tags_from_stream().stream_arn(&arn).tag_keys("tier").send().await.expect("untagged");
    let tags = sdk.list_tags_for_stream().stream_name("clicks").send().await.expect("listed");
    assert_eq!((tags.tags.len(), tags.tags[0].key.as_str(), tags.has_more_tags), (1, "team", false));
    sdk.tag_resource().resource_arn(&consumer).tags("team", "y").send().await.expect("tagged");
    let tags = sdk.list_tags_for_resource().resource_arn(&consumer).send().await.expect("listed").tags.expect("present");
    assert_eq!(tags[0].value.as_deref(), Some("y"));
    sdk.untag_resource().resource_arn(&consumer).tag_keys("team").send().await.expect("untagged");

    let key = "alias/aws/kinesis";
    sdk.start_stream_encryption().stream_name("clicks").encryption_type(EncryptionType::Kms).key_id(key).send().await.expect("started");
    let put = sdk.put_record().stream_name("clicks").partition_key("k").data(Blob::new("a")).send().await.expect("put");
    assert_eq!(put.encryption_type, Some(EncryptionType::Kms));
    let metrics = sdk.enable_enhanced_monitoring().stream_arn(&arn).shard_level_metrics(MetricsName::All).send().await.expect("enabled");
    assert_eq!(metrics.desired_shard_level_metrics.expect("present").len(), 7);
    let metrics = sdk.disable_enhanced_monitoring().stream_arn(&arn).shard_level_metrics(MetricsName::IncomingBytes);
    let metrics = metrics.send().await.expect("disabled");
    assert_eq!(metrics.desired_shard_level_metrics.expect("present").len(), 6);
    sdk.update_max_record_size().stream_arn(&arn).max_record_size_in_kib(2048).send().await.expect("changed");
    let on_demand = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().expect("complete");
    sdk.update_stream_mode().stream_arn(&arn).stream_mode_details(on_demand).send().await.expect("changed");
    let summary = sdk.describe_stream_summary().stream_arn(&arn).send().await.expect("described").stream_description_summary;
    let summary = summary.expect("present");
    assert_eq!((summary.encryption_type, summary.key_id.as_deref()), (Some(EncryptionType::Kms), Some(key)));
    assert_eq!((summary.consumer_count, summary.max_record_size_in_kib), (Some(1), Some(2048)));
    assert_eq!(summary.enhanced_monitoring[0].shard_level_metrics.as_ref().map(Vec::len), Some(6));
    assert_eq!(summary.stream_mode_details.expect("present").stream_mode, StreamMode::OnDemand);
    sdk.stop_stream_encryption().stream_name("clicks").encryption_type(EncryptionType::Kms).key_id(key).send().await.expect("stopped");
    let put = sdk.put_record().stream_name("clicks").partition_key("k").data(Blob::new("b")).send().await.expect("put");
    assert_eq!(put.encryption_type, None);

    let limits = sdk.describe_limits().send().await.expect("described");
    assert_eq!((limits.open_shard_count, limits.on_demand_stream_count), (1, 1));
    let account = sdk.describe_account_settings().send().await.expect("described");
    assert_eq!(account.minimum_throughput_billing_commitment.expect("present").status.as_str(), "DISABLED");
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    sdk.put_resource_policy().resource_arn(&consumer).policy(policy).send().await.expect("put");
    assert_eq!(sdk.get_resource_policy().resource_arn(&consumer).send().await.expect("there").policy, policy);
    sdk.delete_resource_policy().resource_arn(&consumer).send().await.expect("deleted");
    let none = sdk.get_resource_policy().resource_arn(&consumer).send().await.expect_err("gone");
    assert_eq!(none.code(), Some("ResourceNotFoundException"));
}
