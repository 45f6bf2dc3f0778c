//! Requests to the local server: bodies in JSON and CBOR, and the headers around them.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use ciborium::Value as Cbor;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use serde_json::{Value, json};
use shardkeeper::local::Limits;
use tokio::{net::TcpStream, runtime::Runtime, task::JoinSet};

use super::{
    fuzz,
    mutation::{Edit, Graft, apply, edits, graft_all, grafts},
};
use crate::rig::{Setup, make, setup};

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";
const NUMBER: &str = "49680000000000000000000000000000000000000000000000000000";

/// Valid inputs of all operations that have some.
fn samples() -> Vec<(&'static str, Value)> {
    let stream = json!({ "StreamName": "clicks" });
    let consumer = format!("{ARN}/consumer/shop:1795262400");
    let tags = json!({ "team": "a", "stage": "b" });
    vec![
        ("AddTagsToStream", json!({ "StreamName": "clicks", "Tags": tags })),
        (
            "CreateStream",
            json!({ "StreamName": "other", "ShardCount": 2, "StreamModeDetails": { "StreamMode": "PROVISIONED" }, "Tags": tags }),
        ),
        ("DecreaseStreamRetentionPeriod", json!({ "StreamARN": ARN, "RetentionPeriodHours": 24 })),
        ("DeleteResourcePolicy", json!({ "ResourceARN": ARN })),
        ("DeleteStream", json!({ "StreamName": "other", "EnforceConsumerDeletion": true })),
        ("DeregisterStreamConsumer", json!({ "StreamARN": ARN, "ConsumerName": "shop" })),
        ("DescribeAccountSettings", json!({})),
        ("DescribeLimits", json!({})),
        ("DescribeStream", json!({ "StreamName": "clicks", "Limit": 10, "ExclusiveStartShardId": "shardId-000000000000" })),
        ("DescribeStreamConsumer", json!({ "ConsumerARN": consumer })),
        ("DescribeStreamSummary", stream.clone()),
        ("DisableEnhancedMonitoring", json!({ "StreamName": "clicks", "ShardLevelMetrics": ["ALL"] })),
        ("EnableEnhancedMonitoring", json!({ "StreamName": "clicks", "ShardLevelMetrics": ["IncomingBytes"] })),
        ("GetRecords", json!({ "ShardIterator": "AAAAAAAAAAE=", "Limit": 10, "StreamARN": ARN })),
        ("GetResourcePolicy", json!({ "ResourceARN": ARN })),
        (
            "GetShardIterator",
            json!({ "StreamName": "clicks", "ShardId": "shardId-000000000000", "ShardIteratorType": "AT_SEQUENCE_NUMBER",
                "StartingSequenceNumber": NUMBER, "Timestamp": 1_795_262_400 }),
        ),
        ("IncreaseStreamRetentionPeriod", json!({ "StreamName": "clicks", "RetentionPeriodHours": 48 })),
        (
            "ListShards",
            json!({ "StreamName": "clicks", "MaxResults": 2, "ShardFilter": { "Type": "AT_TIMESTAMP", "Timestamp": 1_795_262_400 } }),
        ),
        ("ListStreamConsumers", json!({ "StreamARN": ARN, "MaxResults": 5, "StreamCreationTimestamp": 1_795_262_400 })),
        ("ListStreams", json!({ "Limit": 5, "ExclusiveStartStreamName": "a" })),
        ("ListTagsForResource", json!({ "ResourceARN": ARN })),
        ("ListTagsForStream", json!({ "StreamName": "clicks", "Limit": 5, "ExclusiveStartTagKey": "a" })),
        (
            "MergeShards",
            json!({ "StreamName": "clicks", "ShardToMerge": "shardId-000000000000", "AdjacentShardToMerge": "shardId-000000000001" }),
        ),
        (
            "PutRecord",
            json!({ "StreamName": "clicks", "Data": "aGVsbG8=", "PartitionKey": "a", "ExplicitHashKey": "7", "SequenceNumberForOrdering": NUMBER }),
        ),
        (
            "PutRecords",
            json!({ "StreamName": "clicks", "Records": [{ "Data": "aGVsbG8=", "PartitionKey": "a" }, { "Data": "", "PartitionKey": "b", "ExplicitHashKey": "8" }] }),
        ),
        ("PutResourcePolicy", json!({ "ResourceARN": ARN, "Policy": "{\"Version\":\"2012-10-17\",\"Statement\":[]}" })),
        ("RegisterStreamConsumer", json!({ "StreamARN": ARN, "ConsumerName": "shop", "Tags": tags })),
        ("RemoveTagsFromStream", json!({ "StreamName": "clicks", "TagKeys": ["team"] })),
        ("SplitShard", json!({ "StreamName": "clicks", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000" })),
        ("StartStreamEncryption", json!({ "StreamName": "clicks", "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis" })),
        ("StopStreamEncryption", json!({ "StreamName": "clicks", "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis" })),
        (
            "SubscribeToShard",
            json!({ "ConsumerARN": consumer, "ShardId": "shardId-000000000000", "StartingPosition": { "Type": "TRIM_HORIZON", "SequenceNumber": NUMBER } }),
        ),
        ("TagResource", json!({ "ResourceARN": ARN, "Tags": tags })),
        ("UntagResource", json!({ "ResourceARN": ARN, "TagKeys": ["team"] })),
        ("UpdateAccountSettings", json!({ "MinimumThroughputBillingCommitment": { "Status": "ENABLED" } })),
        ("UpdateMaxRecordSize", json!({ "StreamARN": ARN, "MaxRecordSizeInKiB": 2048 })),
        ("UpdateShardCount", json!({ "StreamName": "clicks", "TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING" })),
        ("UpdateStreamMode", json!({ "StreamARN": ARN, "StreamModeDetails": { "StreamMode": "ON_DEMAND" } })),
        ("UpdateStreamRecordDistributionStrategy", json!({ "StreamARN": ARN, "RecordDistributionStrategy": "AUTO" })),
        ("UpdateStreamWarmThroughput", json!({ "StreamName": "clicks", "WarmThroughputMiBps": 8 })),
    ]
}

#[derive(Debug, Clone)]
struct Input {
    /// Modulo their number.
    sample: usize,
    grafts: Vec<Graft>,
    cbor: bool,
    edits: Vec<Edit>,
    /// Headers that take the place of the right ones, or come besides.
    headers: Vec<(&'static str, Vec<u8>)>,
    method: Method,
}

fn input() -> impl Strategy<Value = Input> {
    let names = ["x-amz-target", "content-type", "authorization", "x-amz-date", "accept", "x-amzn-requestid"];
    let values = prop_oneof![
        Just(b"Kinesis_20131202.".to_vec()),
        Just(b"Kinesis_20131202.ListStreams".to_vec()),
        Just(b"application/x-amz-cbor-1.1; charset=utf-8".to_vec()),
        Just(b"application/x-amz-json-1.0".to_vec()),
        prop::collection::vec(32_u8..127, 0..60),
        prop::collection::vec(128_u8..=255, 0..9),
    ];
    let headers = prop::collection::vec((prop::sample::select(names.to_vec()), values), 1..3);
    let methods = prop_oneof![9 => Just(Method::POST), 1 => prop::sample::select(vec![Method::GET, Method::PUT, Method::DELETE])];
    let bytes = prop_oneof![2 => Just(Vec::new()), 1 => edits()];
    (any::<u8>().prop_map(usize::from), grafts(), any::<bool>(), bytes, prop_oneof![4 => Just(Vec::new()), 1 => headers], methods)
        .prop_map(|(sample, grafts, cbor, edits, headers, method)| Input { sample, grafts, cbor, edits, headers, method })
}

/// `Data` is bytes in CBOR, and moments are whole milliseconds.
fn cbor(name: &str, value: &Value) -> Cbor {
    match value {
        Value::Null => Cbor::Null,
        Value::Bool(truth) => Cbor::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) if name.ends_with("imestamp") => Cbor::Tag(1, Box::new(whole.saturating_mul(1000).into())),
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) if name == "Data" => Cbor::Bytes(text.clone().into_bytes()),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Cbor::Array(items.iter().map(|item| cbor("", item)).collect()),
        Value::Object(members) => Cbor::Map(members.iter().map(|(name, value)| (name.as_str().into(), cbor(name, value))).collect()),
    }
}

/// A server that is new each round, so that no round depends on what another has done.
struct Target {
    setup: Setup,
    sender: SendRequest<Full<Bytes>>,
    _connections: JoinSet<()>,
}

impl Target {
    async fn new() -> Self {
        let setup = setup(Limits::off()).await;
        let arn = make(&setup.sdk, "clicks", 2).await;
        setup.sdk.register_stream_consumer().stream_arn(arn).consumer_name("shop").send().await.expect("registered");
        let mut connections = JoinSet::new();
        let sender = connect(&setup, &mut connections).await;
        Self { setup, sender, _connections: connections }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, Bytes) {
        if self.sender.ready().await.is_err() {
            self.sender = connect(&self.setup, &mut self._connections).await;
        }
        let response = self.sender.send_request(request).await.expect("every request is answered");
        let (head, mut body) = response.into_parts();
        if head.headers.get("content-type").is_some_and(|kind| kind == "application/vnd.amazon.eventstream") {
            // Only the first of the events, which do not end; the connection goes with the rest.
            let first = body.frame().await.expect("an event").expect("readable").into_data().unwrap_or_default();
            return (head.status, head.headers, first);
        }
        let body = tokio::time::timeout(Duration::from_secs(30), body.collect()).await.expect("in time").expect("whole").to_bytes();
        (head.status, head.headers, body)
    }
}

async fn connect(setup: &Setup, connections: &mut JoinSet<()>) -> SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(setup.server.local_addr()).await.expect("listening");
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
    connections.spawn(async move { drop(connection.await) });
    sender
}

fn request(input: &Input) -> Request<Full<Bytes>> {
    let samples = samples();
    let (operation, sample) = &samples[input.sample % samples.len()];
    let mut tree = sample.clone();
    graft_all(&input.grafts, &mut tree);
    let mut body = Vec::new();
    if input.cbor {
        ciborium::into_writer(&cbor("", &tree), &mut body).expect("in memory");
    } else {
        body = tree.to_string().into_bytes();
    }
    apply(&input.edits, &mut body);
    let kind = if input.cbor { "application/x-amz-cbor-1.1" } else { "application/x-amz-json-1.1" };
    let mut request = Request::builder()
        .method(input.method.clone())
        .uri("/")
        .header("host", "localhost")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .header("content-type", kind)
        .header("authorization", "AWS4-HMAC-SHA256 anything")
        .body(Full::new(body.into()))
        .expect("valid");
    for (name, value) in &input.headers {
        let value = HeaderValue::from_bytes(value).expect("visible bytes are allowed");
        drop(request.headers_mut().insert(HeaderName::from_static(name), value));
    }
    request
}

/// What is mutated must be valid, or all that is tried is how requests are refused.
#[test]
fn samples_are_understood() {
    let runtime = Runtime::new().expect("threads");
    let names: Vec<&str> = samples().iter().map(|(name, _)| *name).collect();
    for (index, name) in names.iter().enumerate() {
        for cbor in [false, true] {
            let mut target = runtime.block_on(Target::new());
            let input = Input { sample: index, grafts: Vec::new(), cbor, edits: Vec::new(), headers: Vec::new(), method: Method::POST };
            let (status, headers, body) = runtime.block_on(target.send(request(&input)));
            let error = headers.get("x-amzn-errortype").map(|name| name.to_str().expect("a text"));
            let understood = match error {
                None => status == StatusCode::OK,
                // The token, the number and the consumer's moment of registration are those of another server.
                Some(error) => ["InvalidArgumentException", "ResourceNotFoundException", "ResourceInUseException"].contains(&error),
            };
            assert!(understood, "{name}: {error:?} {body:?}");
        }
    }
}

#[test]
fn every_request_is_answered_and_none_breaks_the_server() {
    let runtime = Runtime::new().expect("threads");
    let target = RefCell::new(runtime.block_on(Target::new()));
    let round = || *target.borrow_mut() = runtime.block_on(Target::new());
    fuzz(input(), round, |input| {
        let mut target = target.borrow_mut();
        target.setup.clock.advance(Duration::from_millis(50));
        let (status, headers, body) = runtime.block_on(target.send(request(&input)));
        prop_assert!(matches!(status.as_u16(), 200 | 400 | 404 | 413), "{status}: {body:?}");
        prop_assert!(headers.contains_key("x-amzn-requestid"));
        match headers["content-type"].to_str().expect("a text") {
            "application/x-amz-json-1.1" if !body.is_empty() => drop(serde_json::from_slice::<Value>(&body).expect("JSON")),
            "application/x-amz-cbor-1.1" if !body.is_empty() => drop(ciborium::from_reader::<Cbor, _>(&body[..]).expect("CBOR")),
            "application/vnd.amazon.eventstream" => {
                let message = aws_smithy_eventstream::frame::read_message_from(&mut &body[..]).expect("a message");
                prop_assert!(message.headers().iter().any(|header| header.name().as_str() == ":message-type"));
            }
            _ => prop_assert!(body.is_empty(), "{headers:?}"),
        }
        if !status.is_success() {
            prop_assert!(headers.contains_key("x-amzn-errortype"), "an error without a name");
        }
        Ok(())
    });
}
