//! GetRecords.

use super::{
    Model, RatedCall, ServiceError, ServiceErrorCode,
    iterator::Place,
    stream::{Context, Stream, rate_exceeded, shard_not_found},
    utc::utc_text,
};
use crate::{
    limits,
    stream::{RecordsPage, ShardIterator, StreamReference},
    types::{ShardId, Timestamp},
};

impl Model {
    /// `GetRecords`: at most `limit` records, 1 to 10,000; 10,000 when absent. Payloads are shared, not copied.
    ///
    /// # Errors
    /// `ExpiredIterator`, `ProvisionedThroughputExceeded`, `ResourceNotFound`, `InvalidArgument`, `Validation`.
    pub fn get_records(&mut self, now: Timestamp, iterator: &ShardIterator, limit: Option<u32>) -> Result<RecordsPage, ServiceError> {
        let limit = limit.unwrap_or(limits::GET_RECORDS_MAX_RECORDS);
        check_range(limit, "limit", limits::GET_RECORDS_MAX_RECORDS)?;
        let place = Place::decode(iterator).ok_or_else(|| ServiceError::invalid("Invalid ShardIterator."))?;
        let tolerated = self.config.iterator_life;
        if now.since(place.issued) > tolerated {
            let message = format!(
                "Iterator expired. The iterator was created at time {} while right now it is {} which is further in the future than the \
                 tolerated delay of {} milliseconds.",
                utc_text(place.issued),
                utc_text(now),
                tolerated.as_millis()
            );
            return Err(ServiceError::new(ServiceErrorCode::ExpiredIterator, message));
        }
        let missing = shard_not_found(&ShardId::from_index(u64::from(place.shard)), &place.stream, self.config());
        self.on(now, &StreamReference::Name(place.stream.clone()), |stream, cx| {
            if stream.facts.created == place.created { stream.read(cx, &place, limit as usize) } else { Err(missing.clone()) }
        })
        .map_err(|error| if error.code == ServiceErrorCode::ResourceNotFound { missing } else { error })
    }
}

/// Refuses a count outside 1 to `max`.
pub(super) fn check_range(value: u32, member: &str, max: u32) -> Result<(), ServiceError> {
    if value == 0 {
        return Err(ServiceError::validation(value, member, "Member must have value greater than or equal to 1"));
    }
    if value > max {
        return Err(ServiceError::validation(value, member, &format!("Member must have value less than or equal to {max}")));
    }
    Ok(())
}

impl Stream {
    fn read(&mut self, cx: &mut Context<'_>, place: &Place, limit: usize) -> Result<RecordsPage, ServiceError> {
        let (now, config) = (cx.now, cx.config);
        let id = ShardId::from_index(u64::from(place.shard));
        self.require_data(cx)?;
        self.retain(cx, place.shard);
        let Some(shard) = self.shards.get_mut(&place.shard) else {
            return Err(shard_not_found(&id, &self.facts.name, config));
        };
        let read_rate = config.limits.read_bytes_per_second;
        if !shard.rates.read_bytes.has_room(now, read_rate) || !shard.rates.calls.admit(now, RatedCall::GetRecords, config) {
            return Err(rate_exceeded(&id, &self.facts.name, config));
        }

        let withheld = cx.randomness.chance(config.quirks.empty_answers);
        let max_records = if withheld { 0 } else { limit };
        let batch = shard.batch(now, &self.facts.encryption, place.next, max_records, limits::GET_RECORDS_MAX_BYTES);
        shard.rates.read_bytes.charge(now, batch.bytes, read_rate);
        let child_shards = if batch.ended { self.children(place.shard) } else { Vec::new() };
        let next = batch.records.last().map_or(place.next, |record| record.sequence_number().next());
        let next_iterator = (!batch.ended).then(|| Place { issued: now, next, ..place.clone() }.encode());
        Ok(RecordsPage { records: batch.records, next_iterator, millis_behind_latest: batch.millis_behind_latest, child_shards })
    }
}
