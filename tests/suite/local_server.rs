//! The local server, spoken to by the AWS SDK over HTTP/1.1 and by a bare client over HTTP/2.

use std::{sync::Arc, time::Duration};

use aws_sdk_kinesis::{
    config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider},
    error::ProvideErrorMetadata,
    primitives::Blob,
    types::{PutRecordsRequestEntry, ScalingType, ShardIteratorType, StreamMode, StreamModeDetails},
};
use ciborium::value::Value;
use http::StatusCode;
use shardkeeper::{
    ErrorKind,
    clock::SystemClock,
    local::{Config, CreateStream, FanOut, Limits, LocalKinesis, server::LocalServer},
    random::Randomness,
    stream::{
        ShardFilter, ShardIterator, ShardPosition, StreamClient, StreamReference,
        aws::AwsStreamClient,
        conformance::{CASES, Case, Suite},
    },
    types::{ShardId, Timestamp},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{H2, LOOPBACK, Setup, make, map, member, sdk_config, setup};

fn reference(name: &str) -> StreamReference {
    name.parse().expect("valid")
}

async fn suite_passes(limits: Limits, cases: &[Case]) {
    // Real time passes here: what the service takes seconds for is short.
    let fan_out =
        FanOut { idle_event_interval: Duration::from_millis(200), takeover_after: Duration::from_millis(1500), ..FanOut::default() };
    let kinesis = LocalKinesis::new(Config { limits, fan_out, ..Config::default() }, Arc::new(SystemClock), Randomness::seeded(3));
    let server = LocalServer::bind(LOOPBACK, kinesis).await.expect("a free port");
    let client = AwsStreamClient::from_builder(sdk_config(&server.endpoint_url()), Default::default());
    Suite::new(&client, &client, "suite").run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_passes_the_conformance_suite() {
    suite_passes(Limits::off(), CASES).await;
}

#[tokio::test]
async fn the_sdk_is_throttled_beyond_the_rate() {
    // The other cases would wait for the limits, in real time here.
    let cases: Vec<Case> = CASES.iter().copied().filter(|case| case.name == "calls_beyond_the_rate_are_throttled").collect();
    assert_eq!(cases.len(), 1);
    suite_passes(Limits::enforced(), &cases).await;
}

#[tokio::test]
async fn records_come_back_as_they_were_put() {
    let Setup { server, sdk, client, .. } = setup(Limits::enforced()).await;
    make(&sdk, "clicks", 1).await;
    let payloads: Vec<Vec<u8>> = (0..200_usize).map(|n| (0..n).map(|i| (i * 7 + n) as u8).collect()).collect();
    let entries = payloads.iter().enumerate().map(|(n, payload)| {
        PutRecordsRequestEntry::builder()
            .data(Blob::new(payload.clone()))
            .partition_key(format!("user \"{n}\" \u{1f600}\n"))
            .build()
            .expect("complete")
    });
    let put = sdk.put_records().stream_name("clicks").set_records(Some(entries.collect())).send().await.expect("put");
    assert_eq!(put.failed_record_count, Some(0));

    let stream = reference("clicks");
    let iterator = client.shard_iterator(&stream, &ShardId::from_index(0), ShardPosition::TrimHorizon).await.expect("iterator");
    let page = client.get_records(&stream, &iterator, 10_000).await.expect("records");
    assert_eq!(page.records.len(), payloads.len());
    for (n, (record, (payload, put))) in page.records.iter().zip(payloads.iter().zip(&put.records)).enumerate() {
        assert_eq!(&record.data()[..], &payload[..]);
        assert_eq!(record.partition_key(), format!("user \"{n}\" \u{1f600}\n"));
        assert_eq!(Some(record.sequence_number().to_string()), put.sequence_number);
        assert_eq!(record.approximate_arrival(), Some(Timestamp::from_millis(1_795_262_400_123)));
    }
    assert_eq!(page.millis_behind_latest, 0);
    assert!(page.next_iterator.is_some() && page.child_shards.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_record_of_ten_mebibytes_goes_through() {
    let Setup { server: _server, sdk, client, .. } = setup(Limits::off()).await;
    sdk.create_stream().stream_name("big").shard_count(1).max_record_size_in_kib(10_240).send().await.expect("created");
    let payload: Vec<u8> = (0..10 * 1024 * 1024 - 3).map(|i| (i % 251) as u8).collect();
    sdk.put_record().stream_name("big").partition_key("key").data(Blob::new(payload.clone())).send().await.expect("put");
    let stream = reference("big");
    let iterator = client.shard_iterator(&stream, &ShardId::from_index(0), ShardPosition::TrimHorizon).await.expect("iterator");
    let page = client.get_records(&stream, &iterator, 1).await.expect("records");
    assert!(page.records[0].data()[..] == payload[..]);
}

#[tokio::test]
async fn shards_split_merge_and_end_with_their_children() {
    let Setup { server: _server, sdk, client, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 2).await;
    let half = (u128::MAX / 4).to_string();
    sdk.split_shard().stream_arn(&arn).shard_to_split("shardId-000000000000").new_starting_hash_key(half).send().await.expect("split");
    sdk.merge_shards()
        .stream_name("clicks")
        .shard_to_merge("shardId-000000000003")
        .adjacent_shard_to_merge("shardId-000000000001")
        .send()
        .await
        .expect("merged");
    let stream = reference(&arn);
    let all = client.list_shards(&stream, &ShardFilter::All, None).await.expect("listed");
    assert_eq!(all.shards.len(), 5);
    assert_eq!(all.shards[4].parents, [ShardId::from_index(3), ShardId::from_index(1)]);
    let open = client.list_shards(&stream, &ShardFilter::AtLatest, None).await.expect("listed");
    assert_eq!(open.shards.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["shardId-000000000002", "shardId-000000000004"]);

    let iterator = client.shard_iterator(&stream, &ShardId::from_index(0), ShardPosition::TrimHorizon).await.expect("iterator");
    let mut page = client.get_records(&stream, &iterator, 10).await.expect("records");
    if let Some(next) = page.next_iterator.take() {
        page = client.get_records(&stream, &next, 10).await.expect("records");
    }
    assert!(page.next_iterator.is_none());
    assert_eq!(page.child_shards.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), [ShardId::from_index(2), ShardId::from_index(3)]);
    assert!(page.child_shards.iter().all(|c| c.parents == [ShardId::from_index(0)]));

    let updated =
        sdk.update_shard_count().stream_name("clicks").target_shard_count(4).scaling_type(ScalingType::UniformScaling).send().await;
    let updated = updated.expect("updated");
    assert_eq!((updated.current_shard_count, updated.target_shard_count), (Some(2), Some(4)));
    assert_eq!(updated.stream_arn.as_deref(), Some(arn.as_str()));
}

#[tokio::test]
async fn streams_are_described_listed_and_deleted() {
    let Setup { server: _server, sdk, client, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "b", 3).await;
    make(&sdk, "a", 1).await;
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().expect("complete");
    sdk.create_stream().stream_name("c").stream_mode_details(mode).send().await.expect("created");

    sdk.increase_stream_retention_period().stream_name("b").retention_period_hours(48).send().await.expect("increased");
    let description = client.describe_stream(&reference(&arn)).await.expect("described");
    assert_eq!((description.retention_hours, description.open_shard_count, description.name.as_str()), (48, 3, "b"));
    assert_eq!(description.created, Timestamp::from_millis(1_795_262_400_123));
    sdk.decrease_stream_retention_period().stream_arn(&arn).retention_period_hours(24).send().await.expect("decreased");

    let full = sdk.describe_stream().stream_name("b").limit(2).send().await.expect("described").stream_description.expect("present");
    assert_eq!((full.shards.len(), full.has_more_shards, full.retention_period_hours), (2, true, 24));

    let first = sdk.list_streams().limit(2).send().await.expect("listed");
    assert_eq!((first.stream_names.as_slice(), first.has_more_streams), (["a".to_owned(), "b".to_owned()].as_slice(), true));
    let second = sdk.list_streams().set_next_token(first.next_token).send().await.expect("listed");
    assert_eq!((second.stream_names.as_slice(), second.has_more_streams), (["c".to_owned()].as_slice(), false));
    let mode = second.stream_summaries.expect("present")[0].stream_mode_details.clone().expect("present");
    assert_eq!(mode.stream_mode, StreamMode::OnDemand);

    sdk.delete_stream().stream_arn(&arn).send().await.expect("deleted");
    assert_eq!(client.describe_stream(&reference("b")).await.expect_err("gone").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn pages_of_shards_follow_their_token() {
    let Setup { server: _server, sdk, .. } = setup(Limits::enforced()).await;
    let arn = make(&sdk, "clicks", 5).await;
    let first = sdk.list_shards().stream_name("clicks").max_results(2).send().await.expect("listed");
    let token = first.next_token.expect("more");
    let second = sdk.list_shards().next_token(&token).stream_arn(&arn).send().await.expect("an ARN is allowed beside a token");
    assert_eq!(
        second.shards.expect("present").iter().map(|s| s.shard_id.as_str()).collect::<Vec<_>>(),
        ["shardId-000000000002", "shardId-000000000003", "shardId-000000000004"]
    );
    let both = sdk.list_shards().next_token(token).stream_name("clicks").send().await.expect_err("a name is not");
    assert_eq!(both.code(), Some("InvalidArgumentException"));
}

#[tokio::test]
async fn errors_have_the_services_names() {
    let Setup { server: _server, sdk, clock, .. } = setup(Limits::enforced()).await;
    make(&sdk, "clicks", 1).await;
    let shard = "shardId-000000000000";
    let iterator = || async {
        let request = sdk.get_shard_iterator().stream_name("clicks").shard_id(shard).shard_iterator_type(ShardIteratorType::TrimHorizon);
        request.send().await.expect("iterator").shard_iterator.expect("present")
    };

    macro_rules! refused {
        ($call:expr, $code:literal) => {
            assert_eq!($call.send().await.expect_err($code).code(), Some($code));
        };
    }
    refused!(sdk.create_stream().stream_name("clicks").shard_count(1), "ResourceInUseException");
    refused!(sdk.create_stream().stream_name("a b").shard_count(1), "ValidationException");
    refused!(sdk.describe_stream_summary().stream_name("none"), "ResourceNotFoundException");
    refused!(sdk.delete_stream().stream_name("none"), "ResourceNotFoundException");
    refused!(sdk.list_shards().stream_name("none"), "ResourceNotFoundException");
    refused!(sdk.list_shards(), "InvalidArgumentException");
    refused!(
        sdk.get_shard_iterator().stream_name("clicks").shard_id("shardId-000000000009").shard_iterator_type(ShardIteratorType::Latest),
        "ResourceNotFoundException"
    );
    refused!(
        sdk.get_shard_iterator().stream_name("clicks").shard_id(shard).shard_iterator_type(ShardIteratorType::AtSequenceNumber),
        "InvalidArgumentException"
    );
    refused!(sdk.get_records().shard_iterator("nonsense"), "InvalidArgumentException");
    refused!(sdk.get_records().shard_iterator(iterator().await).limit(10_001), "ValidationException");
    refused!(sdk.increase_stream_retention_period().stream_name("clicks").retention_period_hours(1), "InvalidArgumentException");
    refused!(sdk.split_shard().stream_name("clicks").shard_to_split(shard).new_starting_hash_key("0"), "InvalidArgumentException");
    refused!(sdk.list_channels(), "UnknownOperationException");

    let old = iterator().await;
    for _ in 0..5 {
        sdk.get_records().shard_iterator(&old).send().await.expect("within the limit");
    }
    refused!(sdk.get_records().shard_iterator(&old), "ProvisionedThroughputExceededException");
    clock.advance(Duration::from_secs(301));
    refused!(sdk.get_records().shard_iterator(&old), "ExpiredIteratorException");
}

#[tokio::test]
async fn the_stream_client_says_what_to_do() {
    let Setup { server, sdk, client, clock, .. } = setup(Limits::enforced()).await;
    make(&sdk, "clicks", 1).await;
    let (stream, shard) = (reference("clicks"), ShardId::from_index(0));
    let iterator = client.shard_iterator(&stream, &shard, ShardPosition::Latest).await.expect("iterator");

    let error = client.describe_stream(&reference("clickz")).await.expect_err("no such stream");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("clickz") && error.to_string().contains("us-east-1"), "{error}");
    let missing = client.shard_iterator(&stream, &ShardId::from_index(9), ShardPosition::Latest).await.expect_err("no such shard");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("shardId-000000000009"), "{missing}");
    let garbage = client.get_records(&stream, &ShardIterator("garbage".to_owned()), 1).await.expect_err("no iterator");
    assert_eq!(garbage.kind(), ErrorKind::InvalidInput);

    for _ in 0..5 {
        client.get_records(&stream, &iterator, 1).await.expect("within the limit");
    }
    assert_eq!(client.get_records(&stream, &iterator, 1).await.expect_err("sixth").kind(), ErrorKind::Throttled);
    clock.advance(Duration::from_secs(301));
    assert_eq!(client.get_records(&stream, &iterator, 1).await.expect_err("old").kind(), ErrorKind::ExpiredIterator);

    server.stop().await;
    let gone = client.describe_stream(&stream).await.expect_err("nobody listens");
    assert_eq!(gone.kind(), ErrorKind::Unavailable);
    assert!(gone.to_string().contains("could not be reached"), "{gone}");
}

#[tokio::test]
async fn what_the_configuration_lacks_is_named_with_its_fix() {
    let Setup { server, .. } = setup(Limits::enforced()).await;
    let bare = || aws_config::SdkConfig::builder().behavior_version(BehaviorVersion::latest());
    let credentials = || SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "test"));

    let unsigned = bare().endpoint_url(server.endpoint_url()).region(Region::new("us-east-1")).build();
    let error = AwsStreamClient::new(&unsigned).describe_stream(&reference("clicks")).await.expect_err("unsigned");
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{error}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");

    let nowhere = bare().credentials_provider(credentials()).build();
    let error = AwsStreamClient::new(&nowhere).describe_stream(&reference("clicks")).await.expect_err("no region");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("AWS_REGION"), "{error}");
}

/// Time is paused, so it jumps to the time limit once nothing else can happen.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_is_a_timeout() {
    let silent = tokio::net::TcpListener::bind(LOOPBACK).await.expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let client = AwsStreamClient::from_builder(sdk_config(&endpoint), Default::default());
    let error = client.describe_stream(&reference("clicks")).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("DescribeStreamSummary on stream clicks"), "{error}");
}

#[tokio::test]
async fn answers_that_are_none_mean_to_try_again() {
    for (answer, kind) in [
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", ErrorKind::Unavailable),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops", ErrorKind::Unavailable),
        ("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n", ErrorKind::Throttled),
        ("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", ErrorKind::AccessDenied),
        ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"Sha", ErrorKind::Unavailable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{\"Sh", ErrorKind::Unavailable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", ErrorKind::InvalidData),
        ("", ErrorKind::Unavailable),
    ] {
        let listener = tokio::net::TcpListener::bind(LOOPBACK).await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let mut responder = tokio::task::JoinSet::new();
        responder.spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 16 * 1024];
            let read = socket.read(&mut request).await.expect("a request");
            assert!(read > 0);
            socket.write_all(answer.as_bytes()).await.expect("written");
        });
        let client = AwsStreamClient::from_builder(sdk_config(&endpoint), Default::default());
        let error = client.describe_stream(&reference("clicks")).await.expect_err(answer);
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
    }
}

/// The environment belongs to the process, so the test runs itself again in one that has the override set.
#[tokio::test]
async fn the_endpoint_override_of_the_environment_is_honoured() {
    const CHILD: &str = "SHARDKEEPER_SUITE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let description = AwsStreamClient::new(&config).describe_stream(&reference("clicks")).await.expect("described");
        assert_eq!(description.open_shard_count, 3);
        return;
    }
    let Setup { server, sdk, .. } = setup(Limits::enforced()).await;
    make(&sdk, "clicks", 3).await;
    let run = tokio::process::Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "local_server::the_endpoint_override_of_the_environment_is_honoured"])
        .env(CHILD, "1")
        .env("AWS_ENDPOINT_URL_KINESIS", server.endpoint_url())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .kill_on_drop(true)
        .output();
    let run = run.await.expect("it runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"), "the name above is not this test's");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let Setup { server, .. } = setup(Limits::enforced()).await;
    let error = LocalServer::bind(server.local_addr(), LocalKinesis::in_memory()).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&server.local_addr().to_string()) && error.to_string().contains("in use"), "{error}");
}

#[tokio::test]
async fn cbor_over_http_2_carries_bytes_and_milliseconds() {
    let Setup { server, clock, .. } = setup(Limits::off()).await;
    let (mut h2, _driver) = H2::connect(&server).await;
    let (status, body) = h2.call("CreateStream", map([("StreamName", "clicks".into()), ("ShardCount", 1.into())])).await;
    assert_eq!((status, body), (StatusCode::OK, Value::Null));
    for n in 0..3_u8 {
        let put = map([("StreamName", "clicks".into()), ("PartitionKey", "k".into()), ("Data", Value::Bytes(vec![n; 5000]))]);
        let (status, _) = h2.call("PutRecord", put).await;
        assert_eq!(status, StatusCode::OK);
        clock.advance(Duration::from_millis(10));
    }
    // Tagged, as the SDK for Java tags moments: the second record's arrival.
    let second = Value::Tag(1, Box::new(1_795_262_400_133_i64.into()));
    let at = map([
        ("StreamName", "clicks".into()),
        ("ShardId", "shardId-000000000000".into()),
        ("ShardIteratorType", "AT_TIMESTAMP".into()),
        ("Timestamp", second),
    ]);
    let (_, iterator) = h2.call("GetShardIterator", at).await;
    let (status, page) = h2.call("GetRecords", map([("ShardIterator", member(&iterator, "ShardIterator").clone())])).await;
    assert_eq!(status, StatusCode::OK);
    let records = member(&page, "Records").as_array().expect("a list");
    assert_eq!(
        records.iter().map(|r| member(r, "Data").clone()).collect::<Vec<_>>(),
        [Value::Bytes(vec![1; 5000]), Value::Bytes(vec![2; 5000])]
    );
    assert_eq!(member(&records[0], "ApproximateArrivalTimestamp"), &Value::from(1_795_262_400_133_i64));
    assert_eq!(member(&page, "MillisBehindLatest"), &Value::from(0));

    let (status, fault) = h2.call("DescribeStream", map([("StreamName", "none".into())])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(member(&fault, "__type").as_text(), Some("ResourceNotFoundException"));
    assert!(member(&fault, "message").as_text().is_some_and(|text| text.contains("none")));
}

#[tokio::test]
async fn a_stopped_server_frees_its_port_and_keeps_the_streams() {
    let kinesis = LocalKinesis::in_memory();
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
    let first = LocalServer::bind(LOOPBACK, kinesis.clone()).await.expect("a free port");
    let addr = first.local_addr();
    let client = AwsStreamClient::from_builder(sdk_config(&first.endpoint_url()), Default::default());
    client.describe_stream(&reference("clicks")).await.expect("described over a connection that then idles");
    first.stop().await;
    let _second = LocalServer::bind(addr, kinesis).await.expect("the port is free again");
    client.describe_stream(&reference("clicks")).await.expect("described");
}
