//! ListShards, and the shards of DescribeStream.

use super::{
    ListShards, Model, RatedCall, ServiceError, ServiceErrorCode, StreamPage,
    get_records::check_range,
    shard::ShardFacts,
    stream::{Context, Stream, shard_index, stream_not_found},
    token::{Kind, Reader, Writer},
    utc::utc_text,
};
use crate::{
    limits,
    stream::{PageToken, ShardFilter, ShardPage, StreamReference, StreamStatus},
    types::{Shard, ShardId, StreamName, Timestamp},
};

const DEFAULT_MAX_RESULTS: u32 = 1000;
const DESCRIBE_DEFAULT_LIMIT: u32 = 100;

/// What a page token says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    issued: Timestamp,
    stream: StreamName,
    created: Timestamp,
    filter: ShardFilter,
    /// The last shard of the page before.
    after: u32,
}

impl Page {
    fn encode(&self) -> PageToken {
        let token = Writer::new(Kind::ShardPage, self.issued).text(self.stream.as_str()).time(self.created).number(self.after);
        let token = match &self.filter {
            ShardFilter::All => token.byte(0),
            ShardFilter::AfterShardId(id) => token.byte(1).text(id.as_str()),
            ShardFilter::AtLatest => token.byte(2),
            ShardFilter::AtTrimHorizon => token.byte(3),
            ShardFilter::AtTimestamp(moment) => token.byte(4).time(*moment),
            ShardFilter::FromTimestamp(moment) => token.byte(5).time(*moment),
        };
        PageToken(token.finish())
    }

    fn decode(token: &PageToken) -> Option<Self> {
        let (mut reader, issued) = Reader::open(Kind::ShardPage, &token.0)?;
        let stream = StreamName::new(reader.text()?).ok()?;
        let (created, after) = (reader.time()?, reader.number()?);
        let filter = match reader.byte()? {
            0 => ShardFilter::All,
            1 => ShardFilter::AfterShardId(ShardId::new(reader.text()?).ok()?),
            2 => ShardFilter::AtLatest,
            3 => ShardFilter::AtTrimHorizon,
            4 => ShardFilter::AtTimestamp(reader.time()?),
            5 => ShardFilter::FromTimestamp(reader.time()?),
            _ => return None,
        };
        Some(Self { issued, stream, created, filter, after })
    }
}

impl Model {
    /// `ListShards`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is being made, `ExpiredNextToken`, `InvalidArgument` for
    /// arguments that exclude each other, `LimitExceeded` above the rate of calls.
    pub fn list_shards(&mut self, now: Timestamp, input: &ListShards) -> Result<ShardPage, ServiceError> {
        let max_results = input.max_results.unwrap_or(DEFAULT_MAX_RESULTS);
        check_range(max_results, "maxResults", limits::LIST_SHARDS_MAX_RESULTS)?;
        let exclusive = |other: &str| Err(ServiceError::invalid(format!("NextToken and {other} cannot be provided together.")));
        let (stream, filter, after, created) = match (&input.next_token, &input.stream) {
            (None, None) => return Err(ServiceError::invalid("Either NextToken or StreamName should be provided.")),
            (Some(_), Some(_)) => return exclusive("StreamName"),
            (Some(_), None) if input.exclusive_start_shard_id.is_some() => return exclusive("ExclusiveStartShardId"),
            (Some(_), None) if input.filter.is_some() => return exclusive("ShardFilter"),
            (Some(_), None) if input.stream_creation_timestamp.is_some() => return exclusive("StreamCreationTimestamp"),
            (Some(token), None) => {
                let page = Page::decode(token).ok_or_else(|| ServiceError::invalid("NextToken is invalid."))?;
                check_token_age(now, page.issued)?;
                (StreamReference::Name(page.stream), page.filter, Some(page.after), Some(page.created))
            }
            (None, Some(stream)) => {
                let filter = input.filter.clone().unwrap_or(ShardFilter::All);
                let after = input.exclusive_start_shard_id.as_ref().map(start_after).transpose()?;
                (stream.clone(), filter, after, input.stream_creation_timestamp)
            }
        };
        self.on(now, &stream, |stream, cx| {
            if created.is_some_and(|created| created != stream.facts.created) {
                return Err(stream_not_found(&stream.facts.name, cx.config));
            }
            if stream.status() == StreamStatus::Creating {
                stream.require_active(cx)?;
            }
            stream.calls.count(now, RatedCall::ListShards, &stream.facts.name, cx.config)?;
            let (shards, last) = stream.page(cx, &filter, after, max_results)?;
            let next = last.map(|after| {
                Page { issued: now, stream: stream.facts.name.clone(), created: stream.facts.created, filter, after }.encode()
            });
            Ok(ShardPage { shards, next })
        })
    }

    /// `DescribeStream`: the stream and at most `limit` shards (1 to 10,000, by default 100) after `exclusive_start`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument`, `LimitExceeded` above the rate of calls, `Validation`.
    pub fn describe_stream(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        exclusive_start: Option<&ShardId>,
        limit: Option<u32>,
    ) -> Result<StreamPage, ServiceError> {
        let limit = limit.unwrap_or(DESCRIBE_DEFAULT_LIMIT);
        check_range(limit, "limit", limits::LIST_SHARDS_MAX_RESULTS)?;
        let after = exclusive_start.map(start_after).transpose()?;
        self.count(now, RatedCall::DescribeStream, Some(&stream.name()))?;
        self.on(now, stream, |stream, cx| {
            let (shards, last) = match stream.status() {
                StreamStatus::Creating => (Vec::new(), None),
                StreamStatus::Active | StreamStatus::Updating | StreamStatus::Deleting => {
                    stream.page(cx, &ShardFilter::All, after, limit)?
                }
            };
            Ok(StreamPage { summary: stream.summary(), shards, has_more_shards: last.is_some() })
        })
    }
}

/// Refuses a page token past its five minutes.
pub(super) fn check_token_age(now: Timestamp, issued: Timestamp) -> Result<(), ServiceError> {
    let tolerated = limits::LIST_SHARDS_TOKEN_TTL;
    if now.since(issued) <= tolerated {
        return Ok(());
    }
    let message = format!(
        "The pagination token was created at {} and has expired: it is valid for {} seconds.",
        utc_text(issued),
        tolerated.as_secs()
    );
    Err(ServiceError::new(ServiceErrorCode::ExpiredNextToken, message))
}

fn start_after(id: &ShardId) -> Result<u32, ServiceError> {
    shard_index(id).ok_or_else(|| ServiceError::invalid(format!("Shard id {id} is not of the form shardId-000000000000.")))
}

impl Stream {
    /// At most `max` shards after `after`; the last of them, when more follow.
    fn page(
        &mut self,
        cx: &mut Context<'_>,
        filter: &ShardFilter,
        after: Option<u32>,
        max: u32,
    ) -> Result<(Vec<Shard>, Option<u32>), ServiceError> {
        self.retain_all(cx);
        let filtered_after = match filter {
            ShardFilter::AfterShardId(id) => Some(start_after(id)?),
            ShardFilter::All
            | ShardFilter::AtLatest
            | ShardFilter::AtTrimHorizon
            | ShardFilter::AtTimestamp(_)
            | ShardFilter::FromTimestamp(_) => None,
        };
        let first = after.max(filtered_after).map_or(0, |last| last.saturating_add(1));
        let seen_at = cx.now.minus(cx.config.quirks.list_shards_lag);
        let horizon = self.trim_horizon(cx.now);
        let mut chosen = self
            .shards
            .range(first..)
            .filter_map(|(_, shard)| self.as_seen(&shard.facts, seen_at))
            .filter(|shard| matches_filter(shard, filter, horizon));
        let max = max as usize;
        let page: Vec<ShardFacts> = chosen.by_ref().take(max).collect();
        let last = if chosen.next().is_some() { page.last().map(|shard| shard.index) } else { None };
        Ok((page.iter().map(ShardFacts::describe).collect(), last))
    }

    /// The shard as it was at the moment; `None` when it was not yet there.
    fn as_seen(&self, shard: &ShardFacts, at: Timestamp) -> Option<ShardFacts> {
        if shard.created > at && shard.created > self.facts.created {
            return None;
        }
        let closed = shard.closed.filter(|closed| *closed <= at);
        Some(ShardFacts { closed, ..shard.clone() })
    }
}

fn matches_filter(shard: &ShardFacts, filter: &ShardFilter, horizon: Timestamp) -> bool {
    let open_at = |moment: Timestamp| shard.created <= moment && shard.closed.is_none_or(|closed| closed >= moment);
    match filter {
        ShardFilter::All | ShardFilter::AfterShardId(_) => true,
        ShardFilter::AtLatest => shard.is_open(),
        ShardFilter::AtTrimHorizon => open_at(horizon),
        // What was before the horizon is gone, so the oldest that can be asked for is the horizon.
        ShardFilter::AtTimestamp(moment) => open_at((*moment).max(horizon)),
        ShardFilter::FromTimestamp(moment) => shard.closed.is_none_or(|closed| closed >= (*moment).max(horizon)),
    }
}
