use std::{convert::Infallible, time::Duration};

use aws_sdk_kinesis::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;
use crate::{
    ErrorKind,
    stream::{StreamClient, aws::Config},
};

const MIB: usize = 1024 * 1024;

/// A server whose answer comes in pieces, so many bytes each tenth of a second.
#[derive(Debug, Clone)]
struct Dribbling {
    answer: Bytes,
    piece: usize,
    /// Nothing comes after so many bytes, and nobody says so.
    freezes_after: usize,
}

impl Dribbling {
    fn client(&self) -> AwsStreamClient {
        let server = self.clone();
        let http = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| SharedHttpConnector::new(server.clone()));
        let builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(http);
        AwsStreamClient::from_builder(builder, Config::default())
    }
}

impl HttpConnector for Dribbling {
    fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
        let Self { answer, piece, freezes_after, .. } = self.clone();
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

/// An answer in JSON with ten records of a mebibyte.
fn ten_mebibytes() -> Bytes {
    let data = BASE64_STANDARD.encode(vec![7; MIB]);
    let record = |n| format!(r#"{{"SequenceNumber":"{n}","PartitionKey":"k","Data":"{data}"}}"#);
    let records: Vec<_> = (1..=10).map(record).collect();
    format!(r#"{{"NextShardIterator":"n","MillisBehindLatest":0,"Records":[{}]}}"#, records.join(",")).into()
}

async fn read(client: &AwsStreamClient) -> Result<RecordsPage> {
    client.get_records(&"clicks".parse().expect("valid"), &ShardIterator("AAAA".to_owned()), 10_000).await
}

#[tokio::test(start_paused = true)]
async fn the_largest_answer_is_read_on_a_slow_network() {
    let server = Dribbling { answer: ten_mebibytes(), piece: 20_000, freezes_after: usize::MAX };
    let start = Instant::now();
    let page = read(&server.client()).await.expect("it comes in");
    assert_eq!(page.records.iter().map(|record| record.data().len()).sum::<usize>(), 10 * MIB);
    // 14 MB of base64 at 200 kB/s: more than the call may take until it begins.
    assert!(start.elapsed() > Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_freezes_is_given_up_after_the_silence_and_the_client_replaced() {
    let server = Dribbling { answer: ten_mebibytes(), piece: 20_000, freezes_after: 1_000_000 };
    let client = server.client();
    let made = client.session.made();
    let start = Instant::now();
    let error = read(&client).await.expect_err("it never ends");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("GetRecords on stream clicks in us-east-1: the answer stopped in its midst"), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(15), "five in which it came, and ten of silence");
    assert!(client.session.made() > made, "the connection may be dead");
}
