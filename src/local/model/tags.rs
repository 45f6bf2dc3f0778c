//! Tags of streams and stream consumers.

use std::collections::BTreeMap;

use super::{ConsumerReference, Model, RatedCall, ServiceError, get_records::check_range};
use crate::{
    limits,
    stream::StreamReference,
    types::{ConsumerArn, InvalidText, StreamArn, Timestamp},
};

const KEY_MAX_CHARS: usize = 128;
const VALUE_MAX_CHARS: usize = 256;
const LIST_MAX: u32 = 50;

/// What a tag or a policy can be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceArn {
    /// A stream.
    Stream(StreamArn),
    /// A stream consumer.
    Consumer(ConsumerArn),
}

impl std::str::FromStr for ResourceArn {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if text.contains("/consumer/") { text.parse().map(Self::Consumer) } else { text.parse().map(Self::Stream) }
    }
}

impl std::fmt::Display for ResourceArn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(arn) => arn.fmt(f),
            Self::Consumer(arn) => arn.fmt(f),
        }
    }
}

/// A page of `ListTagsForStream`, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsPage {
    /// Keys and values.
    pub tags: Vec<(String, String)>,
    /// Whether there are tags after the last of these.
    pub has_more_tags: bool,
}

impl Model {
    /// `AddTagsToStream`: new tags, and new values of old ones.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument` beyond 50 tags or for characters that tags may not have, `LimitExceeded` above the
    /// rate of calls, `Validation`.
    pub fn add_tags_to_stream(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        tags: BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        check_tags(&tags)?;
        self.count(now, RatedCall::AddTagsToStream, Some(&stream.name()))?;
        self.on(now, stream, |stream, cx| {
            add(&mut stream.facts.tags, tags, &stream.facts.name)?;
            stream.note(cx);
            Ok(())
        })
    }

    /// `RemoveTagsFromStream`: keys that the stream does not have are passed over.
    ///
    /// # Errors
    /// `ResourceNotFound`, `LimitExceeded` above the rate of calls, `Validation`.
    pub fn remove_tags_from_stream(&mut self, now: Timestamp, stream: &StreamReference, keys: &[String]) -> Result<(), ServiceError> {
        check_keys(keys)?;
        self.count(now, RatedCall::RemoveTagsFromStream, Some(&stream.name()))?;
        self.on(now, stream, |stream, cx| {
            stream.facts.tags.retain(|key, _| !keys.contains(key));
            stream.note(cx);
            Ok(())
        })
    }

    /// `ListTagsForStream`: at most `limit` tags, 1 to 50, after `exclusive_start`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `LimitExceeded` above the rate of calls, `Validation`.
    pub fn list_tags_for_stream(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        exclusive_start: Option<&str>,
        limit: Option<u32>,
    ) -> Result<TagsPage, ServiceError> {
        let limit = limit.unwrap_or(LIST_MAX);
        check_range(limit, "limit", LIST_MAX)?;
        self.count(now, RatedCall::ListTagsForStream, Some(&stream.name()))?;
        self.on(now, stream, |stream, _| {
            let mut rest = stream.facts.tags.iter().filter(|(key, _)| exclusive_start.is_none_or(|start| key.as_str() > start));
            let tags = rest.by_ref().take(limit as usize).map(|(key, value)| (key.clone(), value.clone())).collect();
            Ok(TagsPage { tags, has_more_tags: rest.next().is_some() })
        })
    }

    /// `TagResource`.
    ///
    /// # Errors
    /// As [`Model::add_tags_to_stream`], but for the rate.
    pub fn tag_resource(&mut self, now: Timestamp, resource: &ResourceArn, tags: BTreeMap<String, String>) -> Result<(), ServiceError> {
        check_tags(&tags)?;
        self.on_tags(now, resource, |own| add(own, tags, resource))
    }

    /// `UntagResource`.
    ///
    /// # Errors
    /// As [`Model::remove_tags_from_stream`], but for the rate.
    pub fn untag_resource(&mut self, now: Timestamp, resource: &ResourceArn, keys: &[String]) -> Result<(), ServiceError> {
        check_keys(keys)?;
        self.on_tags(now, resource, |own| {
            own.retain(|key, _| !keys.contains(key));
            Ok(())
        })
    }

    /// `ListTagsForResource`: all of them.
    ///
    /// # Errors
    /// `ResourceNotFound`.
    pub fn list_tags_for_resource(&mut self, now: Timestamp, resource: &ResourceArn) -> Result<BTreeMap<String, String>, ServiceError> {
        self.on_tags(now, resource, |own| Ok(own.clone()))
    }

    fn on_tags<T>(
        &mut self,
        now: Timestamp,
        resource: &ResourceArn,
        operation: impl FnOnce(&mut BTreeMap<String, String>) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        match resource {
            ResourceArn::Stream(arn) => self.on(now, &StreamReference::Arn(arn.clone()), |stream, cx| {
                let answer = operation(&mut stream.facts.tags)?;
                stream.note(cx);
                Ok(answer)
            }),
            ResourceArn::Consumer(arn) => self.on_consumer(now, &ConsumerReference::Arn(arn.clone()), |stream, name, cx| {
                let consumer = stream.facts.consumers.get_mut(name).expect("looked up before");
                let answer = operation(&mut consumer.tags)?;
                stream.note(cx);
                Ok(answer)
            }),
        }
    }
}

fn add(own: &mut BTreeMap<String, String>, tags: BTreeMap<String, String>, whose: impl std::fmt::Display) -> Result<(), ServiceError> {
    let new = tags.keys().filter(|key| !own.contains_key(*key)).count();
    if own.len() + new > limits::TAGS_MAX {
        return Err(ServiceError::invalid(format!(
            "Failed to add tags to {whose} because a given resource cannot have more than {} tags associated with it.",
            limits::TAGS_MAX
        )));
    }
    own.extend(tags);
    Ok(())
}

/// Refuses tags that something cannot begin with.
pub(super) fn check_new_tags(tags: &BTreeMap<String, String>) -> Result<(), ServiceError> {
    if tags.is_empty() { Ok(()) } else { check_tags(tags) }
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ServiceError> {
    check_count(tags.len(), "tags")?;
    for (key, value) in tags {
        check_key(key)?;
        if value.chars().count() > VALUE_MAX_CHARS {
            let constraint = format!("Map value must satisfy constraint: Member must have length less than or equal to {VALUE_MAX_CHARS}");
            return Err(ServiceError::validation("<too long>", "tags", &constraint));
        }
        if !key.chars().chain(value.chars()).all(allowed) {
            return Err(ServiceError::invalid(
                "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . : / = + - % @.",
            ));
        }
    }
    Ok(())
}

fn check_keys(keys: &[String]) -> Result<(), ServiceError> {
    check_count(keys.len(), "tagKeys")?;
    keys.iter().try_for_each(|key| check_key(key))
}

fn check_count(count: usize, member: &str) -> Result<(), ServiceError> {
    match count {
        1..=limits::TAGS_MAX => Ok(()),
        n => {
            let constraint = format!("Member must have length greater than or equal to 1 and less than or equal to {}", limits::TAGS_MAX);
            Err(ServiceError::validation(format!("[{n} members]"), member, &constraint))
        }
    }
}

fn check_key(key: &str) -> Result<(), ServiceError> {
    if (1..=KEY_MAX_CHARS).contains(&key.chars().count()) {
        return Ok(());
    }
    let constraint = format!("Map keys must have length greater than or equal to 1 and less than or equal to {KEY_MAX_CHARS}");
    Err(ServiceError::validation("<wrong length>", "tags", &constraint))
}

fn allowed(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-%@".contains(c)
}
