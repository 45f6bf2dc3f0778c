//! Answers the calls of a reader from pre-rendered bodies, so that the reader is what is measured.
//!
//! It has one endless stream without limits. HTTP/1.1 and clear-text HTTP/2 with prior knowledge share a port; GetRecords
//! is answered in JSON or CBOR, as it is asked, and SubscribeToShard with an event stream that is as fast as the
//! connection's flow control allows.

mod body;
mod payload;
mod render;

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::conn::auto};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::LocalSet};

pub(crate) use self::payload::Content;
use self::{
    body::{Answer, Place},
    render::{Format, Rendered},
};
use crate::{job::announce, rig::Result};

/// The name of the stream.
pub(crate) const STREAM: &str = "read";
const STREAM_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/read";
const CREATED: u64 = 1_795_219_418;
/// Most bytes of payloads in an answer, as the service has it.
const ANSWER_BYTES: usize = 10 * 1024 * 1024;
/// Of payloads in an event.
const EVENT_BYTES: usize = 512 * 1024;

/// What it answers with.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Config {
    pub(crate) shards: u32,
    pub(crate) content: Content,
}

/// Serves until the parent is gone; says its address first.
pub(crate) fn run(config: Config) -> Result {
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        std::process::exit(0);
    });
    // One thread: the reader gets the other cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (payload, _) = config.content.payload();
    let responder = Arc::new(Responder {
        shards: config.shards,
        payload_bytes: payload.len(),
        json: Arc::new(Rendered::new(Format::Json, &payload)?),
        cbor: Arc::new(Rendered::new(Format::Cbor, &payload)?),
    });
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        // Where the system's choice is BBR, timers pace what is sent, and their work is charged to whoever runs: the reader.
        drop(rustix::net::sockopt::set_tcp_congestion(&listener, "cubic"));
        announce(&format!("http://{}", listener.local_addr()?))?;
        loop {
            let (connection, _) = listener.accept().await?;
            connection.set_nodelay(true)?;
            let responder = Arc::clone(&responder);
            tokio::task::spawn_local(async move {
                let mut server = auto::Builder::new(LocalExecutor);
                server.http2().max_concurrent_streams(1000).max_send_buf_size(1 << 20);
                let service = service_fn(move |request| {
                    let responder = Arc::clone(&responder);
                    async move { responder.respond(request).await }
                });
                // The reader has gone away.
                drop(server.serve_connection(TokioIo::new(connection), service).await);
            });
        }
    })
}

struct Responder {
    shards: u32,
    payload_bytes: usize,
    json: Arc<Rendered>,
    cbor: Arc<Rendered>,
}

type Body = Either<Full<Bytes>, Answer>;

impl Responder {
    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        match self.answer(request).await {
            Ok(response) => Ok(response),
            Err(error) => {
                let mut response = Response::new(Either::Left(Full::from(error.to_string())));
                *response.status_mut() = http::StatusCode::BAD_REQUEST;
                Ok(response)
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let header = |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (content_type, target) = (header(CONTENT_TYPE), header(HeaderName::from_static("x-amz-target")));
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let rendered = if content_type.contains("cbor") { &self.cbor } else { &self.json };
        let body = request.into_body().collect().await?.to_bytes();
        let input = rendered.format.read(&body)?;
        let text = |name: &str| input[name].as_str().unwrap_or_default();
        let body = match operation.as_str() {
            "GetRecords" => {
                let place = Place::from_iterator(text("ShardIterator"))?;
                let limit = input["Limit"].as_u64().map_or(10_000, |limit| limit.min(10_000)) as usize;
                Either::Right(Answer::page(Arc::clone(rendered), place, limit.min(ANSWER_BYTES / self.payload_bytes).max(1)))
            }
            "SubscribeToShard" => {
                let place = Place::after(text("ShardId"), input["StartingPosition"]["SequenceNumber"].as_str())?;
                Either::Right(Answer::events(Arc::clone(rendered), place, (EVENT_BYTES / self.payload_bytes).clamp(1, 10_000)))
            }
            "GetShardIterator" => {
                let place = Place::after(text("ShardId"), input["StartingSequenceNumber"].as_str())?;
                Either::Left(rendered.format.write(&json!({ "ShardIterator": place.iterator() }))?.into())
            }
            other => Either::Left(rendered.format.write(&self.control(other, rendered.format)?)?.into()),
        };
        let content_type =
            if operation == "SubscribeToShard" { "application/vnd.amazon.eventstream" } else { rendered.format.content_type() };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    /// Everything that is not about records.
    fn control(&self, operation: &str, format: Format) -> Result<Value> {
        let created = format.moment(CREATED);
        let consumer = json!({
            "ConsumerName": "read",
            "ConsumerARN": format!("{STREAM_ARN}/consumer/read:1"),
            "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": created,
            "StreamARN": STREAM_ARN,
        });
        Ok(match operation {
            "DescribeStreamConsumer" => json!({ "ConsumerDescription": consumer }),
            "RegisterStreamConsumer" => json!({ "Consumer": consumer }),
            "ListShards" => json!({ "Shards": (0..self.shards).map(|shard| self.shard(shard)).collect::<Vec<_>>() }),
            "DescribeStreamSummary" => json!({ "StreamDescriptionSummary": {
                "StreamName": STREAM,
                "StreamARN": STREAM_ARN,
                "StreamStatus": "ACTIVE",
                "RetentionPeriodHours": 24,
                "StreamCreationTimestamp": created,
                "EnhancedMonitoring": [],
                "OpenShardCount": self.shards,
            }}),
            other => return Err(format!("the responder does not know {other:?}").into()),
        })
    }

    fn shard(&self, shard: u32) -> Value {
        let part = u128::MAX / u128::from(self.shards);
        let first = part * u128::from(shard);
        let last = if shard + 1 == self.shards { u128::MAX } else { first + part - 1 };
        json!({
            "ShardId": format!("shardId-{shard:012}"),
            "HashKeyRange": { "StartingHashKey": first.to_string(), "EndingHashKey": last.to_string() },
            "SequenceNumberRange": { "StartingSequenceNumber": Place { shard, position: 0 }.sequence_number() },
        })
    }
}

/// Tasks stay on the thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}
