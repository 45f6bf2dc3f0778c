//! The local server and its clients, for the tests of both.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
};
use bytes::Bytes;
use ciborium::value::Value;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use shardkeeper::{
    clock::Clock,
    local::{Config, Limits, LocalKinesis, server::LocalServer},
    random::Randomness,
    stream::aws::AwsStreamClient,
    types::Timestamp,
};

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A clock that the test moves.
#[derive(Debug, Clone)]
pub(crate) struct HandClock(Arc<AtomicI64>);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).expect("short"), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct Setup {
    pub(crate) server: LocalServer,
    pub(crate) sdk: Client,
    pub(crate) client: AwsStreamClient,
    pub(crate) clock: HandClock,
    pub(crate) kinesis: LocalKinesis,
}

pub(crate) async fn setup(limits: Limits) -> Setup {
    let clock = HandClock(Arc::new(AtomicI64::new(1_795_262_400_123)));
    let config = Config { limits, ..Config::default() };
    let kinesis = LocalKinesis::new(config, Arc::new(clock.clone()), Randomness::seeded(3));
    let server = LocalServer::bind(LOOPBACK, kinesis.clone()).await.expect("a free port");
    let builder = sdk_config(&server.endpoint_url());
    let client = AwsStreamClient::from_builder(builder.clone(), Default::default());
    Setup { sdk: Client::from_conf(builder.build()), server, client, clock, kinesis }
}

pub(crate) fn sdk_config(endpoint: &str) -> Builder {
    Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .retry_config(aws_sdk_kinesis::config::retry::RetryConfig::disabled())
}

pub(crate) async fn make(sdk: &Client, name: &str, shards: i32) -> String {
    sdk.create_stream().stream_name(name).shard_count(shards).send().await.expect("created");
    let summary = sdk.describe_stream_summary().stream_name(name).send().await.expect("described");
    summary.stream_description_summary.expect("present").stream_arn
}

/// A client that speaks clear-text HTTP/2 with prior knowledge and CBOR, as the Java KCL does.
pub(crate) struct H2 {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    authority: String,
}

impl H2 {
    pub(crate) async fn connect(server: &LocalServer) -> (Self, tokio::task::JoinSet<()>) {
        let socket = tokio::net::TcpStream::connect(server.local_addr()).await.expect("listening");
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        (Self { sender, authority: server.local_addr().to_string() }, driver)
    }

    pub(crate) async fn send(&mut self, operation: &str, input: Value) -> Response<Incoming> {
        let mut body = Vec::new();
        ciborium::into_writer(&input, &mut body).expect("in memory");
        let request = Request::post(format!("http://{}/", self.authority))
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .header("content-type", "application/x-amz-cbor-1.1")
            .header("authorization", "AWS4-HMAC-SHA256 anything")
            .body(Full::new(body.into()))
            .expect("valid");
        let response = self.sender.send_request(request).await.expect("answered");
        assert!(response.headers().contains_key("date") && response.headers().contains_key("x-amzn-requestid"));
        response
    }

    pub(crate) async fn call(&mut self, operation: &str, input: Value) -> (StatusCode, Value) {
        let response = self.send(operation, input).await;
        assert_eq!(response.headers()["content-type"], "application/x-amz-cbor-1.1");
        let status = response.status();
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        (status, if body.is_empty() { Value::Null } else { ciborium::from_reader(&body[..]).expect("CBOR") })
    }
}

pub(crate) fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

pub(crate) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    let members = value.as_map().expect("a map");
    &members.iter().find(|(key, _)| key.as_text() == Some(name)).unwrap_or_else(|| panic!("no {name}")).1
}
