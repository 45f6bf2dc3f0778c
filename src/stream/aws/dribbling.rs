//! A server whose answers come in slowly, for tests.

use std::{convert::Infallible, time::Duration};

use aws_sdk_kinesis::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{
    body::SdkBody,
    event_stream::{Header, HeaderValue, Message},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::{AwsStreamClient, Config};
use crate::types::ConsumerArn;

/// Says the same to each request, so many bytes each tenth of a second.
#[derive(Debug, Clone)]
pub(crate) struct Dribbling {
    pub(crate) answer: Bytes,
    pub(crate) piece: usize,
    /// Nothing comes after so many bytes, and nobody says so.
    pub(crate) freezes_after: usize,
}

impl Dribbling {
    pub(crate) fn client(&self) -> AwsStreamClient {
        AwsStreamClient::from_builder(self.config(), Config::default())
    }

    pub(crate) fn config(&self) -> Builder {
        let server = self.clone();
        let http = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| SharedHttpConnector::new(server.clone()));
        Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(http)
    }
}

impl HttpConnector for Dribbling {
    fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
        let Self { answer, piece, freezes_after } = self.clone();
        let pieces = stream::unfold(0, move |at| {
            let answer = answer.clone();
            async move {
                if at >= freezes_after {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                let next = (at + piece).min(answer.len());
                (at < next).then(|| (Ok::<_, Infallible>(Frame::data(answer.slice(at..next))), next))
            }
        });
        let body = SdkBody::from_body_1_x(StreamBody::new(pieces.fuse()));
        HttpConnectorFuture::ready(Ok(HttpResponse::new(StatusCode::try_from(200).expect("valid"), body)))
    }
}

/// A page in JSON, or what an event says.
pub(crate) fn page(records: usize, record_bytes: usize) -> Bytes {
    let data = BASE64_STANDARD.encode(vec![7; record_bytes]);
    let record = |n| format!(r#"{{"SequenceNumber":"{n}","PartitionKey":"k","Data":"{data}"}}"#);
    let records: Vec<_> = (1..=records).map(record).collect();
    let rest = r#""NextShardIterator":"n","ContinuationSequenceNumber":"9","MillisBehindLatest":1000"#;
    format!(r#"{{{rest},"Records":[{}]}}"#, records.join(",")).into()
}

/// An event of a subscription.
pub(crate) fn event(payload: &Bytes) -> Bytes {
    let text = |value: &'static str| HeaderValue::String(value.into());
    let message = Message::new(payload.clone())
        .add_header(Header::new(":event-type", text("SubscribeToShardEvent")))
        .add_header(Header::new(":message-type", text("event")));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("valid");
    bytes.into()
}

pub(crate) fn consumer() -> ConsumerArn {
    "arn:aws:kinesis:us-east-1:123456789012:stream/clicks/consumer/shop:1".parse().expect("valid")
}
