//! Reading over the wire: in both formats, over both versions of HTTP, from servers that do not behave, and what it
//! costs in allocations.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};
use aws_smithy_types::body::SdkBody;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use shardkeeper::{
    ErrorKind, Result,
    clock::SystemClock,
    local::{Config, FanOut, Limits, LocalKinesis, server::LocalServer},
    random::Randomness,
    stream::{
        RecordsPage, ShardIterator, ShardPosition, StreamClient, StreamReference,
        aws::{self, AwsStreamClient, Format},
        conformance::{CASES, Suite},
    },
    types::ShardId,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::rig::{LOOPBACK, make, sdk_config, setup};

/// An HTTP client that a user brings: clear-text HTTP/2 with prior knowledge, over one connection.
#[derive(Debug, Clone)]
struct OverHttp2 {
    sender: SendRequest<SdkBody>,
}

impl OverHttp2 {
    async fn connect(server: &LocalServer) -> Self {
        let socket = tokio::net::TcpStream::connect(server.local_addr()).await.expect("listening");
        socket.set_nodelay(true).expect("connected");
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        Self { sender }
    }
}

impl HttpClient for OverHttp2 {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

impl HttpConnector for OverHttp2 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut sender = self.sender.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
            let response = sender.send_request(request).await.map_err(|e| ConnectorError::io(e.into()))?;
            assert_eq!(response.version(), http::Version::HTTP_2);
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x)).map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}

/// A local server on which what takes the service seconds is short: real time passes here.
async fn quick_server() -> LocalServer {
    let fan_out =
        FanOut { idle_event_interval: Duration::from_millis(200), takeover_after: Duration::from_millis(1500), ..FanOut::default() };
    let config = Config { limits: Limits::off(), fan_out, ..Config::default() };
    let kinesis = LocalKinesis::new(config, Arc::new(SystemClock), Randomness::seeded(3));
    LocalServer::bind(LOOPBACK, kinesis).await.expect("a free port")
}

fn in_format(records_format: Format) -> aws::Config {
    aws::Config { records_format, ..aws::Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_in_json() {
    let server = quick_server().await;
    let client = AwsStreamClient::from_builder(sdk_config(&server.endpoint_url()), in_format(Format::Json));
    Suite::new(&client, &client, "suite").run(CASES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_over_http_2_with_a_client_that_the_user_brings() {
    for format in [Format::Cbor, Format::Json] {
        let server = quick_server().await;
        let builder = sdk_config(&server.endpoint_url()).http_client(OverHttp2::connect(&server).await);
        let client = AwsStreamClient::from_builder(builder, in_format(format));
        Suite::new(&client, &client, "suite").run(CASES).await;
    }
}

/// A server that answers each request as it is told, and remembers which formats it was asked in.
struct Canned {
    endpoint: String,
    asked: Arc<Mutex<Vec<Format>>>,
    _accepting: tokio::task::JoinSet<()>,
}

type Answer = fn(Format) -> (&'static str, &'static [u8]);

impl Canned {
    /// `answer` gives the head after the version, without the length, and the body.
    async fn serve(answer: Answer) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let asked: Arc<Mutex<Vec<Format>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !is_complete(&request) {
                    socket.read_buf(&mut request).await.expect("a request");
                }
                let cbor = String::from_utf8_lossy(&request).contains("application/x-amz-cbor-1.1");
                let format = if cbor { Format::Cbor } else { Format::Json };
                seen.lock().expect("not poisoned").push(format);
                let (head, body) = answer(format);
                let length = if head.contains("content-length") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
                let head = format!("HTTP/1.1 {head}\r\n{length}connection: close\r\n\r\n");
                socket.write_all(&[head.as_bytes(), body].concat()).await.expect("still open");
                socket.shutdown().await.expect("still open");
            }
        });
        Self { endpoint, asked, _accepting: accepting }
    }

    async fn read(&self, client: &AwsStreamClient) -> Result<RecordsPage> {
        let stream: StreamReference = "clicks".parse().expect("valid");
        client.get_records(&stream, &ShardIterator("iterator".to_owned()), 100).await
    }

    fn client(&self) -> AwsStreamClient {
        AwsStreamClient::from_builder(sdk_config(&self.endpoint), aws::Config::default())
    }

    fn asked(&self) -> Vec<Format> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.trim().parse::<usize>().ok());
    let start = request.windows(4).position(|four| four == b"\r\n\r\n").expect("found above") + 4;
    request.len() >= start + length.expect("the SDK says how long its requests are")
}

const PAGE: &[u8] =
    br#"{"Records":[{"SequenceNumber":"7","Data":"aGk=","PartitionKey":"k"}],"NextShardIterator":"n","MillisBehindLatest":0}"#;
const OK_JSON: &str = "200 OK\r\ncontent-type: application/x-amz-json-1.1";
const OK_CBOR: &str = "200 OK\r\ncontent-type: application/x-amz-cbor-1.1";

#[tokio::test]
async fn a_server_that_refuses_cbor_is_asked_in_json_from_then_on() {
    let refusals: [Answer; 3] = [
        |_| ("415 Unsupported Media Type\r\ncontent-type: text/html", b"<html>"),
        |_| ("400 Bad Request\r\ncontent-type: application/x-amz-json-1.1", br#"{"__type":"UnknownOperationException"}"#),
        |_| ("400 Bad Request\r\ncontent-type: application/x-amz-cbor-1.1", b"\xa1\x66__type\x76SerializationException"),
    ];
    let answers: [Answer; 3] = [
        |format| {
            if format == Format::Json { (OK_JSON, PAGE) } else { ("415 Unsupported Media Type\r\ncontent-type: text/html", b"<html>") }
        },
        |format| {
            let refusal =
                ("400 Bad Request\r\ncontent-type: application/x-amz-json-1.1", &br#"{"__type":"UnknownOperationException"}"#[..]);
            if format == Format::Json { (OK_JSON, PAGE) } else { refusal }
        },
        |format| {
            let refusal = ("400 Bad Request\r\ncontent-type: application/x-amz-cbor-1.1", &b"\xa1\x66__type\x76SerializationException"[..]);
            if format == Format::Json { (OK_JSON, PAGE) } else { refusal }
        },
    ];
    for answer in answers {
        let server = Canned::serve(answer).await;
        let client = server.client();
        for _ in 0..2 {
            let page = server.read(&client.clone()).await.expect("read in JSON");
            assert_eq!(&page.records[0].data()[..], b"hi");
        }
        assert_eq!(server.asked(), [Format::Cbor, Format::Json, Format::Json]);
    }
    // What is refused in JSON too was not refused for its format.
    for answer in refusals {
        let server = Canned::serve(answer).await;
        let client = server.client();
        for _ in 0..2 {
            server.read(&client).await.expect_err("refused");
        }
        assert_eq!(server.asked(), [Format::Cbor, Format::Json, Format::Cbor, Format::Json]);
    }
}

#[tokio::test]
async fn trouble_of_a_server_says_nothing_of_its_formats() {
    let answers: [Answer; 5] = [
        |_| ("500 Internal Server Error\r\ncontent-type: text/plain", b"oh"),
        |_| ("503 Service Unavailable\r\ncontent-type: text/html", b"<html>"),
        |_| ("429 Too Many Requests\r\ncontent-type: text/plain", b"slowly"),
        |_| ("400 Bad Request\r\ncontent-type: application/x-amz-json-1.1", br#"{"__type":"ProvisionedThroughputExceededException"}"#),
        |_| ("403 Forbidden\r\ncontent-type: text/html", b"<html>"),
    ];
    for answer in answers {
        let server = Canned::serve(answer).await;
        server.read(&server.client()).await.expect_err("refused");
        assert_eq!(server.asked(), [Format::Cbor], "it is not asked for the same in JSON");
    }
}

#[tokio::test]
async fn errors_in_cbor_say_what_those_in_json_say() {
    let cbor: Answer = |_| {
        let body = b"\xa2\x66__type\x78\x20kinesis#ExpiredIteratorException\x67message\x64late";
        ("400 Bad Request\r\ncontent-type: application/x-amz-cbor-1.1", body)
    };
    let named_by_header: Answer = |_| {
        let head = "400 Bad Request\r\ncontent-type: application/x-amz-cbor-1.1\r\nx-amzn-errortype: ProvisionedThroughputExceededException:http://x";
        (head, b"\xa1\x67message\x64slow")
    };
    for (answer, kind, text) in [(cbor, ErrorKind::ExpiredIterator, "late"), (named_by_header, ErrorKind::Throttled, "slow")] {
        let server = Canned::serve(answer).await;
        let error = server.read(&server.client()).await.expect_err("refused");
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(server.asked(), [Format::Cbor], "an answer in CBOR is final");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_read_name_the_call() {
    let cases: [(Answer, ErrorKind); 4] = [
        (|_| (OK_CBOR, b"\xa1\x67Records\x07"), ErrorKind::InvalidData),
        (|_| (OK_JSON, b"{\"Records\":[{\"Data\":\"aGk=\"}]}"), ErrorKind::InvalidData),
        (|_| ("200 OK\r\ncontent-type: text/html", b"<html>"), ErrorKind::InvalidData),
        (|_| ("200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 500", PAGE), ErrorKind::Unavailable),
    ];
    for (answer, kind) in cases {
        let server = Canned::serve(answer).await;
        let error = server.read(&server.client()).await.expect_err("unreadable");
        assert_eq!(error.kind(), kind, "{error:#}");
        assert!(error.to_string().contains("GetRecords on stream clicks in us-east-1"), "{error}");
    }
    // Both formats are fine whatever was asked for.
    let server = Canned::serve(|_| (OK_JSON, PAGE)).await;
    assert_eq!(server.read(&server.client()).await.expect("readable").records.len(), 1);
}

/// Ten thousand records of a kibibyte, as one call returns them.
const RECORDS: usize = 10_000;

/// What opening a shard and one call may allocate, whatever the number of records; nearly all of it is the SDK's.
const MOST_ALLOCATIONS: u64 = 1500;
/// What 10 MiB more may add: a block per 256 KiB, the list of records as it grows, and the HTTP client's buffers.
const MOST_FOR_RECORDS: u64 = 300;

#[test]
fn allocations_do_not_grow_with_records() {
    let (address, endpoint) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // The counters are the thread's: the server has another one.
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let setup = setup(Limits::off()).await;
            make(&setup.sdk, "clicks", 1).await;
            for _ in 0..RECORDS / 500 {
                let entry = || PutRecordsRequestEntry::builder().data(Blob::new(vec![7; 1024])).partition_key("key-of-a-user").build();
                let entries = (0..500).map(|_| entry().expect("complete")).collect();
                setup.sdk.put_records().stream_name("clicks").set_records(Some(entries)).send().await.expect("put");
            }
            address.send(setup.server.endpoint_url()).expect("awaited");
            drop(stopped.await);
        });
    });
    let endpoint = endpoint.recv().expect("a server");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stream: StreamReference = "clicks".parse().expect("valid");
    for format in [Format::Cbor, Format::Json] {
        let client = AwsStreamClient::from_builder(sdk_config(&endpoint), in_format(format));
        let read = |limit| {
            runtime.block_on(async {
                let iterator = client.shard_iterator(&stream, &ShardId::from_index(0), ShardPosition::TrimHorizon).await.expect("iterator");
                client.get_records(&stream, &iterator, limit).await.expect("records").records.len()
            })
        };
        // Connection, credentials and the like are there after the first call.
        assert_eq!(read(1), 1);
        let mut count = 0;
        let few = allocation_counter::measure(|| count = read(100)).count_total;
        let many = allocation_counter::measure(|| count = read(10_000)).count_total;
        assert!(count > 9_000, "{count} records");
        println!("{format:?}: {few} allocations for 100 records, {many} for {count}");
        assert!(many < MOST_ALLOCATIONS, "{format:?}: {many} allocations for {count} records");
        assert!(many < few + MOST_FOR_RECORDS, "{format:?}: {many} allocations for {count} records, {few} for 100");
    }
    drop(stop);
    serving.join().expect("the server stopped");
}
