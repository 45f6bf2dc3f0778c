//! The stream on Amazon Kinesis, through the AWS SDK.
//!
//! Each method is one attempt: the SDK's retries are off, since their budget is shared by the whole process and
//! hides what a call costs the shard. Each has an explicit time limit, in place of the SDK's stalled-stream
//! protection, which is made for downloads and ends quiet answers. The body of `GetRecords` may take its time, as long as
//! it gets on.

mod attempts;
#[cfg(feature = "test-util")]
mod control;
mod convert;
mod decode;
#[cfg(test)]
pub(crate) mod dribbling;
mod error;
mod fan_out;
mod http;
mod identity;
mod proxy;
mod records;
mod session;
mod tap;
mod tls;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_kinesis::{
    Client,
    config::{Builder, StalledStreamProtectionConfig, retry::RetryConfig, retry::RetryPartition, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::ShardIteratorType,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::{SdkConfig, service_config::ServiceConfigKey};
use tokio::time::{Instant, timeout};

pub(crate) use self::tls::distrust;
use self::{
    convert::{date_time, description, shard, shard_filter},
    decode::Blocks,
    error::Call,
    fan_out::{AwsSubscription, Connections, arn_or_name, consumer, starting_position, stream_of},
    identity::PatientCache,
    records::Dialect,
    session::Session,
    tap::Tap,
};
use super::{
    ConsumerDescription, ConsumerReference, PageToken, RecordsPage, ShardFilter, ShardIterator, ShardPage, ShardPosition, StreamClient,
    StreamDescription, StreamReference, Subscription,
};
use crate::{
    error::{ErrorKind, Result},
    limits,
    types::{ConsumerArn, ConsumerName, ShardId, StreamArn},
};

/// How the service writes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Format {
    /// Payloads are base64 in text.
    Json,
    /// Payloads are bytes: a quarter fewer on the wire, and nothing to decode. What the SDK for Java speaks.
    Cbor,
}

/// Time limits of the calls, and what goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Bounds the set-up of a connection, TLS included. Shorter notices an unreachable endpoint sooner; too short
    /// fails on slow networks. Default 3 s.
    pub connect_timeout: Duration,
    /// Bounds each call but `GetRecords`, credentials and connection included. Default 10 s.
    pub call_timeout: Duration,
    /// Bounds the time until an answer of `GetRecords` begins. Default 30 s, as KCL's
    /// `PollingConfig.kinesisRequestTimeout`.
    pub get_records_timeout: Duration,
    /// Bounds the time in which nothing comes of an answer of `GetRecords` that has begun; default 10 s. Such an answer has
    /// up to 10 MiB, and may take as long as it needs on a slow network, as long as some of it comes in.
    pub get_records_silence_timeout: Duration,
    /// Subscriptions that share one connection, 1 or more; default 50. More means fewer connections, and more shards
    /// that wait when one breaks; servers may refuse more than about a hundred. Each has a window of its own, so that a
    /// shard whose handler is slow holds up no other. Has no effect when the SDK configuration brings its own HTTP
    /// client: then that decides.
    pub subscriptions_per_connection: usize,
    /// A connection of subscriptions on which nothing came for so long is asked whether it is still there, and given up
    /// when it does not answer for as long again; default 10 s, more than 0. Shorter notices a dead connection sooner,
    /// and takes a slow one for dead. Over HTTP/2, and not when the SDK configuration brings its own HTTP client.
    pub ping_interval: Duration,
    /// What `GetRecords` asks for; default CBOR. A server that refuses it is asked in JSON from then on, but for an
    /// attempt every ten minutes. JSON costs the client twice the CPU time for the same records; it is for whoever must read what goes over the wire.
    pub records_format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(10),
            get_records_timeout: Duration::from_secs(30),
            get_records_silence_timeout: Duration::from_secs(10),
            subscriptions_per_connection: 50,
            ping_interval: Duration::from_secs(10),
            records_format: Format::Cbor,
        }
    }
}

/// Most stream consumers in an answer: more than a stream may have.
const LISTED_CONSUMERS: i32 = 100;

/// A [`StreamClient`] on Amazon Kinesis, or on anything that speaks its protocol at an overridden endpoint.
///
/// Region, credentials, endpoint (`AWS_ENDPOINT_URL_KINESIS` included) and HTTP client are those of the
/// configuration it is made from; retries, time limits and stalled-stream protection are its own.
#[derive(Clone)]
pub struct AwsStreamClient {
    session: Arc<Session>,
    subscriptions: Arc<Connections>,
    /// As errors name it, with the endpoint if that is known to be overridden.
    region: String,
    config: Config,
    dialect: Arc<Dialect>,
    blocks: Blocks,
}

impl AwsStreamClient {
    /// A client with default time limits, from what `aws_config::load_defaults` returns.
    ///
    /// # Panics
    /// When `config` has no behaviour version; `aws_config` always sets one.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        let client = Self::from_builder(Builder::from(config), Config::default());
        match endpoint_override(config, "Kinesis") {
            Some(endpoint) => Self { region: format!("{} at {endpoint}", client.region), ..client },
            None => client,
        }
    }

    /// A client like `client`: same region, credentials, endpoint, protocol, interceptors and HTTP client.
    #[must_use]
    pub fn from_client(client: &Client) -> Self {
        Self::from_builder(client.config().to_builder(), Config::default())
    }

    /// A client from the SDK's own builder, with time limits of one's choice.
    ///
    /// # Panics
    /// When `builder` has no behaviour version, as the SDK documents.
    #[must_use]
    pub fn from_builder(builder: Builder, config: Config) -> Self {
        let sdk_config = builder
            .retry_config(RetryConfig::disabled())
            .retry_partition(RetryPartition::new("shardkeeper-stream"))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(config.connect_timeout)
                    .disable_read_timeout()
                    .disable_operation_timeout()
                    .disable_operation_attempt_timeout()
                    .build(),
            )
            .build();
        let credentials = PatientCache::new(sdk_config.identity_cache(), config.call_timeout);
        // One for all clients that are made from it.
        let sdk_config = sdk_config.to_builder().identity_cache(credentials).build();
        let region = sdk_config.region().map_or_else(|| "no region".to_owned(), ToString::to_string);
        let subscriptions = Arc::new(Connections::new(sdk_config.clone(), &config));
        Self {
            session: Arc::new(Session::new(sdk_config)),
            subscriptions,
            region,
            config,
            dialect: Arc::default(),
            blocks: Blocks::default(),
        }
    }

    /// Makes one attempt within its time limit and names the call in its error.
    async fn attempt<T, E>(
        &self,
        limit: Duration,
        call: Call<'_>,
        answer: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T>
    where
        T: Send,
        E: ProvideErrorMetadata + Send,
    {
        let sent = Instant::now();
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(call.failed(failure)),
            Err(_) => {
                self.session.timed_out(sent);
                Err(call.timed_out(limit))
            }
        }
    }

    fn call<'a>(&'a self, operation: &'static str, stream: &'a StreamReference) -> Call<'a> {
        Call { operation, stream, region: self.region.as_str(), shard: None, attempts: self.session.attempts() }
    }
}

impl std::fmt::Debug for AwsStreamClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The SDK's configuration holds more than a log should.
        f.debug_struct("AwsStreamClient").field("region", &self.region).field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::fmt::Display for AwsStreamClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kinesis in {}", self.region)
    }
}

/// The endpoint of a service's clients, where it is not the service's own: what the SDK takes, which it does not tell.
pub(crate) fn endpoint_override(config: &SdkConfig, service_id: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service_id).env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    let of_the_service = if config.get_origin("endpoint_url").is_client_config() {
        None
    } else {
        config.service_config().and_then(|service| service.load_config(key))
    };
    of_the_service.or_else(|| config.endpoint_url().map(str::to_owned))
}

/// Name or ARN, whichever the reference is; the service takes exactly one.
fn name_or_arn(stream: &StreamReference) -> (Option<String>, Option<String>) {
    match stream {
        StreamReference::Name(name) => (Some(name.to_string()), None),
        StreamReference::Arn(arn) => (None, Some(arn.to_string())),
    }
}

#[async_trait]
impl StreamClient for AwsStreamClient {
    async fn describe_stream(&self, stream: &StreamReference) -> Result<StreamDescription> {
        let (name, arn) = name_or_arn(stream);
        let call = self.call("DescribeStreamSummary", stream);
        let request = self.session.client().describe_stream_summary().set_stream_name(name).set_stream_arn(arn);
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        let summary = answer.stream_description_summary.ok_or_else(|| call.unreadable("the description is missing"))?;
        description(summary).map_err(|e| e.context(call))
    }

    async fn list_shards(&self, stream: &StreamReference, filter: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        let (name, arn) = name_or_arn(stream);
        let call = self.call("ListShards", stream);
        let max_results = i32::try_from(limits::LIST_SHARDS_MAX_RESULTS).unwrap_or(i32::MAX);
        let request = self.session.client().list_shards().set_stream_arn(arn).max_results(max_results);
        let request = match page {
            // The token stands for the name and the filter, and the service refuses them beside it.
            Some(token) => request.next_token(&token.0),
            None => request.set_stream_name(name).set_shard_filter(shard_filter(filter)),
        };
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        let shards = answer.shards.unwrap_or_default().into_iter().map(shard).collect::<Result<_>>().map_err(|e| e.context(call))?;
        Ok(ShardPage { shards, next: answer.next_token.map(PageToken) })
    }

    async fn shard_iterator(&self, stream: &StreamReference, shard: &ShardId, position: ShardPosition) -> Result<ShardIterator> {
        let (name, arn) = name_or_arn(stream);
        let call = Call { shard: Some(shard), ..self.call("GetShardIterator", stream) };
        let request = self.session.client().get_shard_iterator().set_stream_name(name).set_stream_arn(arn).shard_id(shard.as_str());
        let request = match position {
            ShardPosition::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            ShardPosition::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
            ShardPosition::AtTimestamp(at) => request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(date_time(at)),
            ShardPosition::AtSequenceNumber(number) => {
                request.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(number.to_string())
            }
            ShardPosition::AfterSequenceNumber(number) => {
                request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(number.to_string())
            }
        };
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        answer.shard_iterator.map(ShardIterator).ok_or_else(|| call.unreadable("the iterator is missing"))
    }

    async fn get_records(&self, stream: &StreamReference, iterator: &ShardIterator, limit: u32) -> Result<RecordsPage> {
        let call = self.call("GetRecords", stream);
        self.fetch(call, stream, iterator, limit).await
    }

    async fn register_stream_consumer(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        let reference = StreamReference::Arn(stream.clone());
        let call = self.call("RegisterStreamConsumer", &reference);
        let request = self.session.client().register_stream_consumer().stream_arn(stream.as_str()).consumer_name(name.as_str());
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        let made = answer.consumer.ok_or_else(|| call.unreadable("the consumer is missing"))?;
        consumer(&made.consumer_name, &made.consumer_arn, &made.consumer_status, made.consumer_creation_timestamp)
            .map_err(|e| e.context(call))
    }

    async fn describe_stream_consumer(&self, reference: &ConsumerReference) -> Result<ConsumerDescription> {
        let stream = stream_of(reference);
        let call = self.call("DescribeStreamConsumer", &stream);
        let (arn, stream_arn, name) = arn_or_name(reference);
        let request =
            self.session.client().describe_stream_consumer().set_consumer_arn(arn).set_stream_arn(stream_arn).set_consumer_name(name);
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        let found = answer.consumer_description.ok_or_else(|| call.unreadable("the description is missing"))?;
        consumer(&found.consumer_name, &found.consumer_arn, &found.consumer_status, found.consumer_creation_timestamp)
            .map_err(|e| e.context(call))
    }

    async fn list_stream_consumers(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        let reference = StreamReference::Arn(stream.clone());
        let call = self.call("ListStreamConsumers", &reference);
        let request = self.session.client().list_stream_consumers().stream_arn(stream.as_str()).max_results(LISTED_CONSUMERS);
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        let found = answer.consumers.unwrap_or_default();
        let described =
            found.iter().map(|c| consumer(&c.consumer_name, &c.consumer_arn, &c.consumer_status, c.consumer_creation_timestamp));
        described.collect::<Result<_>>().map_err(|e| e.context(call))
    }

    async fn deregister_stream_consumer(&self, reference: &ConsumerReference) -> Result<()> {
        let stream = stream_of(reference);
        let call = self.call("DeregisterStreamConsumer", &stream);
        let (arn, stream_arn, name) = arn_or_name(reference);
        let request =
            self.session.client().deregister_stream_consumer().set_consumer_arn(arn).set_stream_arn(stream_arn).set_consumer_name(name);
        self.attempt(self.config.call_timeout, call, request.send()).await?;
        Ok(())
    }

    async fn subscribe_to_shard(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        let stream = StreamReference::Arn(consumer.stream_arn());
        let connection = self.subscriptions.get();
        let call = Call { shard: Some(shard), attempts: &connection.attempts, ..self.call("SubscribeToShard", &stream) };
        let tap = Tap::default();
        let request = connection.client.subscribe_to_shard().consumer_arn(consumer.as_str()).shard_id(shard.as_str());
        let request = request.starting_position(starting_position(position)).customize().interceptor(tap.clone());
        // The limit covers the beginning of the answer. The stream that follows has none: who reads it knows how long
        // silence is good.
        let begun = async {
            let turn = connection.turn().await;
            let (outcome, answer) = (request.send().await, tap.answer());
            connection.is_made(answer.is_some() || outcome.as_ref().is_err_and(|failure| failure.raw_response().is_some()));
            drop(turn);
            match (answer, outcome) {
                (Some(answer), _) if answer.is_success() => Ok(answer.body),
                (Some(answer), _) => {
                    let status = answer.status;
                    let (code, message) = answer.error().await;
                    Err(call.refused(status, &code, &message))
                }
                (None, Err(failure)) => Err(call.failed(failure)),
                (None, Ok(_)) => Err(call.unanswered()),
            }
        };
        let limit = self.config.call_timeout;
        match timeout(limit, begun).await.unwrap_or_else(|_| Err(call.timed_out(limit))) {
            Ok(body) => Ok(Box::new(AwsSubscription::new(body, self.blocks.clone(), Arc::clone(&connection), call, shard))),
            Err(error) => {
                if error.kind() == ErrorKind::Timeout {
                    connection.distrust();
                }
                Err(error)
            }
        }
    }
}
