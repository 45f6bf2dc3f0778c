//! Stream consumers, and subscriptions on connections of their own.
//!
//! A subscription occupies its connection for five minutes, so it is kept from the other calls: by clients of its own,
//! whose settings fit a stream that is meant to last, and by a bound on the subscriptions of one connection. HTTP/2 lets
//! a server refuse more than about a hundred streams on a connection, and all of them end with it.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_kinesis::{Client, Config, types as sdk};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    convert::{date_time, timestamp, unreadable},
    decode::{
        Blocks, Document,
        event::{Message, Messages},
    },
    error::Call,
    http::HttpClients,
    tap::plain,
};
use crate::{
    error::{Error, Result},
    stream::{ConsumerDescription, ConsumerReference, ConsumerStatus, ShardPosition, StreamReference, Subscription, SubscriptionEvent},
    types::{ConsumerArn, SequenceNumber, ShardId},
};

/// A subscription given up after so long a silence makes its connection suspect. The service sends every five seconds.
const SUSPICIOUS_SILENCE: Duration = Duration::from_secs(10);

/// The connections that subscriptions have.
pub(super) struct Connections {
    config: Config,
    connect_timeout: Duration,
    per_connection: usize,
    /// Clients with windows and pings of ours, made at the first subscription; `None` inside where the configuration
    /// brings a client, or the SDK's has to do.
    http: OnceLock<Option<HttpClients>>,
    open: Mutex<Vec<Arc<Connection>>>,
}

/// One client, with an HTTP client and so a connection of its own.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Nothing new goes here.
    suspect: AtomicBool,
}

impl Connections {
    pub(super) fn new(config: Config, connect_timeout: Duration, per_connection: usize) -> Self {
        Self { config, connect_timeout, per_connection: per_connection.max(1), http: OnceLock::new(), open: Mutex::default() }
    }

    /// A connection with room for one more subscription, which has it for as long as it keeps the `Arc`.
    pub(super) fn get(&self) -> Arc<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // The last who leaves a suspect connection closes it.
        open.retain(|connection| !connection.suspect.load(Ordering::Relaxed));
        // One of the references is that of this list.
        if let Some(connection) = open.iter().find(|connection| Arc::strong_count(connection) <= self.per_connection) {
            return Arc::clone(connection);
        }
        let http = self.http.get_or_init(|| {
            let ours = self.config.http_client().is_none();
            if ours { HttpClients::new(self.connect_timeout, self.per_connection) } else { None }
        });
        let config = match http {
            Some(http) => self.config.to_builder().http_client(http.connect()).build(),
            // Each client made from a configuration without an HTTP client makes one for itself.
            None => self.config.clone(),
        };
        let connection = Arc::new(Connection { client: Client::from_conf(config), suspect: AtomicBool::new(false) });
        open.push(Arc::clone(&connection));
        connection
    }
}

impl Connection {
    /// No more subscriptions go to it: it may be dead without having said so.
    pub(super) fn distrust(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }
}

/// An open event stream.
pub(super) struct AwsSubscription {
    frames: ByteStream,
    /// What is left of the last frame.
    frame: Bytes,
    messages: Messages,
    connection: Arc<Connection>,
    reference: StreamReference,
    shard: ShardId,
    region: String,
    /// Since when the next event is waited for.
    asked: Option<Instant>,
}

impl AwsSubscription {
    pub(super) fn new(body: SdkBody, blocks: Blocks, connection: Arc<Connection>, call: Call<'_>, shard: &ShardId) -> Self {
        let (reference, region) = (call.stream.clone(), call.region.to_owned());
        let (frames, frame, messages) = (ByteStream::new(body), Bytes::new(), Messages::new(blocks));
        Self { frames, frame, messages, connection, reference, shard: shard.clone(), region, asked: None }
    }

    fn call(&self) -> Call<'_> {
        Call { operation: "SubscribeToShard", stream: &self.reference, region: &self.region, shard: Some(&self.shard) }
    }

    async fn receive(&mut self) -> Result<Option<SubscriptionEvent>> {
        loop {
            match self.messages.next(&mut self.frame).map_err(|defect| Error::from(defect).context(self.call()))? {
                Some(Message::Records(document)) => return event(document).map(Some).map_err(|e| e.context(self.call())),
                Some(Message::Other) => continue,
                // What has no name here is what the service could not put into one of its own: it failed.
                Some(Message::Exception { code, text }) => return Err(self.call().refused(500, plain(&code), &text)),
                None => {}
            }
            match self.frames.next().await {
                Some(Ok(frame)) => self.frame = frame,
                None if self.messages.is_between_messages() => return Ok(None),
                None | Some(Err(_)) => return Err(self.call().broken_off()),
            }
        }
    }
}

impl fmt::Debug for AwsSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsSubscription").field("stream", &self.reference).field("shard", &self.shard).finish_non_exhaustive()
    }
}

#[async_trait]
impl Subscription for AwsSubscription {
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>> {
        self.asked = Some(Instant::now());
        let received = self.receive().await;
        self.asked = None;
        received
    }
}

impl Drop for AwsSubscription {
    fn drop(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() >= SUSPICIOUS_SILENCE) {
            self.connection.distrust();
        }
    }
}

fn event(mut document: Document) -> Result<SubscriptionEvent> {
    // Some servers send an empty text where the service sends no number, which is at the end of the shard.
    let continuation = document.continuation.take().filter(|number| !number.is_empty());
    Ok(SubscriptionEvent {
        records: document.take_records(),
        continuation: continuation.as_deref().map(SequenceNumber::parse).transpose().map_err(unreadable)?,
        millis_behind_latest: document.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0),
        child_shards: document.take_child_shards()?,
    })
}

/// ARN, stream ARN and name, as the calls for stream consumers take them.
pub(super) fn arn_or_name(consumer: &ConsumerReference) -> (Option<String>, Option<String>, Option<String>) {
    match consumer {
        ConsumerReference::Arn(arn) => (Some(arn.to_string()), None, None),
        ConsumerReference::Name { stream, name } => (None, Some(stream.to_string()), Some(name.to_string())),
    }
}

/// The stream of a consumer, for messages.
pub(super) fn stream_of(consumer: &ConsumerReference) -> StreamReference {
    StreamReference::Arn(match consumer {
        ConsumerReference::Arn(arn) => arn.stream_arn(),
        ConsumerReference::Name { stream, .. } => stream.clone(),
    })
}

pub(super) fn consumer(
    name: &str,
    arn: &str,
    status: &sdk::ConsumerStatus,
    created: aws_smithy_types::DateTime,
) -> Result<ConsumerDescription> {
    Ok(ConsumerDescription {
        name: name.parse().map_err(unreadable)?,
        arn: arn.parse::<ConsumerArn>().map_err(unreadable)?,
        status: match status {
            sdk::ConsumerStatus::Active => ConsumerStatus::Active,
            sdk::ConsumerStatus::Deleting => ConsumerStatus::Deleting,
            // A status that a later version of the service adds is one to wait in.
            _ => ConsumerStatus::Creating,
        },
        created: timestamp(created),
    })
}

pub(super) fn starting_position(position: ShardPosition) -> sdk::StartingPosition {
    use sdk::ShardIteratorType as Kind;
    let builder = sdk::StartingPosition::builder();
    let builder = match position {
        ShardPosition::TrimHorizon => builder.r#type(Kind::TrimHorizon),
        ShardPosition::Latest => builder.r#type(Kind::Latest),
        ShardPosition::AtTimestamp(at) => builder.r#type(Kind::AtTimestamp).timestamp(date_time(at)),
        ShardPosition::AtSequenceNumber(number) => builder.r#type(Kind::AtSequenceNumber).sequence_number(number.to_string()),
        ShardPosition::AfterSequenceNumber(number) => builder.r#type(Kind::AfterSequenceNumber).sequence_number(number.to_string()),
    };
    builder.build().expect("the type is set")
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::config::{BehaviorVersion, Region};

    use super::*;

    fn config() -> Config {
        Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1")).build()
    }

    #[test]
    fn a_connection_takes_so_many_subscriptions_and_a_suspect_one_no_more() {
        let connections = Connections::new(config(), Duration::from_secs(3), 2);
        let (a, b, c) = (connections.get(), connections.get(), connections.get());
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        drop(b);
        let again = connections.get();
        assert!(Arc::ptr_eq(&a, &again), "a place that is free is taken before a new connection is made");
        c.distrust();
        let d = connections.get();
        assert!(!Arc::ptr_eq(&c, &d) && !Arc::ptr_eq(&a, &d));
    }

    #[test]
    fn an_empty_continuation_is_the_end_of_the_shard() {
        let read = |continuation: Option<&str>| {
            let continuation = continuation.map(ToOwned::to_owned);
            let mut document = Document::default();
            (document.continuation, document.millis_behind_latest) = (continuation, Some(7));
            event(document)
        };
        for nothing in [None, Some("")] {
            let end = read(nothing).expect("readable");
            assert_eq!((end.continuation, end.millis_behind_latest), (None, 7));
        }
        assert_eq!(read(Some("42")).expect("readable").continuation, Some(SequenceNumber::from_parts(0, 42)));
        assert_eq!(read(Some("LATEST")).expect_err("no number").kind(), crate::ErrorKind::InvalidData);
    }
}
