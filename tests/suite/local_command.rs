//! `shardkeeper local`, as scripts use it.

use std::{path::Path, process::Stdio, time::Duration};

use aws_sdk_dynamodb::{
    config::{BehaviorVersion, Credentials, Region},
    types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use aws_sdk_kinesis::{error::ProvideErrorMetadata, primitives::Blob, types::ShardIteratorType};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_shardkeeper");

/// Long enough for any machine; only a broken program takes it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    kinesis: String,
    dynamodb: String,
}

impl Running {
    async fn start(args: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["local", "--kinesis-port", "0", "--dynamodb-port", "0"])
            .args(args)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(PATIENCE, stdout.next_line()).await.expect("ready in time").expect("a line").expect("not the end");
        let mut words = line.split(' ');
        let ready = (words.next(), words.next(), words.next(), words.next());
        let (Some("ready"), Some(kinesis), Some(dynamodb), None) = ready else { panic!("not the line scripts wait for: {line}") };
        let url = |word: &str, name: &str| word.strip_prefix(name).unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, stdout, kinesis: url(kinesis, "kinesis="), dynamodb: url(dynamodb, "dynamodb=") }
    }

    fn kinesis(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.kinesis)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "test"));
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.dynamodb)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "test"));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// Sends SIGTERM and returns the exit code, having seen that nothing more was printed.
    async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().expect("running").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill is everywhere");
        assert!(sent.success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("stops in time").expect("waited");
        assert_eq!(self.stdout.next_line().await.expect("readable"), None);
        status.code()
    }
}

/// Runs a command that fails at once: exit code and stderr.
async fn refused(args: &[&str]) -> (Option<i32>, String) {
    let mut child = Command::new(PROGRAM)
        .arg("local")
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut text = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    let read = tokio::time::timeout(PATIENCE, stderr.read_to_string(&mut text)).await;
    read.expect("ends by itself").expect("UTF-8");
    (child.wait().await.expect("waited").code(), text)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[cfg(unix)]
#[tokio::test]
async fn it_says_when_it_is_ready_and_stops_on_sigterm() {
    let running = Running::start(&["--stream", "clicks:2", "--stream", "views:1", "--no-limits"]).await;
    let listed = running.kinesis().list_streams().send().await.expect("Kinesis answers");
    assert_eq!(listed.stream_names, ["clicks", "views"]);
    let shards = running.kinesis().list_shards().stream_name("clicks").send().await.expect("listed").shards.expect("present");
    assert_eq!(shards.len(), 2);
    let tables = running.dynamodb().list_tables().send().await.expect("DynamoDB answers");
    assert!(tables.table_names.unwrap_or_default().is_empty());
    assert_eq!(running.terminate().await, Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_data_directory_keeps_streams_records_and_tables() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("made when missing");
    let args = ["--data-dir", path(&dir), "--stream", "clicks:1"];
    let first = Running::start(&args).await;
    let put = first.kinesis().put_record().stream_name("clicks").partition_key("k").data(Blob::new(b"kept".to_vec())).send();
    let number = put.await.expect("put").sequence_number;
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().expect("complete");
    let attribute = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S).build();
    let table = first.dynamodb().create_table().table_name("leases").key_schema(key).billing_mode(BillingMode::PayPerRequest);
    table.attribute_definitions(attribute.expect("complete")).send().await.expect("created");

    let (code, text) = refused(&["--kinesis-port", "0", "--dynamodb-port", "0", "--data-dir", path(&dir)]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(path(&dir)) && text.contains("in use by another process"), "{text}");
    assert_eq!(first.terminate().await, Some(0));

    let second = Running::start(&args).await;
    let at = second.kinesis().get_shard_iterator().stream_name("clicks").shard_id("shardId-000000000000");
    let iterator = at.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.expect("iterator").shard_iterator;
    let page = second.kinesis().get_records().set_shard_iterator(iterator).send().await.expect("records");
    assert_eq!(
        page.records.iter().map(|r| (r.sequence_number.as_str(), r.data.as_ref())).collect::<Vec<_>>(),
        [(number.as_str(), &b"kept"[..])]
    );
    let tables = second.dynamodb().list_tables().send().await.expect("listed");
    assert_eq!(tables.table_names.unwrap_or_default(), ["leases"]);
    assert_eq!(second.terminate().await, Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn settings_come_from_a_file_and_options_go_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("settings.json");
    let settings = r#"{"region": "eu-west-1", "iterator_life": {"secs": 60, "nanos": 0},
        "limits": {"calls": {"ListStreams": 1}, "shards_per_account": 12}}"#;
    std::fs::write(&file, settings).expect("written");
    // More streams than the service would make in a second.
    let streams: Vec<String> = (0..12).map(|n| format!("s{n}:1")).collect();
    let mut args = vec!["--config", path(&file), "--iterator-seconds", "1"];
    args.extend(streams.iter().flat_map(|stream| ["--stream", stream]));
    let running = Running::start(&args).await;
    let kinesis = running.kinesis();
    let described = kinesis.describe_stream_summary().stream_name("s0").send().await.expect("described");
    let arn = described.stream_description_summary.expect("present").stream_arn;
    assert!(arn.contains("eu-west-1"), "{arn}");
    let refused = kinesis.create_stream().stream_name("more").shard_count(1).send().await.expect_err("the account is full");
    assert_eq!(refused.code(), Some("LimitExceededException"));
    let iterator = kinesis.get_shard_iterator().stream_name("s0").shard_id("shardId-000000000000");
    let iterator = iterator.shard_iterator_type(ShardIteratorType::Latest).send().await.expect("iterator").shard_iterator;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // On the machine's clock it takes a second; the file alone would let it live a minute.
    while kinesis.get_records().set_shard_iterator(iterator.clone()).send().await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "it does not expire");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(running.terminate().await, Some(0));

    std::fs::write(&file, r#"{"limits": {"call": {}}}"#).expect("written");
    let (code, text) = refused_by(&file).await;
    assert!(code == Some(1) && text.contains(path(&file)) && text.contains("`call`"), "{text}");
}

async fn refused_by(settings: &Path) -> (Option<i32>, String) {
    refused(&["--kinesis-port", "0", "--dynamodb-port", "0", "--config", path(settings)]).await
}

#[tokio::test]
async fn what_cannot_be_a_data_directory_or_a_stream_is_named_with_its_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    let ports = ["--kinesis-port", "0", "--dynamodb-port", "0"];
    for (args, words) in [
        (["--data-dir", path(&file)], [path(&file), "is a file", "name a directory"]),
        (["--stream", "clicks:100000"], ["--stream clicks:100000", "give fewer", "--no-limits"]),
    ] {
        let (code, text) = refused(&[&ports[..], &args].concat()).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_fix() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for (kinesis, dynamodb, option) in [(port.as_str(), "0", "--kinesis-port"), ("0", port.as_str(), "--dynamodb-port")] {
        let (code, text) = refused(&["--kinesis-port", kinesis, "--dynamodb-port", dynamodb]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("in use") && text.contains(option), "{text}");
    }
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_named_with_its_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").expect("written");
    for bad in [&file, &file.join("below")] {
        let (code, text) = refused(&["--kinesis-port", "0", "--dynamodb-port", "0", "--data-dir", path(bad)]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(path(bad)) && text.contains("--data-dir"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_in_the_wrong_form_is_named() {
    for bad in ["clicks", "clicks:0", "clicks:many", "a b:1"] {
        let (code, text) = refused(&["--stream", bad]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(bad) && text.contains("--stream"), "{text}");
    }
    let (code, text) = refused(&["--stream", "clicks:1", "--stream", "clicks:2"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("clicks twice"), "{text}");
}
