use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::local::{Config, CreateStream};

fn endpoint() -> Endpoint {
    let clock = std::sync::Arc::new(crate::clock::SystemClock);
    let kinesis = LocalKinesis::new(Config::default(), clock, Randomness::seeded(7));
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
    Endpoint::new(kinesis, Randomness::seeded(1), Faults::default(), CancellationToken::new())
}

struct Ask {
    method: Method,
    target: &'static str,
    content_type: &'static str,
    signed: bool,
    body: &'static [u8],
}

const JSON: &str = "application/x-amz-json-1.1";
const LIST: Ask = Ask { method: Method::POST, target: "Kinesis_20131202.ListStreams", content_type: JSON, signed: true, body: b"{}" };

impl Ask {
    fn answer(self, endpoint: &Endpoint) -> (u16, String, String) {
        let mut request = Request::builder().method(self.method).uri("/");
        if !self.target.is_empty() {
            request = request.header("X-Amz-Target", self.target);
        }
        if !self.content_type.is_empty() {
            request = request.header("Content-Type", self.content_type);
        }
        if self.signed {
            request = request.header("Authorization", "AWS4-HMAC-SHA256 Credential=anything");
        }
        let (head, ()) = request.body(()).expect("valid").into_parts();
        let response = endpoint.respond(&head, Ok(Bytes::from_static(self.body)));
        assert!(response.headers().contains_key("x-amzn-requestid"));
        let code = response.headers().get("x-amzn-errortype").map(|v| v.to_str().expect("ASCII").to_owned()).unwrap_or_default();
        (response.status().as_u16(), code, text(response))
    }
}

fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().now_or_never().expect("in memory").expect("in memory").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[test]
fn wrong_requests_are_refused_by_the_services_names() {
    let endpoint = endpoint();
    assert_eq!(LIST.answer(&endpoint).0, 200);
    for (ask, status, code) in [
        (Ask { method: Method::GET, ..LIST }, 404, "UnknownOperationException"),
        (Ask { target: "", ..LIST }, 400, "UnknownOperationException"),
        (Ask { target: "Kinesis_20131202.DropTable", ..LIST }, 400, "UnknownOperationException"),
        (Ask { target: "DynamoDB_20120810.ListTables", ..LIST }, 400, "UnknownOperationException"),
        (Ask { content_type: "text/plain", ..LIST }, 400, "UnknownOperationException"),
        (Ask { content_type: "", ..LIST }, 400, "UnknownOperationException"),
        (Ask { signed: false, ..LIST }, 400, "MissingAuthenticationTokenException"),
        (Ask { body: b"", ..LIST }, 400, "SerializationException"),
        (Ask { body: b"{", ..LIST }, 400, "SerializationException"),
        (Ask { body: b"[]", ..LIST }, 400, "SerializationException"),
        (Ask { body: br#"{"Limit":"many"}"#, ..LIST }, 400, "SerializationException"),
        (Ask { body: br#"{"Limit":0}"#, ..LIST }, 400, "ValidationException"),
        (Ask { target: "Kinesis_20131202.PutRecord", ..LIST }, 400, "InvalidArgumentException"),
        (Ask { target: "Kinesis_20131202.DescribeStream", body: br#"{"StreamName":"none"}"#, ..LIST }, 400, "ResourceNotFoundException"),
        (
            Ask { target: "Kinesis_20131202.PutRecord", body: br#"{"StreamName":"clicks","Data":"!","PartitionKey":"k"}"#, ..LIST },
            400,
            "SerializationException",
        ),
        (
            Ask { target: "Kinesis_20131202.PutRecord", body: br#"{"StreamName":"clicks","PartitionKey":"k"}"#, ..LIST },
            400,
            "ValidationException",
        ),
    ] {
        let what = format!("{} {}", ask.target, String::from_utf8_lossy(ask.body));
        let (got_status, got_code, body) = ask.answer(&endpoint);
        assert_eq!((got_status, got_code.as_str()), (status, code), "{what}: {body}");
        assert!(body.contains(&format!("\"__type\":\"{code}\"")), "{body}");
    }
}

#[test]
fn refusals_never_show_partition_keys() {
    let body = format!(r#"{{"StreamName":"clicks","Data":"","PartitionKey":"{}"}}"#, "canary".repeat(60));
    let ask = Ask { target: "Kinesis_20131202.PutRecord", body: Box::leak(body.into_boxed_str()).as_bytes(), ..LIST };
    let (status, code, body) = ask.answer(&endpoint());
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
    assert!(!body.contains("canary"), "{body}");
}

/// Bodies that are nearly right: known members with any value.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let members = prop::sample::select(vec![
        "StreamName",
        "StreamARN",
        "ShardId",
        "ShardIterator",
        "ShardIteratorType",
        "StartingSequenceNumber",
        "Timestamp",
        "Limit",
        "Data",
        "PartitionKey",
        "ExplicitHashKey",
        "Records",
        "ShardCount",
        "NextToken",
        "MaxResults",
        "ShardFilter",
        "ShardToSplit",
        "NewStartingHashKey",
        "ShardToMerge",
        "AdjacentShardToMerge",
        "TargetShardCount",
        "ScalingType",
        "RetentionPeriodHours",
        "StreamModeDetails",
        "ExclusiveStartShardId",
        "SequenceNumberForOrdering",
        "StreamCreationTimestamp",
        "ConsumerARN",
        "ConsumerName",
        "ResourceARN",
        "StartingPosition",
        "Tags",
        "TagKeys",
        "KeyId",
        "EncryptionType",
        "ShardLevelMetrics",
        "MaxRecordSizeInKiB",
        "Policy",
    ]);
    let values = prop_oneof![
        Just("\"clicks\"".to_owned()),
        Just("\"shardId-000000000000\"".to_owned()),
        Just("\"AT_SEQUENCE_NUMBER\"".to_owned()),
        Just("\"AT_TIMESTAMP\"".to_owned()),
        Just("\"UNIFORM_SCALING\"".to_owned()),
        Just("{\"Type\":\"AT_TIMESTAMP\",\"Timestamp\":1e300}".to_owned()),
        Just("[{\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\",\"ExplicitHashKey\":\"0\"}]".to_owned()),
        Just("\"arn:aws:kinesis:us-east-1:123456789012:stream/clicks\"".to_owned()),
        Just("\"arn:aws:kinesis:us-east-1:123456789012:stream/clicks/consumer/app:1795262400\"".to_owned()),
        Just("{\"Type\":\"LATEST\"}".to_owned()),
        Just("{\"k\":\"v\"}".to_owned()),
        Just("[\"ALL\"]".to_owned()),
        Just("\"KMS\"".to_owned()),
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no such numbers", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "[0-9]{1,60}".prop_map(|s| format!("\"{s}\"")),
        "[ -~]{0,300}".prop_map(|s| serde_json::to_string(&s).expect("a text")),
    ];
    prop::collection::vec((members, values), 0..6).prop_map(|pairs| {
        let members: Vec<String> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    })
}

/// As CBOR, when it is JSON.
fn as_cbor(json: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let mut body = Vec::new();
    ciborium::into_writer(&value, &mut body).ok()?;
    Some(body)
}

proptest! {
    #[test]
    fn hostile_bodies_are_answered_and_never_fail_inside(
        body in prop_oneof![nearly_right(), prop::collection::vec(any::<u8>(), 0..200)],
        noise: Vec<u8>,
    ) {
        // `respond` turns a panic into status 500, so any 500 is a bug.
        let endpoint = endpoint();
        for (name, _) in crate::local::server::operations::TABLE {
            for (content_type, body) in [
                (JSON, Some(body.clone())),
                ("application/x-amz-cbor-1.1", as_cbor(&body)),
                ("application/x-amz-cbor-1.1", Some(noise.clone())),
            ] {
                let Some(body) = body else { continue };
                let request = Request::builder()
                    .method(Method::POST)
                    .header("X-Amz-Target", format!("{TARGET_PREFIX}{name}"))
                    .header("Content-Type", content_type)
                    .header("Authorization", "any");
                let (head, ()) = request.body(()).expect("valid").into_parts();
                let status = endpoint.respond(&head, Ok(body.into())).status().as_u16();
                prop_assert!(status == 200 || status == 400, "{} answered {}", name, status);
            }
        }
    }
}
