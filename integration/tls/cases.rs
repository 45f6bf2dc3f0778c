//! What the process of a client does.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_sdk_kinesis::config::{BehaviorVersion, Builder, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_types::SdkConfig;
use futures::future::{FutureExt as _, LocalBoxFuture};
use shardkeeper::{
    ErrorKind,
    clock::SystemClock,
    lease::{DynamoDbLeaseTable, LeaseTable as _},
    local::{Config, CreateStream, FanOut, Limits, LocalKinesis, PutEntry, server::LocalServer},
    random::Randomness,
    retrieval::{Consumer, Retrieval},
    stream::{
        ShardPosition, StreamClient as _, StreamReference,
        aws::{self, AwsStreamClient},
    },
    testing::{ProcessorLog, What},
    types::{ConsumerArn, InitialPosition, ShardId},
    worker::Worker,
};

use super::{front::Front, thousand};
use crate::rig::{GENEROUS, Result, until_async};

/// Longer than any case: what has this limit does not happen.
pub(super) const NEVER: Duration = Duration::from_secs(3600);
const SHARDS: u32 = 5;
/// Records of a shard before the connections freeze, and as many after.
const RECORDS: u32 = 20;

/// A case by its name, with the file that the process trusts.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) run: fn(PathBuf) -> LocalBoxFuture<'static, Result>,
}

pub(super) const ALL: &[Case] = &[
    Case { name: "subscriptions_share_connections", run: |authority| subscriptions_share_connections(authority).boxed_local() },
    Case { name: "unanswered_pings_end_a_connection", run: |authority| unanswered_pings(authority).boxed_local() },
    Case { name: "a_silent_connection_of_subscriptions_is_left", run: |authority| silence(authority, false).boxed_local() },
    Case { name: "a_silent_connection_of_the_users_client_is_left", run: |authority| silence(authority, true).boxed_local() },
    Case { name: "calls_that_time_out_are_made_on_another_connection", run: |authority| time_outs(authority, false).boxed_local() },
    Case { name: "calls_of_the_users_client_too", run: |authority| time_outs(authority, true).boxed_local() },
    Case {
        name: "a_blocked_handler_does_not_slow_a_thousand_shards",
        run: |authority| thousand::a_blocked_handler(authority).boxed_local(),
    },
    Case { name: "untrusted_certificates_are_named_with_the_fix", run: |authority| untrusted(authority).boxed_local() },
    Case { name: "certificates_of_other_hosts_are_named_with_the_fix", run: |authority| of_another_host(authority).boxed_local() },
];

/// A stream behind TLS.
pub(super) struct Setup {
    pub(super) kinesis: LocalKinesis,
    server: LocalServer,
    pub(super) front: Front,
    stream: StreamReference,
    shards: u32,
}

impl Setup {
    pub(super) async fn new(host: &str, authority: &Path, shards: u32) -> Result<Self> {
        // Real time passes here: a subscription is replaced at once, and an idle one says so several times a second.
        let fan_out =
            FanOut { idle_event_interval: Duration::from_millis(200), takeover_after: Duration::from_millis(200), ..FanOut::default() };
        let config = Config { limits: Limits::off(), fan_out, ..Config::default() };
        let kinesis = LocalKinesis::new(config, Arc::new(SystemClock), Randomness::seeded(3));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, shards))?;
        let server = LocalServer::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), kinesis.clone()).await?;
        let front = Front::start(server.local_addr(), host, authority).await?;
        Ok(Self { kinesis, server, front, stream: "clicks".parse()?, shards })
    }

    /// Puts a share of the records of each shard.
    fn put(&self, numbers: std::ops::Range<u32>) -> Result {
        for shard in 0..self.shards {
            numbers.clone().try_for_each(|n| self.put_to(shard, format!("{n}").into_bytes()))?;
        }
        Ok(())
    }

    /// Puts a record into the shard of this number.
    pub(super) fn put_to(&self, shard: u32, data: Vec<u8>) -> Result {
        let key = u128::MAX / u128::from(self.shards) * u128::from(shard) + u128::from(self.shards);
        let receipt = self.kinesis.put_record(&self.stream, PutEntry::new("key", data).with_explicit_hash_key(key), None)?;
        check(receipt.shard_id == ShardId::from_index(shard.into()), "a hash key of the shard")
    }
}

pub(super) fn sdk(endpoint: &str) -> Builder {
    Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
}

/// The HTTP client of an application that trusts an authority of its own, by the means of the SDK.
fn brought(builder: Builder, authority: &Path) -> Result<Builder> {
    let trust = TrustStore::empty().with_pem_certificate(std::fs::read(authority)?);
    let tls = TlsContext::builder().with_trust_store(trust).build()?;
    let provider = Provider::Rustls(CryptoMode::AwsLc);
    Ok(builder.http_client(aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(tls).build_https()))
}

async fn subscriptions_share_connections(authority: PathBuf) -> Result {
    let setup = Setup::new("127.0.0.1", &authority, SHARDS).await?;
    let config = aws::Config { subscriptions_per_connection: 2, ..aws::Config::default() };
    let client = AwsStreamClient::from_builder(sdk(&setup.front.endpoint()), config);
    let consumer = consumer(&client, &setup).await?;
    let mut subscriptions = Vec::new();
    // The connection of the calls up to here is not one of subscriptions.
    for shard in (0..SHARDS).map(|index| ShardId::from_index(index.into())) {
        subscriptions.push((shard.clone(), client.subscribe_to_shard(&consumer, &shard, ShardPosition::TrimHorizon).await?));
    }
    let protocols = setup.front.protocols();
    check(protocols == ["h2"; 4], &format!("one connection for calls and three for five subscriptions, not {protocols:?}"))?;
    setup.put(0..RECORDS)?;
    for (shard, subscription) in &mut subscriptions {
        let mut texts = Vec::new();
        while texts.len() < RECORDS as usize {
            let event = tokio::time::timeout(GENEROUS, subscription.next()).await??.ok_or("the subscription ended")?;
            texts.extend(event.records.iter().map(|record| String::from_utf8_lossy(record.data()).into_owned()));
        }
        let expected: Vec<_> = (0..RECORDS).map(|n| n.to_string()).collect();
        check(texts == expected, &format!("{shard} gave {texts:?}"))?;
    }
    check(setup.front.protocols().len() == 4, "reading needs no more connections")
}

async fn unanswered_pings(authority: PathBuf) -> Result {
    // Only pings can tell: no silence is too long.
    let config = aws::Config { ping_interval: Duration::from_secs(1), ..aws::Config::default() };
    resumes(&authority, config, Retrieval::FanOut(Consumer::OfApplication), NEVER, false).await
}

async fn silence(authority: PathBuf, brings_client: bool) -> Result {
    let config = aws::Config { ping_interval: NEVER, ..aws::Config::default() };
    resumes(&authority, config, Retrieval::FanOut(Consumer::OfApplication), Duration::from_secs(6), brings_client).await
}

async fn time_outs(authority: PathBuf, brings_client: bool) -> Result {
    let limit = Duration::from_secs(2);
    let config = aws::Config { get_records_timeout: limit, call_timeout: limit, ..aws::Config::default() };
    resumes(&authority, config, Retrieval::Polling, NEVER, brings_client).await
}

/// A worker reads, all its connections become half-open, and it goes on over new ones, without loss and without repeat.
async fn resumes(authority: &Path, config: aws::Config, retrieval: Retrieval, silence: Duration, brings_client: bool) -> Result {
    let setup = Setup::new("127.0.0.1", authority, SHARDS).await?;
    let mut builder = sdk(&setup.front.endpoint());
    if brings_client {
        builder = brought(builder, authority)?;
    }
    let log = ProcessorLog::default();
    let worker = Worker::builder("reader", "clicks", log.factory())
        .local(&setup.kinesis)
        .stream_client(Arc::new(AwsStreamClient::from_builder(builder, config)))
        .lease_table(Arc::new(setup.kinesis.lease_table("reader")))
        .initial_position(InitialPosition::TrimHorizon)
        .retrieval(retrieval)
        .configure(|config| config.fan_out.silence_timeout = silence)
        .stop_on_signals(false)
        .build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    let processed = |count: u32| {
        let (log, setup) = (&log, &setup);
        async move {
            let what = format!("{count} records of each shard are processed, over {:?}", setup.front.protocols());
            until_async(&what, GENEROUS, async || Ok((log.processed().len() >= (SHARDS * count) as usize).then_some(()))).await
        }
    };
    setup.put(0..RECORDS)?;
    processed(RECORDS).await?;
    let frozen = setup.front.freeze();
    setup.put(RECORDS..2 * RECORDS)?;
    processed(2 * RECORDS).await?;
    handle.shutdown();
    running.await??.check()?;

    let protocols = setup.front.protocols();
    check(protocols.len() > frozen && protocols.iter().all(|name| name == "h2"), &format!("{frozen} of {protocols:?} were frozen"))?;
    let mut by_shard: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
    for call in log.calls() {
        if let What::ProcessRecords { records, .. } = call.what {
            let numbers = records.iter().map(|record| String::from_utf8_lossy(record.data()).into_owned());
            by_shard.entry(call.shard_id).or_default().extend(numbers);
        }
    }
    let expected: Vec<_> = (0..2 * RECORDS).map(|n| n.to_string()).collect();
    for (shard, numbers) in by_shard {
        check(numbers == expected, &format!("{shard} was read as {numbers:?}"))?;
    }
    Ok(())
}

async fn untrusted(authority: PathBuf) -> Result {
    let setup = Setup::new("127.0.0.1", &authority.with_file_name("unknown.pem"), SHARDS).await?;
    // What is trusted is another authority.
    let _other = Front::start(setup.server.local_addr(), "127.0.0.1", &authority).await?;
    refused(&setup, &setup.front.endpoint(), &["UnknownIssuer", "SSL_CERT_FILE"]).await?;
    // Nor is it TLS what a server without TLS says.
    let clear = setup.server.endpoint_url().replace("http://", "https://");
    refused(&setup, &clear, &["check that the endpoint speaks TLS", "http://"]).await
}

async fn of_another_host(authority: PathBuf) -> Result {
    let setup = Setup::new("kinesis.example", &authority, SHARDS).await?;
    refused(&setup, &setup.front.endpoint(), &["kinesis.example", "check the endpoint"]).await
}

/// All clients say what is wrong with an endpoint, in these words.
async fn refused(setup: &Setup, endpoint: &str, words: &[&str]) -> Result {
    let credentials = SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "test"));
    let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1")).endpoint_url(endpoint);
    let config = config.credentials_provider(credentials).build();
    let client = AwsStreamClient::from_builder(sdk(endpoint), aws::Config::default());
    let consumer: ConsumerArn = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks/consumer/reader:1".parse()?;
    let subscribed = client.subscribe_to_shard(&consumer, &ShardId::from_index(0), ShardPosition::Latest).await;
    for error in [
        client.describe_stream(&setup.stream).await.err(),
        AwsStreamClient::new(&config).describe_stream(&setup.stream).await.err(),
        subscribed.err(),
        DynamoDbLeaseTable::new(&config, "reader").scan().await.err(),
    ] {
        let error = error.ok_or("there was a connection")?;
        // Somebody may mend it while the worker runs.
        check(error.kind() == ErrorKind::Unavailable, &format!("{error:?}"))?;
        for word in words.iter().chain([&endpoint]) {
            check(error.to_string().contains(word), &format!("{word} is missing: {error}"))?;
        }
    }
    Ok(())
}

async fn consumer(client: &AwsStreamClient, setup: &Setup) -> Result<ConsumerArn> {
    let stream = client.describe_stream(&setup.stream).await?.arn;
    let registered = client.register_stream_consumer(&stream, &"reader".parse()?).await?;
    Ok(registered.arn)
}

pub(super) fn check(holds: bool, what: &str) -> Result {
    if holds { Ok(()) } else { Err(what.into()) }
}
