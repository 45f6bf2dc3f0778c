//! Stream consumers, and subscriptions on connections of their own.
//!
//! A subscription occupies its connection for five minutes, so it is kept from the other calls: by clients of its own,
//! whose settings fit a stream that is meant to last, and by a bound on the subscriptions of one connection. HTTP/2 lets
//! a server refuse more than about a hundred streams on a connection, and what is not yet read of some of them takes
//! window from all.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_kinesis::{
    Client, Config, operation::subscribe_to_shard::SubscribeToShardOutput, types as sdk, types::SubscribeToShardEventStream,
};
use tokio::time::Instant;

use super::{
    convert::{child_shard, date_time, record, timestamp, unreadable},
    error::Call,
};
use crate::{
    error::Result,
    stream::{ConsumerDescription, ConsumerReference, ConsumerStatus, ShardPosition, StreamReference, Subscription, SubscriptionEvent},
    types::{ConsumerArn, SequenceNumber, ShardId},
};

/// A subscription given up after so long a silence makes its connection suspect. The service sends every five seconds.
const SUSPICIOUS_SILENCE: Duration = Duration::from_secs(10);

/// The connections that subscriptions have.
pub(super) struct Connections {
    config: Config,
    per_connection: usize,
    open: Mutex<Vec<Arc<Connection>>>,
}

/// One client, with an HTTP client and so a connection of its own.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Nothing new goes here.
    suspect: AtomicBool,
}

impl Connections {
    pub(super) fn new(config: Config, per_connection: usize) -> Self {
        Self { config, per_connection: per_connection.max(1), open: Mutex::default() }
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
        // Each client made from a configuration without an HTTP client makes one for itself.
        let connection = Arc::new(Connection { client: Client::from_conf(self.config.clone()), suspect: AtomicBool::new(false) });
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
    stream: SubscribeToShardOutput,
    connection: Arc<Connection>,
    reference: StreamReference,
    shard: ShardId,
    region: String,
    /// Since when the next event is waited for.
    asked: Option<Instant>,
}

impl AwsSubscription {
    pub(super) fn new(stream: SubscribeToShardOutput, connection: Arc<Connection>, call: Call<'_>, shard: &ShardId) -> Self {
        let (reference, region) = (call.stream.clone(), call.region.to_owned());
        Self { stream, connection, reference, shard: shard.clone(), region, asked: None }
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
        let received = loop {
            match self.stream.event_stream.recv().await {
                Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => break Ok(Some(event)),
                // Events of a kind that this version does not know carry no records.
                Ok(Some(_)) => {}
                Ok(None) => break Ok(None),
                Err(failure) => break Err(failure),
            }
        };
        self.asked = None;
        let call = Call { operation: "SubscribeToShard", stream: &self.reference, region: &self.region, shard: Some(&self.shard) };
        match received {
            Ok(Some(received)) => event(received).map(Some).map_err(|e| e.context(call)),
            Ok(None) => Ok(None),
            Err(failure) => Err(call.broke(failure)),
        }
    }
}

impl Drop for AwsSubscription {
    fn drop(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() >= SUSPICIOUS_SILENCE) {
            self.connection.distrust();
        }
    }
}

fn event(event: sdk::SubscribeToShardEvent) -> Result<SubscriptionEvent> {
    // The SDK puts an empty text where the service sends no number, which is at the end of the shard.
    let continuation = Some(event.continuation_sequence_number).filter(|number| !number.is_empty());
    Ok(SubscriptionEvent {
        records: event.records.into_iter().map(record).collect::<Result<_>>()?,
        continuation: continuation.as_deref().map(SequenceNumber::parse).transpose().map_err(unreadable)?,
        millis_behind_latest: u64::try_from(event.millis_behind_latest).unwrap_or(0),
        child_shards: event.child_shards.unwrap_or_default().into_iter().map(child_shard).collect::<Result<_>>()?,
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
    use crate::types::ChildShard;

    fn config() -> Config {
        Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1")).build()
    }

    #[test]
    fn a_connection_takes_so_many_subscriptions_and_a_suspect_one_no_more() {
        let connections = Connections::new(config(), 2);
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
        let child = sdk::ChildShard::builder()
            .shard_id("shardId-000000000002")
            .parent_shards("shardId-000000000000")
            .hash_key_range(sdk::HashKeyRange::builder().starting_hash_key("0").ending_hash_key("9").build().expect("complete"))
            .build()
            .expect("complete");
        let builder = || sdk::SubscribeToShardEvent::builder().set_records(Some(Vec::new())).millis_behind_latest(7);
        let end = builder().continuation_sequence_number("").child_shards(child).build().expect("complete");
        let end = event(end).expect("readable");
        assert_eq!((end.continuation, end.millis_behind_latest), (None, 7));
        let [ChildShard { id, parents, .. }] = &end.child_shards[..] else { panic!("one child") };
        assert_eq!((id, &parents[..]), (&ShardId::from_index(2), &[ShardId::from_index(0)][..]));
        let more = event(builder().continuation_sequence_number("42").build().expect("complete")).expect("readable");
        assert_eq!(more.continuation, Some(SequenceNumber::from_parts(0, 42)));
        let nonsense = event(builder().continuation_sequence_number("LATEST").build().expect("complete"));
        assert_eq!(nonsense.expect_err("no number").kind(), crate::ErrorKind::InvalidData);
    }
}
