//! Answers to the client: event streams of SubscribeToShard and pages of GetRecords that are not what they should be.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use ciborium::Value as Cbor;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use serde_json::{Value, json};
use shardkeeper::{
    stream::{ShardIterator, ShardPosition, StreamClient, aws::AwsStreamClient},
    types::ShardId,
};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

use super::{
    fuzz,
    mutation::{Edit, Graft, apply, edits, graft_all, grafts},
};
use crate::rig::{LOOPBACK, sdk_config};

const NUMBER: &str = "49680000000000000000000000000000000000000000000000000002";
/// Far more than any of these inputs takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The body that the server answers everything with, once as JSON and once as CBOR.
type Canned = Arc<Mutex<[Bytes; 2]>>;

/// A server that says what it is told to.
struct Parrot {
    canned: Canned,
    client: AwsStreamClient,
    _tasks: JoinSet<()>,
}

impl Parrot {
    async fn new(events: bool) -> Self {
        let canned = Canned::default();
        let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
        let addr: SocketAddr = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        let answers = Arc::clone(&canned);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let answers = Arc::clone(&answers);
                connections.spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = service_fn(move |request| {
                        let answer = answer(&answers, &request, events);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    // A client that does not like an answer closes the connection.
                    drop(server.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        let client = AwsStreamClient::from_builder(sdk_config(&format!("http://{addr}")), Default::default());
        Self { canned, client, _tasks: tasks }
    }

    fn say(&self, bodies: [Vec<u8>; 2]) {
        *self.canned.lock().unwrap_or_else(PoisonError::into_inner) = bodies.map(Bytes::from);
    }
}

fn answer(canned: &Canned, request: &Request<Incoming>, events: bool) -> Response<Full<Bytes>> {
    let asked = request.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let cbor = asked.contains("cbor");
    let [as_json, as_cbor] = canned.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let kind = if events { "application/vnd.amazon.eventstream" } else { asked };
    Response::builder().header("content-type", kind).body(Full::new(if cbor { as_cbor } else { as_json })).expect("valid")
}

fn records() -> Value {
    json!([
        { "SequenceNumber": NUMBER, "ApproximateArrivalTimestamp": 1_795_262_400, "Data": "aGVsbG8=", "PartitionKey": "a", "EncryptionType": "KMS" },
        { "SequenceNumber": "49680000000000000000000000000000000000000000000000000034", "Data": "", "PartitionKey": "" },
    ])
}

fn child() -> Value {
    json!({ "ShardId": "shardId-000000000001", "ParentShards": ["shardId-000000000000"], "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "9" } })
}

fn in_cbor(name: &str, value: &Value) -> Cbor {
    match value {
        Value::String(text) if name == "Data" => Cbor::Bytes(text.clone().into_bytes()),
        Value::Number(number) if name.ends_with("Timestamp") => number.as_i64().unwrap_or(0).saturating_mul(1000).into(),
        Value::Object(members) => Cbor::Map(members.iter().map(|(name, value)| (name.as_str().into(), in_cbor(name, value))).collect()),
        Value::Array(items) => Cbor::Array(items.iter().map(|item| in_cbor("", item)).collect()),
        plain => Cbor::serialized(plain).expect("plain values are CBOR"),
    }
}

fn encode(tree: &Value, cbor: bool) -> Vec<u8> {
    if !cbor {
        return tree.to_string().into_bytes();
    }
    let mut body = Vec::new();
    ciborium::into_writer(&in_cbor("", tree), &mut body).expect("in memory");
    body
}

/// A message with right lengths and checksums, whatever is in it.
fn message(headers: &[(String, String)], payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.put_u8(name.len() as u8);
        encoded.put_slice(name.as_bytes());
        encoded.put_u8(7);
        encoded.put_u16(value.len() as u16);
        encoded.put_slice(value.as_bytes());
    }
    let mut message = Vec::new();
    message.put_u32((12 + encoded.len() + payload.len() + 4) as u32);
    message.put_u32(encoded.len() as u32);
    message.put_u32(crc32fast::hash(&message));
    message.put_slice(&encoded);
    message.put_slice(payload);
    message.put_u32(crc32fast::hash(&message));
    message
}

#[derive(Debug, Clone)]
struct Event {
    headers: Vec<(String, String)>,
    grafts: Vec<Graft>,
    payload: Vec<Edit>,
    message: Vec<Edit>,
}

fn event() -> impl Strategy<Value = Event> {
    let headers = |kind: &str, name: &str| {
        vec![
            (":message-type".to_owned(), kind.to_owned()),
            (format!(":{kind}-type"), name.to_owned()),
            (":content-type".to_owned(), "application/json".to_owned()),
        ]
    };
    let headers = prop_oneof![
        6 => Just(headers("event", "SubscribeToShardEvent")),
        1 => Just(headers("event", "initial-response")),
        1 => Just(headers("exception", "ResourceInUseException")),
        1 => Just(headers("exception", "NoSuchException")),
        1 => prop::collection::vec(("[:a-z-]{0,20}", "\\PC{0,20}"), 0..4),
    ];
    let rare = || prop_oneof![4 => Just(Vec::new()), 1 => edits()];
    (headers, grafts(), rare(), rare()).prop_map(|(headers, grafts, payload, message)| Event { headers, grafts, payload, message })
}

fn stream(events: &[Event], cbor: bool) -> Vec<u8> {
    let mut body = message(
        &[(":message-type".into(), "event".into()), (":event-type".into(), "initial-response".into())],
        if cbor { b"\xa0" } else { b"{}" },
    );
    for event in events {
        let mut tree =
            json!({ "Records": records(), "ContinuationSequenceNumber": NUMBER, "MillisBehindLatest": 5, "ChildShards": [child()] });
        graft_all(&event.grafts, &mut tree);
        let mut payload = encode(&tree, cbor);
        apply(&event.payload, &mut payload);
        let mut bytes = message(&event.headers, &payload);
        apply(&event.message, &mut bytes);
        body.extend(bytes);
    }
    body
}

#[test]
fn event_streams_end_or_fail_and_never_hang() {
    let runtime = Runtime::new().expect("threads");
    let parrot = runtime.block_on(Parrot::new(true));
    let consumer = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks/consumer/shop:1795262400".parse().expect("valid");
    fuzz(
        prop::collection::vec(event(), 0..4),
        || {},
        |events| {
            parrot.say([stream(&events, false), stream(&events, true)]);
            let read = async {
                let mut subscription =
                    parrot.client.subscribe_to_shard(&consumer, &ShardId::from_index(0), ShardPosition::TrimHorizon).await?;
                let mut received = 0;
                while let Some(event) = subscription.next().await? {
                    received += 1;
                    drop(event);
                }
                Ok::<_, shardkeeper::Error>(received)
            };
            let outcome = runtime.block_on(async { tokio::time::timeout(PATIENCE, read).await });
            prop_assert!(outcome.is_ok(), "it hangs");
            if let Ok(Ok(received)) = outcome {
                prop_assert!(received <= events.len() + 64, "{received} events of {}", events.len());
            }
            Ok(())
        },
    );
}

#[test]
fn pages_are_read_or_refused_and_never_hang() {
    let runtime = Runtime::new().expect("threads");
    let parrot = runtime.block_on(Parrot::new(false));
    let stream = "clicks".parse().expect("a name");
    fuzz(
        (grafts(), prop_oneof![2 => Just(Vec::new()), 1 => edits()]),
        || {},
        |(grafts, edits)| {
            let mut tree = json!({ "Records": records(), "NextShardIterator": "AAAA", "MillisBehindLatest": 5, "ChildShards": [child()] });
            graft_all(&grafts, &mut tree);
            let bodies = [false, true].map(|cbor| {
                let mut body = encode(&tree, cbor);
                apply(&edits, &mut body);
                body
            });
            let bytes = bodies[0].len().max(bodies[1].len());
            parrot.say(bodies);
            let iterator = ShardIterator("AAAA".to_owned());
            let outcome =
                runtime.block_on(async { tokio::time::timeout(PATIENCE, parrot.client.get_records(&stream, &iterator, 10)).await });
            prop_assert!(outcome.is_ok(), "it hangs");
            if let Ok(Ok(page)) = outcome {
                prop_assert!(page.records.iter().map(|record| record.data().len()).sum::<usize>() <= bytes, "payloads from nowhere");
                if grafts.is_empty() && edits.is_empty() {
                    prop_assert_eq!(page.records.len(), 2);
                }
            }
            Ok(())
        },
    );
}
