//! Shard iterators: a place in a shard as an opaque text.

use super::{
    Model, RatedCall, ServiceError,
    sequence::Parts,
    shard::ShardState,
    stream::{Context, rate_exceeded, shard_not_found},
    token::{Kind, Reader, Writer},
};
use crate::{
    stream::{ShardIterator, ShardPosition, StreamReference},
    types::{SequenceNumber, ShardId, StreamName, Timestamp},
};

/// What an iterator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) issued: Timestamp,
    pub(super) stream: StreamName,
    /// Creation time of the stream, so that an iterator does not read its successor of the same name.
    pub(super) created: Timestamp,
    pub(super) shard: u32,
    /// The next record is the first at or above this number.
    pub(super) next: SequenceNumber,
}

impl Place {
    pub(super) fn encode(&self) -> ShardIterator {
        let token = Writer::new(Kind::ShardIterator, self.issued).text(self.stream.as_str()).time(self.created).number(self.shard);
        ShardIterator(token.sequence(self.next).finish())
    }

    pub(super) fn decode(iterator: &ShardIterator) -> Option<Self> {
        let (mut reader, issued) = Reader::open(Kind::ShardIterator, &iterator.0)?;
        Some(Self {
            issued,
            stream: StreamName::new(reader.text()?).ok()?,
            created: reader.time()?,
            shard: reader.number()?,
            next: reader.sequence()?,
        })
    }
}

impl Model {
    /// The stream and the shard that an iterator is of.
    #[cfg(feature = "server")]
    pub(in crate::local) fn place_of(iterator: &ShardIterator) -> Option<(StreamName, ShardId)> {
        Place::decode(iterator).map(|place| (place.stream, ShardId::from_index(u64::from(place.shard))))
    }

    /// `GetShardIterator`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument` for a sequence number of another shard or a moment ahead,
    /// `ProvisionedThroughputExceeded`.
    pub fn get_shard_iterator(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        shard: &ShardId,
        position: ShardPosition,
    ) -> Result<ShardIterator, ServiceError> {
        self.on(now, stream, |stream, cx| {
            stream.require_data(cx)?;
            let (name, created, next_place) = (stream.facts.name.clone(), stream.facts.created, stream.facts.next_place);
            let config = cx.config;
            let Some(state) = stream.shard(cx, shard) else {
                return Err(shard_not_found(shard, &name, config));
            };
            if !state.rates.calls.admit(now, RatedCall::GetShardIterator, config) {
                return Err(rate_exceeded(shard, &name, config));
            }
            let next = state.resolve(cx, &name, next_place, position, "GetShardIterator")?;
            Ok(Place { issued: now, stream: name, created, shard: state.facts.index, next }.encode())
        })
    }
}

impl ShardState {
    /// The number at or above which reading begins.
    pub(super) fn resolve(
        &self,
        cx: &Context<'_>,
        stream: &StreamName,
        next_place: u64,
        position: ShardPosition,
        operation: &str,
    ) -> Result<SequenceNumber, ServiceError> {
        let (shard, account) = (self.facts.id(), &cx.config.account_id);
        let checked = |number: SequenceNumber| {
            let used = || {
                format!(
                    "StartingSequenceNumber {number} used in {operation} on shard {shard} in stream {stream} under account {account} is invalid"
                )
            };
            let parts = Parts::parse(number).ok_or_else(|| ServiceError::invalid(format!("{}.", used())))?;
            if parts.shard_index != self.facts.index {
                let encoded = ShardId::from_index(u64::from(parts.shard_index));
                return Err(ServiceError::invalid(format!(
                    "Invalid StartingSequenceNumber. It encodes {encoded}, while it was used in a call to a shard with {shard}"
                )));
            }
            if parts.created_secs != self.facts.created_secs {
                return Err(ServiceError::invalid(format!("{} because it did not come from this stream.", used())));
            }
            Ok(number)
        };
        Ok(match position {
            ShardPosition::TrimHorizon => self.facts.starting_sequence_number(),
            ShardPosition::Latest => self.position_of(next_place),
            ShardPosition::AtSequenceNumber(number) => checked(number)?,
            ShardPosition::AfterSequenceNumber(number) => checked(number)?.next(),
            ShardPosition::AtTimestamp(moment) if moment > cx.now => {
                return Err(ServiceError::invalid(format!(
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {}, \
                     currentTimestampInMillis: {}",
                    moment.as_millis(),
                    cx.now.as_millis()
                )));
            }
            ShardPosition::AtTimestamp(moment) => match self.records().get(self.arrived_since(moment)) {
                Some(record) => self.sequence_number(record),
                None => self.position_of(next_place),
            },
        })
    }
}
