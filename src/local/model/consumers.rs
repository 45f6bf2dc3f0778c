//! Stream consumers: register, describe, list, deregister.

use std::{collections::BTreeMap, fmt};

use super::{
    Model, RatedCall, ServiceError, ServiceErrorCode,
    get_records::check_range,
    list_shards::check_token_age,
    stream::{Context, Stream},
    tags::check_new_tags,
    token::{Kind, Reader, Writer},
};
use crate::{
    stream::{ConsumerStatus, StreamReference},
    types::{ConsumerArn, StreamName, Timestamp},
};

/// Most consumers in one answer of ListStreamConsumers, and how many there are when nothing is said.
const LIST_LIMIT: u32 = 100;
const LIST_MAX_RESULTS: u32 = 10_000;
const NAME_MAX_CHARS: usize = 128;

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX_CHARS).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Which stream consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerReference {
    /// By its ARN.
    Arn(ConsumerArn),
    /// By its name, which is unique among the consumers of a stream.
    Name {
        /// The stream.
        stream: StreamReference,
        /// The consumer's name.
        name: String,
    },
}

/// What the service says of a stream consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConsumer {
    /// Its name.
    pub name: String,
    /// Its ARN; another after it was registered anew.
    pub arn: ConsumerArn,
    /// Whether it can subscribe.
    pub status: ConsumerStatus,
    /// When it was registered.
    pub created: Timestamp,
}

/// Input of `ListStreamConsumers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListStreamConsumers {
    /// The stream.
    pub stream: StreamReference,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Most consumers in the answer, 1 to 10,000, of which at most 100 are given; 100 when absent.
    pub max_results: Option<u32>,
    /// Tells a stream from its predecessor of the same name; must be absent beside `next_token`.
    pub stream_creation_timestamp: Option<Timestamp>,
}

impl ListStreamConsumers {
    /// All consumers of the stream, from the first.
    #[must_use]
    pub const fn of(stream: StreamReference) -> Self {
        Self { stream, next_token: None, max_results: None, stream_creation_timestamp: None }
    }
}

/// A page of `ListStreamConsumers`, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumersPage {
    /// The consumers.
    pub consumers: Vec<StreamConsumer>,
    /// Where the next page begins; `None` on the last.
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum ConsumerLifecycle {
    Creating { until: Timestamp },
    Active,
    Deleting { until: Timestamp },
}

/// The lasting facts of a stream consumer.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct ConsumerFacts {
    pub(super) created: Timestamp,
    pub(super) lifecycle: ConsumerLifecycle,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) policy: Option<String>,
}

impl ConsumerFacts {
    fn created_secs(&self) -> u64 {
        u64::try_from(self.created.as_millis() / 1000).unwrap_or(0)
    }

    pub(super) const fn status(&self) -> ConsumerStatus {
        match self.lifecycle {
            ConsumerLifecycle::Creating { .. } => ConsumerStatus::Creating,
            ConsumerLifecycle::Active => ConsumerStatus::Active,
            ConsumerLifecycle::Deleting { .. } => ConsumerStatus::Deleting,
        }
    }
}

pub(super) fn consumer_not_found(consumer: impl fmt::Display, cx: &Context<'_>) -> ServiceError {
    ServiceError::new(ServiceErrorCode::ResourceNotFound, format!("Consumer {consumer}, account {} not found.", cx.config.account_id))
}

impl Model {
    /// `RegisterStreamConsumer`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` when the name is taken or the stream is being made or deleted,
    /// `LimitExceeded` for the 20 consumers of a stream, or the rate and the consumers in creation of the account,
    /// `InvalidArgument`, `Validation`.
    pub fn register_stream_consumer(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<StreamConsumer, ServiceError> {
        if !is_name(name) {
            let shown: String = name.chars().take(256).collect();
            let constraint = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+ and have a length of 1 to 128";
            return Err(ServiceError::validation(shown, "consumerName", constraint));
        }
        check_new_tags(&tags)?;
        self.count(now, RatedCall::RegisterStreamConsumer, Some(&stream.name()))?;
        self.settle_all(now);
        let creating = self.streams.values().flat_map(|stream| stream.facts.consumers.values());
        let creating = creating.filter(|consumer| consumer.status() == ConsumerStatus::Creating).count();
        self.on(now, stream, |stream, cx| {
            let (limits, stream_name) = (cx.config.limits, stream.facts.name.clone());
            stream.require_open(cx)?;
            if stream.facts.consumers.contains_key(name) {
                let message =
                    format!("Consumer {name} under stream {} already exists for account {}.", stream.facts.arn, cx.config.account_id);
                return Err(ServiceError::new(ServiceErrorCode::ResourceInUse, message));
            }
            let limit = |what: String| Err(ServiceError::new(ServiceErrorCode::LimitExceeded, what));
            if let Some(most) = limits.consumers_per_stream
                && stream.facts.consumers.len() >= most as usize
            {
                return limit(format!("Stream {stream_name} under account {} has its {most} consumers already.", cx.config.account_id));
            }
            if let Some(most) = limits.consumers_in_creation
                && creating >= most as usize
            {
                return limit(format!("Account {} has {most} consumers in CREATING state already.", cx.config.account_id));
            }
            let until = now.plus(cx.config.delays.consumer);
            let facts = ConsumerFacts { created: now, lifecycle: ConsumerLifecycle::Creating { until }, tags, policy: None };
            // The answer says CREATING, however soon that is over.
            let answer = stream.consumer(name, &facts);
            stream.facts.consumers.insert(name.to_owned(), facts);
            stream.note(cx);
            Ok(answer)
        })
    }

    /// `DescribeStreamConsumer`.
    ///
    /// # Errors
    /// `ResourceNotFound` when stream or consumer is not there, `LimitExceeded` above 20 calls per second and stream.
    pub fn describe_stream_consumer(&mut self, now: Timestamp, consumer: &ConsumerReference) -> Result<StreamConsumer, ServiceError> {
        self.on_consumer(now, consumer, |stream, name, cx| {
            stream.calls.count(now, RatedCall::DescribeStreamConsumer, &stream.facts.name, cx.config)?;
            Ok(stream.consumer(name, &stream.facts.consumers[name]))
        })
    }

    /// `ListStreamConsumers`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ExpiredNextToken`, `InvalidArgument`, `LimitExceeded`, `Validation`.
    pub fn list_stream_consumers(&mut self, now: Timestamp, input: &ListStreamConsumers) -> Result<ConsumersPage, ServiceError> {
        let max_results = input.max_results.unwrap_or(LIST_LIMIT);
        check_range(max_results, "maxResults", LIST_MAX_RESULTS)?;
        let (after, created) = match (&input.next_token, input.stream_creation_timestamp) {
            (Some(_), Some(_)) => {
                return Err(ServiceError::invalid("NextToken and StreamCreationTimestamp cannot be provided together."));
            }
            (Some(token), None) => {
                let opened = Reader::open(Kind::ConsumerPage, token)
                    .and_then(|(mut reader, issued)| Some((StreamName::new(reader.text()?).ok()?, reader.time()?, reader.text()?, issued)));
                let (stream, created, after, issued) = opened
                    .filter(|(stream, ..)| *stream == input.stream.name())
                    .ok_or_else(|| ServiceError::invalid("NextToken is invalid."))?;
                drop(stream);
                check_token_age(now, issued)?;
                (after, Some(created))
            }
            (None, created) => (String::new(), created),
        };
        self.on(now, &input.stream, |stream, cx| {
            stream.calls.count(now, RatedCall::ListStreamConsumers, &stream.facts.name, cx.config)?;
            if created.is_some_and(|created| created != stream.facts.created) {
                return Err(super::stream::stream_not_found(&stream.facts.name, cx.config));
            }
            let mut rest = stream.facts.consumers.iter().filter(|(name, _)| **name > after);
            let consumers: Vec<StreamConsumer> =
                rest.by_ref().take(max_results.min(LIST_LIMIT) as usize).map(|(name, facts)| stream.consumer(name, facts)).collect();
            let next_token = match (rest.next(), consumers.last()) {
                (Some(_), Some(last)) => {
                    let token = Writer::new(Kind::ConsumerPage, now).text(stream.facts.name.as_str()).time(stream.facts.created);
                    Some(token.text(&last.name).finish())
                }
                _ => None,
            };
            Ok(ConsumersPage { consumers, next_token })
        })
    }

    /// `DeregisterStreamConsumer`: its subscriptions end at once.
    ///
    /// # Errors
    /// `ResourceNotFound`, `LimitExceeded`.
    pub fn deregister_stream_consumer(&mut self, now: Timestamp, consumer: &ConsumerReference) -> Result<(), ServiceError> {
        self.on_consumer(now, consumer, |stream, name, cx| {
            stream.calls.count(now, RatedCall::DeregisterStreamConsumer, &stream.facts.name, cx.config)?;
            let until = now.plus(cx.config.delays.consumer);
            if let Some(facts) = stream.facts.consumers.get_mut(name) {
                facts.lifecycle = ConsumerLifecycle::Deleting { until };
            }
            stream.seats.wake_consumer(cx, name);
            stream.note(cx);
            stream.settle_consumers(cx);
            Ok(())
        })
    }

    /// Runs an operation on a consumer that is there.
    pub(super) fn on_consumer<T>(
        &mut self,
        now: Timestamp,
        consumer: &ConsumerReference,
        operation: impl FnOnce(&mut Stream, &str, &mut Context<'_>) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        match consumer {
            ConsumerReference::Name { stream, name } => {
                self.on(now, stream, |stream, cx| match stream.facts.consumers.contains_key(name) {
                    true => operation(stream, name, cx),
                    false => Err(consumer_not_found(name, cx)),
                })
            }
            ConsumerReference::Arn(arn) => {
                self.on(now, &StreamReference::Arn(arn.stream_arn()), |stream, cx| match stream.consumer_of(arn).is_some() {
                    true => operation(stream, arn.consumer_name().as_str(), cx),
                    false => Err(consumer_not_found(arn, cx)),
                })
            }
        }
    }
}

impl Stream {
    fn consumer(&self, name: &str, facts: &ConsumerFacts) -> StreamConsumer {
        let text = format!("{}/consumer/{name}:{}", self.facts.arn, facts.created_secs());
        let arn = ConsumerArn::new(text).expect("the name was checked when it was registered");
        StreamConsumer { name: name.to_owned(), arn, status: facts.status(), created: facts.created }
    }

    /// The consumer of this ARN; not its successor of the same name.
    pub(super) fn consumer_of(&self, arn: &ConsumerArn) -> Option<&ConsumerFacts> {
        self.facts.consumers.get(arn.consumer_name().as_str()).filter(|facts| facts.created_secs() == arn.created_secs())
    }

    /// Takes the steps of consumers that are due.
    pub(super) fn settle_consumers(&mut self, cx: &mut Context<'_>) {
        let mut changed = false;
        self.facts.consumers.retain(|name, facts| match facts.lifecycle {
            ConsumerLifecycle::Creating { until } if until <= cx.now => {
                facts.lifecycle = ConsumerLifecycle::Active;
                changed = true;
                true
            }
            ConsumerLifecycle::Deleting { until } if until <= cx.now => {
                self.seats.forget_consumer(name);
                changed = true;
                false
            }
            ConsumerLifecycle::Creating { .. } | ConsumerLifecycle::Deleting { .. } | ConsumerLifecycle::Active => true,
        });
        if changed {
            self.note(cx);
        }
    }
}
