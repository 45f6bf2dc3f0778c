use std::time::Duration;

use super::*;
use crate::{
    ErrorKind,
    stream::{
        StreamClient,
        aws::dribbling::{self, Dribbling},
    },
};

const MIB: usize = 1024 * 1024;

async fn read(client: &AwsStreamClient) -> Result<RecordsPage> {
    client.get_records(&"clicks".parse().expect("valid"), &ShardIterator("AAAA".to_owned()), 10_000).await
}

#[tokio::test(start_paused = true)]
async fn the_largest_answer_is_read_on_a_slow_network() {
    let server = Dribbling { answer: dribbling::page(10, MIB), piece: 20_000, freezes_after: usize::MAX };
    let start = Instant::now();
    let page = read(&server.client()).await.expect("it comes in");
    assert_eq!(page.records.iter().map(|record| record.data().len()).sum::<usize>(), 10 * MIB);
    // 14 MB of base64 at 200 kB/s: more than the call may take until it begins.
    assert!(start.elapsed() > Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_freezes_is_given_up_after_the_silence_and_the_client_replaced() {
    let server = Dribbling { answer: dribbling::page(10, MIB), piece: 20_000, freezes_after: 1_000_000 };
    let client = server.client();
    let made = client.session.made();
    let start = Instant::now();
    let error = read(&client).await.expect_err("it never ends");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("GetRecords on stream clicks in us-east-1: the answer stopped in its midst"), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(15), "five in which it came, and ten of silence");
    assert!(client.session.made() > made, "the connection may be dead");
}

#[test]
fn only_what_speaks_of_the_format_is_of_the_format() {
    for (status, code, of_format) in [
        (415, "", true),
        (415, "UnsupportedMediaType", true),
        (400, "SerializationException", true),
        (400, "UnknownOperationException", true),
        (400, "", true),
        (404, "", true),
        (400, "ExpiredIteratorException", false),
        (403, "", false),
        (408, "", false),
        (429, "", false),
        (500, "", false),
        (502, "", false),
        (503, "", false),
    ] {
        assert_eq!(is_of_format(status, code), of_format, "{status} {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refused_cbor_is_tried_again_now_and_then() {
    let dialect = Dialect::default();
    assert_eq!(dialect.ask(Format::Json), Ask::As(Format::Json), "as the user wants");
    assert_eq!(dialect.ask(Format::Cbor), Ask::Either);
    assert!(dialect.refuses_cbor() && !dialect.refuses_cbor(), "it is news once");
    for _ in 0..3 {
        assert_eq!(dialect.ask(Format::Cbor), Ask::As(Format::Json));
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
        assert_eq!(dialect.ask(Format::Cbor), Ask::Either, "it may have changed");
    }
    assert!(dialect.speaks_cbor() && !dialect.speaks_cbor(), "it is news once");
    assert!(!dialect.refuses_cbor(), "a refusal since is of something else");
    assert_eq!(dialect.ask(Format::Cbor), Ask::As(Format::Cbor));
}
