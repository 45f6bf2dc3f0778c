//! PutRecord and PutRecords.

use super::{
    Model, PutEntry, PutOutcome, PutReceipt, ServiceError,
    change::Change,
    routing::hash_key,
    sequence::{Parts, seconds},
    shard::StoredRecord,
    stream::{Context, Stream, StreamFacts, rate_exceeded},
};
use crate::{
    limits,
    stream::StreamReference,
    types::{SequenceNumber, Timestamp},
};

impl Model {
    /// `PutRecord`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ProvisionedThroughputExceeded`, `InvalidArgument`, `Validation`.
    pub fn put_record(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        entry: PutEntry,
        sequence_number_for_ordering: Option<SequenceNumber>,
    ) -> Result<PutReceipt, ServiceError> {
        self.on(now, stream, |stream, cx| {
            stream.require_data(cx)?;
            check_entry(&entry, "partitionKey", "data", &stream.facts, stream.ignores_keys())?;
            if let Some(number) = sequence_number_for_ordering
                && Parts::parse(number).is_none_or(|parts| parts.time_secs > seconds(cx.now))
            {
                return Err(ServiceError::invalid(format!(
                    "ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream {} under account {} is invalid.",
                    stream.facts.name, cx.config.account_id
                )));
            }
            stream.put(cx, entry)
        })
    }

    /// `PutRecords`: an outcome for each entry, in their order; entries may fail one by one.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument`, `Validation`; then nothing was put.
    pub fn put_records(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        entries: Vec<PutEntry>,
    ) -> Result<Vec<PutOutcome>, ServiceError> {
        self.on(now, stream, |stream, cx| {
            let count = entries.len();
            if count == 0 {
                return Err(ServiceError::validation("[]", "records", "Member must have length greater than or equal to 1"));
            }
            if count > limits::PUT_RECORDS_MAX_RECORDS {
                let constraint = format!("Member must have length less than or equal to {}", limits::PUT_RECORDS_MAX_RECORDS);
                return Err(ServiceError::validation(format!("[{count} records]"), "records", &constraint));
            }
            stream.require_data(cx)?;
            for (i, entry) in entries.iter().enumerate() {
                let member = |name| format!("records.{}.member.{name}", i + 1);
                check_entry(entry, &member("partitionKey"), &member("data"), &stream.facts, stream.ignores_keys())?;
            }
            if entries.iter().map(PutEntry::size_bytes).sum::<usize>() > limits::PUT_RECORDS_MAX_BYTES {
                return Err(ServiceError::invalid("Records size exceeds 10 MB limit"));
            }
            Ok(entries.into_iter().map(|entry| stream.put(cx, entry)).collect())
        })
    }
}

fn check_entry(entry: &PutEntry, key_member: &str, data_member: &str, facts: &StreamFacts, needs_no_key: bool) -> Result<(), ServiceError> {
    let max_record_bytes = facts.max_record_bytes;
    // The service quotes the value; keys and payloads are nobody's business here.
    let refuse = |member: &str, constraint: String| Err(ServiceError::validation("<redacted>", member, &constraint));
    match entry.partition_key.as_str().chars().count() {
        0 if needs_no_key => {}
        0 => return refuse(key_member, "Member must have length greater than or equal to 1".to_owned()),
        1..=limits::PARTITION_KEY_MAX_CHARS => {}
        _ => return refuse(key_member, format!("Member must have length less than or equal to {}", limits::PARTITION_KEY_MAX_CHARS)),
    }
    // Of both, says the API reference of PutRecord and of PutRecordsRequestEntry.
    if entry.size_bytes() > max_record_bytes {
        let constraint = format!("Member must have, with the partition key, length less than or equal to {max_record_bytes}");
        return refuse(data_member, constraint);
    }
    Ok(())
}

impl Stream {
    fn put(&mut self, cx: &mut Context<'_>, entry: PutEntry) -> PutOutcome {
        let index = if self.ignores_keys() {
            self.next_in_turn()
        } else {
            self.route(entry.explicit_hash_key.unwrap_or_else(|| hash_key(entry.partition_key.as_str())))
        };
        self.retain(cx, index);
        let shard = self.shards.get_mut(&index).expect("open shards are never dropped");
        let limits = &cx.config.limits;
        let size = entry.size_bytes() as u64;
        let rates = &mut shard.rates;
        if !rates.write_bytes.admits(cx.now, size, limits.write_bytes_per_second)
            || !rates.write_records.admits(cx.now, 1, limits.write_records_per_second)
        {
            return Err(rate_exceeded(&shard.facts.id(), &self.facts.name, cx.config));
        }
        rates.write_bytes.charge(cx.now, size, limits.write_bytes_per_second);
        rates.write_records.charge(cx.now, 1, limits.write_records_per_second);

        let place = self.facts.next_place;
        self.facts.next_place += 1;
        let record = StoredRecord { place, arrival: shard.arrival(cx.now), partition_key: entry.partition_key, data: entry.data };
        let receipt = PutReceipt {
            shard_id: shard.facts.id(),
            sequence_number: shard.sequence_number(&record),
            encryption_type: self.facts.encryption.of(place),
        };
        cx.journal.note(|| Change::Record(self.facts.name.clone(), index, record.clone()));
        shard.append(record);
        self.seats.wake_shard(cx, index);
        Ok(receipt)
    }
}
