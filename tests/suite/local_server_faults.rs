//! Faults on demand of the local server, by rules in the process and through the admin endpoint.

use std::time::Duration;

use aws_sdk_kinesis::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream, error::SubscribeToShardEventStreamError},
};
use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use shardkeeper::{
    ErrorKind,
    local::{
        CreateStream, Limits, LocalKinesis,
        server::{FaultKind, FaultRule, LocalServer},
    },
    stream::{ShardPosition, StreamClient, StreamReference},
    types::ShardId,
};

use crate::rig::{Setup, make, sdk_config, setup};

async fn put(sdk: &Client) -> Result<(), String> {
    let request = sdk.put_record().stream_name("clicks").partition_key("k").data(Blob::new("x"));
    match request.send().await {
        Ok(_) => Ok(()),
        Err(SdkError::ServiceError(error)) => Err(error.err().code().unwrap_or("no code").to_owned()),
        Err(SdkError::DispatchFailure(error)) => Err(if error.is_timeout() { "timeout" } else { "broken off" }.to_owned()),
        Err(SdkError::TimeoutError(_)) => Err("timeout".to_owned()),
        Err(other) => Err(format!("{other:?}")),
    }
}

async fn records(kinesis: &LocalKinesis) -> usize {
    let stream = "clicks".parse().expect("valid");
    let shard = shardkeeper::types::ShardId::from_index(0);
    let iterator = kinesis.get_shard_iterator(&stream, &shard, shardkeeper::stream::ShardPosition::TrimHorizon).expect("iterator");
    kinesis.get_records(&iterator, None).expect("records").records.len()
}

#[tokio::test]
async fn requests_are_refused_broken_off_and_lost_by_rule() {
    let Setup { server, sdk, kinesis, .. } = setup(Limits::off()).await;
    make(&sdk, "clicks", 1).await;
    for (kind, seen, kept) in [
        (FaultKind::Throttle, "ProvisionedThroughputExceededException", 0),
        (FaultKind::Error500, "InternalFailureException", 0),
        (FaultKind::ConnectionReset, "broken off", 0),
        (FaultKind::AnswerLost, "broken off", 1),
    ] {
        let before = records(&kinesis).await;
        server.faults().add(FaultRule::new(kind.clone()).operation("PutRecord").stream("clicks").count(1)).expect("valid");
        assert_eq!(put(&sdk).await, Err(seen.to_owned()), "{kind:?}");
        assert_eq!(records(&kinesis).await - before, kept, "{kind:?}");
        assert_eq!(put(&sdk).await, Ok(()), "after {kind:?}");
    }
    assert!(server.faults().list().iter().all(|fault| fault.fired == 1 && fault.matched >= 2));

    server.faults().add(FaultRule::new(FaultKind::ExpireIterators).shard("shardId-000000000000").count(1)).expect("valid");
    let iterator = sdk.get_shard_iterator().stream_name("clicks").shard_id("shardId-000000000000");
    let iterator = iterator.shard_iterator_type(ShardIteratorType::Latest).send().await.expect("iterator").shard_iterator;
    let get = || sdk.get_records().set_shard_iterator(iterator.clone()).send();
    assert_eq!(get().await.expect_err("by rule").code(), Some("ExpiredIteratorException"));
    get().await.expect("once only");
    server.faults().add(FaultRule::new(FaultKind::Throttle).operation("ListShards")).expect("valid");
    let refused = sdk.list_shards().stream_name("clicks").send().await.expect_err("by rule");
    assert_eq!(refused.code(), Some("LimitExceededException"));
    server.faults().clear();
    sdk.list_shards().stream_name("clicks").send().await.expect("the rule is gone");
}

#[tokio::test]
async fn requests_are_refused_with_whatever_exception_the_rule_names() {
    let Setup { server, sdk, client, .. } = setup(Limits::off()).await;
    make(&sdk, "clicks", 1).await;
    let stream: StreamReference = "clicks".parse().expect("valid");
    for (error, status, kind) in [
        ("KMSAccessDeniedException", 400, ErrorKind::AccessDenied),
        ("KMSDisabledException", 400, ErrorKind::AccessDenied),
        ("KMSThrottlingException", 400, ErrorKind::Throttled),
        ("AccessDeniedException", 400, ErrorKind::AccessDenied),
        ("ExpiredTokenException", 400, ErrorKind::AccessDenied),
        ("ServiceUnavailable", 503, ErrorKind::Unavailable),
    ] {
        let refuse = FaultKind::Refuse { error: error.to_owned(), status };
        server.faults().add(FaultRule::new(refuse).operation("GetShardIterator").count(2)).expect("valid");
        let iterator = sdk.get_shard_iterator().stream_name("clicks").shard_id("shardId-000000000000");
        let refused = iterator.shard_iterator_type(ShardIteratorType::Latest).send().await.expect_err(error);
        let SdkError::ServiceError(refused) = refused else { panic!("{refused:?}") };
        assert_eq!((refused.err().code(), refused.raw().status().as_u16()), (Some(error), status));
        let refused = client.shard_iterator(&stream, &ShardId::from_index(0), ShardPosition::Latest).await.expect_err(error);
        assert_eq!(refused.kind(), kind, "{refused}");
    }
}

#[tokio::test]
async fn a_frozen_subscription_says_nothing_more_and_keeps_its_place() {
    let Setup { server, sdk, kinesis, clock, .. } = setup(Limits::off()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = sdk.register_stream_consumer().stream_arn(&arn).consumer_name("app").send().await.expect("registered");
    let consumer = consumer.consumer.expect("present").consumer_arn;
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().expect("complete");
    let subscribe =
        || sdk.subscribe_to_shard().consumer_arn(&consumer).shard_id("shardId-000000000000").starting_position(start.clone()).send();
    let mut frozen = subscribe().await.expect("subscribed").event_stream;
    let rule = server.faults().add(FaultRule::new(FaultKind::FreezeSubscription).stream("clicks").skip(1).count(1)).expect("valid");
    put(&sdk).await.expect("put");
    frozen.recv().await.expect("no error").expect("the first event passes");
    put(&sdk).await.expect("put");
    while server.faults().list().iter().any(|fault| fault.id == rule && fault.fired == 0) {
        tokio::task::yield_now().await;
    }
    // However long it is listened to; and the connection serves other requests.
    assert!(frozen.recv().now_or_never().is_none());
    put(&sdk).await.expect("put");
    assert!(frozen.recv().now_or_never().is_none());
    assert_eq!(kinesis.running_subscriptions(), 1);
    // A successor takes its place, and gets what it did not deliver.
    clock.advance(Duration::from_secs(5));
    let mut successor = subscribe().await.expect("subscribed").event_stream;
    let SubscribeToShardEventStream::SubscribeToShardEvent(event) = successor.recv().await.expect("no error").expect("an event") else {
        panic!("no event of records");
    };
    assert_eq!(event.records.len(), 3);
    assert!(frozen.recv().now_or_never().is_none());
}

#[tokio::test]
async fn iterators_live_as_long_as_is_set() {
    let Setup { sdk, kinesis, clock, .. } = setup(Limits::off()).await;
    make(&sdk, "clicks", 1).await;
    kinesis.configure(|config| config.iterator_life = Duration::from_secs(2));
    let iterator = sdk.get_shard_iterator().stream_name("clicks").shard_id("shardId-000000000000");
    let iterator = iterator.shard_iterator_type(ShardIteratorType::Latest).send().await.expect("iterator").shard_iterator;
    clock.advance(Duration::from_secs(2));
    sdk.get_records().set_shard_iterator(iterator.clone()).send().await.expect("to the last moment");
    clock.advance(Duration::from_millis(1));
    let refused = sdk.get_records().set_shard_iterator(iterator).send().await.expect_err("too old").into_service_error();
    assert_eq!(refused.code(), Some("ExpiredIteratorException"));
    assert!(refused.message().is_some_and(|text| text.contains("2000 milliseconds")), "{refused:?}");
}

#[tokio::test]
async fn latency_delays_and_half_open_never_answers() {
    let kinesis = LocalKinesis::in_memory();
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
    let server = LocalServer::bind(crate::rig::LOOPBACK, kinesis.clone()).await.expect("a free port");
    let patient = Client::from_conf(sdk_config(&server.endpoint_url()).build());
    let timeouts = aws_sdk_kinesis::config::timeout::TimeoutConfig::builder().operation_timeout(Duration::from_millis(200)).build();
    let hasty = Client::from_conf(sdk_config(&server.endpoint_url()).timeout_config(timeouts).build());

    let delay = Duration::from_millis(30);
    server.faults().add(FaultRule::new(FaultKind::Latency(delay)).count(1)).expect("valid");
    let before = tokio::time::Instant::now();
    assert_eq!(put(&patient).await, Ok(()));
    assert!(before.elapsed() >= delay);
    server.faults().add(FaultRule::new(FaultKind::HalfOpen).count(1)).expect("valid");
    assert_eq!(put(&hasty).await, Err("timeout".to_owned()));
    assert_eq!(records(&kinesis).await, 1, "a request without an answer has no effect");
    // A request that waits for nothing does not keep the server.
    server.faults().add(FaultRule::new(FaultKind::HalfOpen).count(1)).expect("valid");
    let (outcome, ()) = tokio::join!(put(&patient), async {
        while server.faults().list().last().expect("added").fired == 0 {
            tokio::task::yield_now().await;
        }
        server.stop().await;
    });
    assert_eq!(outcome, Err("broken off".to_owned()));
}

#[tokio::test]
async fn subscriptions_are_cut_while_they_run() {
    let Setup { server, sdk, kinesis, clock, .. } = setup(Limits::off()).await;
    let arn = make(&sdk, "clicks", 1).await;
    let consumer = sdk.register_stream_consumer().stream_arn(&arn).consumer_name("app").send().await.expect("registered");
    let consumer = consumer.consumer.expect("present").consumer_arn;
    let latest = StartingPosition::builder().r#type(ShardIteratorType::Latest).build().expect("complete");
    let subscribe =
        || sdk.subscribe_to_shard().consumer_arn(&consumer).shard_id("shardId-000000000000").starting_position(latest.clone()).send();

    let mut events = subscribe().await.expect("subscribed").event_stream;
    server.faults().add(FaultRule::new(FaultKind::CutSubscription { error: None }).stream("clicks").count(1)).expect("valid");
    let cut = events.recv().await.expect_err("broken off");
    assert!(!matches!(cut, SdkError::ServiceError(_)), "{cut:?}");

    clock.advance(Duration::from_secs(5));
    let mut events = subscribe().await.expect("subscribed").event_stream;
    let error = Some("KMSThrottlingException".to_owned());
    server.faults().add(FaultRule::new(FaultKind::CutSubscription { error }).shard("shardId-000000000000").count(1)).expect("valid");
    let end = events.recv().await.expect_err("an exception").into_service_error();
    assert!(matches!(end, SubscribeToShardEventStreamError::KmsThrottlingException(_)), "{end:?}");
    assert_eq!(kinesis.running_subscriptions(), 0);
}

async fn admin(server: &LocalServer, method: Method, path: &str, body: Value) -> (u16, Value) {
    let socket = tokio::net::TcpStream::connect(server.local_addr()).await.expect("listening");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let uri = format!("http://{}/_shardkeeper/{path}", server.local_addr());
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let request = Request::builder().method(method).uri(uri).body(Full::new(body)).expect("valid");
    let response = sender.send_request(request).await.expect("answered");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn the_admin_endpoint_adds_lists_and_removes_rules() {
    let Setup { server, sdk, .. } = setup(Limits::off()).await;
    make(&sdk, "clicks", 1).await;
    let rule = json!({"operation": "PutRecord", "kind": "throttle", "count": 1});
    let more =
        json!([{"kind": "latency", "millis": 1, "probability": 0.5, "seed": 7}, {"operation": "*", "shard": "s", "kind": "half_open"}]);
    assert_eq!(admin(&server, Method::POST, "faults", rule).await, (200, json!({"ids": [1]})));
    assert_eq!(admin(&server, Method::POST, "faults", more).await, (200, json!({"ids": [2, 3]})));
    assert_eq!(put(&sdk).await, Err("ProvisionedThroughputExceededException".to_owned()));
    let (status, listed) = admin(&server, Method::GET, "faults", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(
        listed["faults"][0],
        json!({"id": 1, "matched": 1, "fired": 1, "operation": "PutRecord", "skip": 0, "count": 1, "seed": 0, "kind": "throttle"})
    );
    assert_eq!(admin(&server, Method::DELETE, "faults/2", Value::Null).await.1["faults"].as_array().map(Vec::len), Some(2));
    assert_eq!(admin(&server, Method::DELETE, "faults/2", Value::Null).await.0, 404);
    assert_eq!(admin(&server, Method::DELETE, "faults", Value::Null).await, (200, json!({"faults": []})));
    assert!(server.faults().list().is_empty());
    // Of a list with a rule that is wrong, none is added, and the answer says what is wrong.
    let wrong = json!([{"kind": "throttle"}, {"kind": "throttle", "operation": "DropTable"}]);
    let (status, message) = admin(&server, Method::POST, "faults", wrong).await;
    assert!(status == 400 && message["message"].as_str().is_some_and(|m| m.contains("DropTable")), "{message}");
    assert!(server.faults().list().is_empty());
    assert_eq!(admin(&server, Method::POST, "faults", json!("nonsense")).await.0, 400);
    assert_eq!(admin(&server, Method::GET, "elsewhere", Value::Null).await.0, 404);
}
