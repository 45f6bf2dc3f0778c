//! Making, deleting, describing and listing streams.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Config, CreateStream, ListStreams, Model, RatedCall, RecordDistributionStrategy, ServiceError, ServiceErrorCode, StreamMode,
    StreamSummary, StreamsPage,
    change::Change,
    encryption::Encryption,
    get_records::check_range,
    list_shards::check_token_age,
    on_demand::warm_shards,
    settings::check_max_record_bytes,
    stream::{Context, Lifecycle, Stream, StreamFacts},
    tags::check_new_tags,
    token::{Kind, Reader, Writer},
};
use crate::{
    limits,
    stream::{StreamReference, StreamStatus},
    types::{InvalidText, StreamArn, StreamName, Timestamp},
};

const LIST_STREAMS_DEFAULT_LIMIT: u32 = 100;
const LIST_STREAMS_MAX_LIMIT: u32 = 10_000;

pub(super) fn arn(config: &Config, name: &StreamName) -> Result<StreamArn, InvalidText> {
    StreamArn::new(format!("arn:aws:kinesis:{}:{}:stream/{name}", config.region, config.account_id))
}

impl Model {
    /// `CreateStream`.
    ///
    /// # Errors
    /// `ResourceInUse` when the name is taken, `LimitExceeded` for a quota of the account or the rate of calls,
    /// `InvalidArgument`, also for warm throughput in an account without commitment, `Validation`.
    pub fn create_stream(&mut self, now: Timestamp, input: &CreateStream) -> Result<(), ServiceError> {
        let shard_count = match (input.mode, input.shard_count) {
            (StreamMode::Provisioned, Some(0)) => {
                return Err(ServiceError::validation(0, "shardCount", "Member must have value greater than or equal to 1"));
            }
            (StreamMode::Provisioned, Some(count)) => count,
            (StreamMode::Provisioned, None) => {
                return Err(ServiceError::new(ServiceErrorCode::Validation, "ShardCount is required for provisioned streams."));
            }
            (StreamMode::OnDemand, None) => warm_shards(input.warm_throughput_mibps, self.account.is_committed(now))?,
            (StreamMode::OnDemand, Some(_)) => {
                return Err(ServiceError::new(ServiceErrorCode::Validation, "ShardCount must not be given for on-demand streams."));
            }
        };
        if input.mode == StreamMode::Provisioned && input.warm_throughput_mibps.is_some() {
            let message = "WarmThroughputMiBps must not be given for provisioned streams.";
            return Err(ServiceError::new(ServiceErrorCode::Validation, message));
        }
        let max_record_bytes = check_max_record_bytes(input.max_record_bytes())?;
        check_new_tags(&input.tags)?;
        self.count(now, RatedCall::CreateStream, Some(&input.name))?;
        self.settle_all(now);
        if self.streams.contains_key(&input.name) {
            let message = format!("Stream {} under account {} already exists.", input.name, self.config.account_id);
            return Err(ServiceError::new(ServiceErrorCode::ResourceInUse, message));
        }
        self.check_places(input.mode)?;
        let in_use = self.open_shards();
        let arn = arn(&self.config, &input.name).map_err(|error| ServiceError::invalid(error.to_string()))?;
        let Self { config, randomness, journal, woken, .. } = self;
        let mut cx = Context { now, config, randomness, journal, woken };
        cx.check_shard_limit(in_use, shard_count)?;
        let facts = StreamFacts {
            name: input.name.clone(),
            arn,
            created: now,
            mode: input.mode,
            max_record_bytes,
            retention_hours: u32::try_from(limits::RETENTION_MIN.as_secs() / 3600).expect("24"),
            lifecycle: Lifecycle::Creating { until: now.plus(cx.config.delays.create) },
            next_shard: 0,
            next_place: 1,
            scalings: Vec::new(),
            mode_updates: Vec::new(),
            encryption: Encryption::default(),
            metrics: BTreeSet::new(),
            tags: input.tags.clone(),
            policy: None,
            distribution: RecordDistributionStrategy::default(),
            warm_mibps: input.warm_throughput_mibps,
            consumers: BTreeMap::new(),
        };
        let mut stream = Stream::new(&mut cx, facts, shard_count);
        stream.settle(&mut cx);
        self.streams.insert(input.name.clone(), stream);
        Ok(())
    }

    /// `DeleteStream`: the stream, its shards and all its records.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is being made or deleted, or when stream consumers are
    /// registered, `LimitExceeded` above the rate of calls.
    pub fn delete_stream(&mut self, now: Timestamp, stream: &StreamReference) -> Result<(), ServiceError> {
        self.delete(now, stream, false)
    }

    /// `DeleteStream` with `EnforceConsumerDeletion`: its stream consumers, too.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is being made or deleted, `LimitExceeded` above the rate of
    /// calls.
    pub fn delete_stream_with_consumers(&mut self, now: Timestamp, stream: &StreamReference) -> Result<(), ServiceError> {
        self.delete(now, stream, true)
    }

    /// Refuses one more stream in the making, or one more on-demand stream, than the account may have.
    fn check_places(&self, mode: StreamMode) -> Result<(), ServiceError> {
        let Config { limits, account_id, .. } = &self.config;
        let creating = self.streams.values().filter(|stream| stream.status() == StreamStatus::Creating).count();
        if let Some(most) = limits.streams_in_creation
            && creating >= most as usize
        {
            let message = format!(
                "This request would exceed the limit on the number of streams that can simultaneously be in CREATING state for the account \
                 {account_id}. Limit: {most}."
            );
            return Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message));
        }
        if mode == StreamMode::OnDemand { self.check_on_demand_streams() } else { Ok(()) }
    }

    fn delete(&mut self, now: Timestamp, stream: &StreamReference, with_consumers: bool) -> Result<(), ServiceError> {
        self.count(now, RatedCall::DeleteStream, Some(&stream.name()))?;
        self.on(now, stream, |stream, cx| {
            if !with_consumers && !stream.facts.consumers.is_empty() {
                let message = format!(
                    "Stream {} under account {} has {} registered consumers: deregister them, or set EnforceConsumerDeletion.",
                    stream.facts.name,
                    cx.config.account_id,
                    stream.facts.consumers.len()
                );
                return Err(ServiceError::new(ServiceErrorCode::ResourceInUse, message));
            }
            if matches!(stream.status(), StreamStatus::Creating | StreamStatus::Deleting) {
                stream.require_active(cx)?;
            }
            stream.facts.lifecycle = Lifecycle::Deleting { until: now.plus(cx.config.delays.delete) };
            stream.note(cx);
            Ok(())
        })?;
        self.settle_all(now);
        Ok(())
    }

    /// `DescribeStreamSummary`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `LimitExceeded` above the rate of calls.
    pub fn describe_stream_summary(&mut self, now: Timestamp, stream: &StreamReference) -> Result<StreamSummary, ServiceError> {
        self.count(now, RatedCall::DescribeStreamSummary, Some(&stream.name()))?;
        let committed = self.account.is_committed(now);
        self.on(now, stream, |stream, _| {
            let warm_throughput = (committed && stream.facts.mode == StreamMode::OnDemand).then(|| stream.warm_throughput());
            Ok(StreamSummary { warm_throughput, ..stream.summary() })
        })
    }

    /// `ListStreams`.
    ///
    /// # Errors
    /// `Validation`, `InvalidArgument` for a token that is none, `ExpiredNextToken`, `LimitExceeded` above the rate of calls.
    pub fn list_streams(&mut self, now: Timestamp, input: &ListStreams) -> Result<StreamsPage, ServiceError> {
        let limit = input.limit.unwrap_or(LIST_STREAMS_DEFAULT_LIMIT);
        check_range(limit, "limit", LIST_STREAMS_MAX_LIMIT)?;
        let after = match (&input.next_token, &input.exclusive_start_stream_name) {
            (Some(_), Some(_)) => {
                return Err(ServiceError::invalid("NextToken and ExclusiveStartStreamName cannot be provided together."));
            }
            (Some(token), None) => {
                let opened = Reader::open(Kind::StreamPage, token).and_then(|(mut reader, issued)| Some((reader.text()?, issued)));
                let (after, issued) = opened.ok_or_else(|| ServiceError::invalid("NextToken is invalid."))?;
                check_token_age(now, issued)?;
                after
            }
            (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        };
        self.count(now, RatedCall::ListStreams, None)?;
        self.settle_all(now);
        let mut rest = self.streams.values().filter(|stream| stream.facts.name.as_str() > after.as_str());
        let streams: Vec<StreamSummary> = rest.by_ref().take(limit as usize).map(Stream::summary).collect();
        let next_token = match (rest.next(), streams.last()) {
            (Some(_), Some(last)) => Some(Writer::new(Kind::StreamPage, now).text(last.description.name.as_str()).finish()),
            _ => None,
        };
        Ok(StreamsPage { streams, next_token })
    }

    /// Takes the steps that are due in every stream.
    pub(super) fn settle_all(&mut self, now: Timestamp) {
        let Self { config, randomness, journal, woken, streams, .. } = self;
        let mut cx = Context { now, config, randomness, journal, woken };
        streams.retain(|name, stream| {
            let stays = stream.settle(&mut cx);
            if !stays {
                cx.journal.note(|| Change::StreamRemoved(name.clone()));
            }
            stays
        });
    }
}
