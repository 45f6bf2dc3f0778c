//! Stream consumers, and subscriptions on connections of their own.
//!
//! A subscription occupies its connection for five minutes, so it is kept from the other calls: by clients of its own,
//! whose settings fit a stream that is meant to last, and by a bound on the subscriptions of one connection. HTTP/2 lets
//! a server refuse more than about a hundred streams on a connection, and all of them end with it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_kinesis::{Client, Config, types as sdk};
use aws_smithy_types::{
    body::SdkBody,
    byte_stream::{self, ByteStream},
};
use bytes::Bytes;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    attempts::Attempts,
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
    stream::{
        ConsumerDescription, ConsumerReference, ConsumerStatus, Heard, ShardPosition, StreamReference, Subscription, SubscriptionEvent,
    },
    types::{ConsumerArn, SequenceNumber, ShardId},
};

/// A subscription given up after so long a time without a byte makes its connection suspect. The service sends every five
/// seconds, and readers may give up after six.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(5500);

/// Most subscriptions of a connection of the SDK's HTTP client: its window holds what three of them have not read.
const SDK_SUBSCRIPTIONS: usize = 2;

/// The connections that subscriptions have.
pub(super) struct Connections {
    config: Config,
    connect_timeout: Duration,
    ping_interval: Duration,
    per_connection: usize,
    /// Clients with windows and pings of ours, made at the first subscription; `None` inside where the configuration
    /// brings a client, or the SDK's has to do.
    http: OnceLock<Option<HttpClients>>,
    open: Mutex<Vec<Arc<Connection>>>,
}

/// One client, with an HTTP client and so a connection of its own.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) attempts: Attempts,
    /// Nothing new goes here.
    suspect: AtomicBool,
    /// Whether the server has answered, and no answer broke off since.
    made: AtomicBool,
    making: Semaphore,
}

impl Connections {
    pub(super) fn new(config: Config, settings: &super::Config) -> Self {
        let super::Config { connect_timeout, ping_interval, subscriptions_per_connection, .. } = *settings;
        let per_connection = subscriptions_per_connection.max(1);
        Self { config, connect_timeout, ping_interval, per_connection, http: OnceLock::new(), open: Mutex::default() }
    }

    /// A connection with room for one more subscription, which has it for as long as it keeps the `Arc`.
    pub(super) fn get(&self) -> Arc<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // The last who leaves a suspect connection closes it.
        open.retain(|connection| !connection.suspect.load(Ordering::Relaxed));
        let brought = self.config.http_client().is_some();
        let http = self.http.get_or_init(|| {
            let region = self.config.region().map_or("", |region| region.as_ref());
            if brought { None } else { HttpClients::new(self.connect_timeout, self.per_connection, self.ping_interval, region) }
        });
        let most = if brought || http.is_some() { self.per_connection } else { self.per_connection.min(SDK_SUBSCRIPTIONS) };
        // One of the references is that of this list.
        if let Some(connection) = open.iter().find(|connection| Arc::strong_count(connection) <= most) {
            return Arc::clone(connection);
        }
        let attempts = Attempts::default();
        let config = self.config.to_builder().interceptor(attempts.clone());
        let config = match http {
            Some(http) => config.http_client(http.connect(open.len())),
            // Each client made from a configuration without an HTTP client makes one for itself.
            None => config,
        };
        let client = Client::from_conf(config.build());
        let connection = Arc::new(Connection {
            client,
            attempts,
            suspect: AtomicBool::new(false),
            made: AtomicBool::new(false),
            making: Semaphore::new(1),
        });
        open.push(Arc::clone(&connection));
        connection
    }
}

impl Connection {
    /// Waits while another call makes the connection; with a permit, the caller is the one that does. HTTP clients do not
    /// know beforehand whether a server speaks HTTP/2, and make a connection for each call until one says so.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if self.made.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.making.acquire().await.expect("nobody closes it");
        (!self.made.load(Ordering::Acquire)).then_some(turn)
    }

    /// Notes whether the server answers over it.
    pub(super) fn is_made(&self, made: bool) {
        self.made.store(made, Ordering::Release);
    }

    /// No more subscriptions go to it: it may be dead without having said so.
    pub(super) fn distrust(&self) {
        self.suspect.store(true, Ordering::Relaxed);
        // Where the configuration brings its HTTP client, the next of these would be given the same connection.
        self.attempts.give_up_connections();
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
    heard: Heard,
    /// Since when the next event is waited for, and when the connection was last seen to have nothing of it.
    waits: Option<(Instant, Instant)>,
}

impl AwsSubscription {
    pub(super) fn new(body: SdkBody, blocks: Blocks, connection: Arc<Connection>, call: Call<'_>, shard: &ShardId) -> Self {
        let (reference, region) = (call.stream.clone(), call.region.to_owned());
        let (frames, frame, messages) = (ByteStream::new(body), Bytes::new(), Messages::new(blocks));
        Self { frames, frame, messages, connection, reference, shard: shard.clone(), region, heard: Heard::default(), waits: None }
    }

    fn call(&self) -> Call<'_> {
        let attempts = &self.connection.attempts;
        Call { operation: "SubscribeToShard", stream: &self.reference, region: &self.region, shard: Some(&self.shard), attempts }
    }

    async fn frame(&mut self) -> Option<Result<Bytes, byte_stream::error::Error>> {
        let (mut frame, waits) = (pin!(self.frames.next()), &mut self.waits);
        poll_fn(|context| {
            if let Some((_, seen)) = waits {
                *seen = Instant::now();
            }
            frame.as_mut().poll(context)
        })
        .await
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
            match self.frame().await {
                Some(Ok(frame)) => {
                    self.heard.note();
                    self.frame = frame;
                }
                None if self.messages.is_between_messages() => return Ok(None),
                None | Some(Err(_)) => {
                    self.connection.is_made(false);
                    return Err(self.call().broken_off());
                }
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
        let now = Instant::now();
        self.waits = Some((now, now));
        let received = self.receive().await;
        self.waits = None;
        received
    }

    fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl Drop for AwsSubscription {
    fn drop(&mut self) {
        // Up to where the connection was looked at: whoever waits for room in the meantime is the slow side.
        if self.waits.is_some_and(|(asked, seen)| seen - asked.max(self.heard.at()) >= SUSPICIOUS_SILENCE) {
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
    use crate::stream::{
        StreamClient,
        aws::dribbling::{self, Dribbling},
    };

    fn config() -> Config {
        Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1")).build()
    }

    #[test]
    fn a_connection_takes_so_many_subscriptions_and_a_suspect_one_no_more() {
        let connections =
            Connections::new(config(), &super::super::Config { subscriptions_per_connection: 2, ..super::super::Config::default() });
        let (a, b, c) = (connections.get(), connections.get(), connections.get());
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        drop(b);
        let again = connections.get();
        assert!(Arc::ptr_eq(&a, &again), "a place that is free is taken before a new connection is made");
        c.distrust();
        let d = connections.get();
        assert!(!Arc::ptr_eq(&c, &d) && !Arc::ptr_eq(&a, &d));
    }

    #[tokio::test]
    async fn one_call_at_a_time_makes_the_connection() {
        let connection = Connections::new(config(), &super::super::Config::default()).get();
        let first = connection.turn().await;
        let (mut second, mut third) = (Box::pin(connection.turn()), Box::pin(connection.turn()));
        assert!(first.is_some() && futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        // It got no answer, and the next one tries.
        drop(first);
        let second = second.await;
        assert!(second.is_some() && futures::poll!(&mut third).is_pending());
        connection.is_made(true);
        drop(second);
        assert!(third.await.is_none() && connection.turn().await.is_none());
        connection.is_made(false);
        assert!(connection.turn().await.is_some());
    }

    #[test]
    fn a_connection_of_the_sdks_http_client_takes_two_subscriptions() {
        let connections = Connections::new(config(), &super::super::Config::default());
        connections.http.set(None).unwrap_or_else(|_| panic!("it was not asked for yet"));
        let (a, b, c) = (connections.get(), connections.get(), connections.get());
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_suspect_when_nothing_came_for_long_and_it_was_listened_to() {
        let (consumer, shard) = (dribbling::consumer(), ShardId::from_index(0));
        let event = dribbling::event(&dribbling::page(1, 1024 * 1024));
        let seconds = Duration::from_secs;
        for (what, freezes_after, listens, suspect) in [
            ("an event that dribbles in", usize::MAX, seconds(50), false),
            ("the beginning of a silence", 100_000, seconds(5 + 5), false),
            ("silence in the midst of an event", 100_000, seconds(5 + 11), true),
            ("silence in which nobody listened", 100_000, seconds(5), false),
        ] {
            let server = Dribbling { answer: event.clone(), piece: 2_000, freezes_after };
            let client = server.client();
            let subscribed = client.subscribe_to_shard(&consumer, &shard, ShardPosition::TrimHorizon).await;
            let mut subscription = subscribed.expect("accepted");
            let next = async {
                let mut next = std::pin::pin!(subscription.next());
                assert!(tokio::time::timeout(listens, next.as_mut()).await.is_err(), "{what}: it is not complete");
                tokio::time::sleep(seconds(60)).await;
            };
            next.await;
            drop(subscription);
            let open = client.subscriptions.open.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(open[0].suspect.load(Ordering::Relaxed), suspect, "{what}");
        }
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
