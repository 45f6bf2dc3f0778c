//! StartStreamEncryption and StopStreamEncryption. Nothing is encrypted: streams and records say that they are.

use std::time::Duration;

use super::{Model, ServiceError, ServiceErrorCode, stream::Stream};
use crate::{
    stream::StreamReference,
    types::{EncryptionType, Timestamp},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Which records are encrypted, and with what key the next will be.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Encryption {
    pub(super) key_id: Option<String>,
    /// Places of encrypted records: from the first of each pair to before the second.
    spans: Vec<(u64, Option<u64>)>,
    /// Calls of the last day.
    starts: Vec<Timestamp>,
    stops: Vec<Timestamp>,
}

impl Encryption {
    /// How the record at the place is encrypted.
    pub(super) fn of(&self, place: u64) -> EncryptionType {
        let encrypted = self.spans.iter().rev().any(|(from, to)| *from <= place && to.is_none_or(|to| place < to));
        if encrypted { EncryptionType::Kms } else { EncryptionType::None }
    }
}

impl Model {
    /// `StartStreamEncryption` with a KMS key: its id, its ARN, or an alias, such as `alias/aws/kinesis`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded` above 25 calls in 24 hours, `Validation`.
    pub fn start_stream_encryption(&mut self, now: Timestamp, stream: &StreamReference, key_id: &str) -> Result<(), ServiceError> {
        check_key(key_id)?;
        self.on(now, stream, |stream, cx| {
            stream.require_active(cx)?;
            let next_place = stream.facts.next_place;
            let encryption = &mut stream.facts.encryption;
            count("StartStreamEncryption", &mut encryption.starts, now, cx.config.limits.encryption_calls_per_day)?;
            if encryption.key_id.is_none() {
                encryption.spans.push((next_place, None));
            }
            encryption.key_id = Some(key_id.to_owned());
            stream.changed(cx);
            Ok(())
        })
    }

    /// `StopStreamEncryption`: records put before stay as they are.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded` above 25 calls in 24 hours, `Validation`.
    pub fn stop_stream_encryption(&mut self, now: Timestamp, stream: &StreamReference, key_id: &str) -> Result<(), ServiceError> {
        check_key(key_id)?;
        self.on(now, stream, |stream, cx| {
            stream.require_active(cx)?;
            let Stream { facts, shards, .. } = stream;
            count("StopStreamEncryption", &mut facts.encryption.stops, now, cx.config.limits.encryption_calls_per_day)?;
            facts.encryption.key_id = None;
            if let Some((_, to @ None)) = facts.encryption.spans.last_mut() {
                *to = Some(facts.next_place);
            }
            // Of no use any more: spans below the oldest record, and empty ones.
            let oldest = shards.values().filter_map(|shard| shard.records().front()).map(|record| record.place).min();
            let oldest = oldest.unwrap_or(facts.next_place);
            facts.encryption.spans.retain(|(from, to)| to.is_none_or(|to| *from < to && oldest < to));
            stream.changed(cx);
            Ok(())
        })
    }
}

fn check_key(key_id: &str) -> Result<(), ServiceError> {
    match key_id.len() {
        1..=2048 => Ok(()),
        n => {
            let constraint = "Member must have length greater than or equal to 1 and less than or equal to 2048";
            Err(ServiceError::validation(format!("<{n} characters>"), "keyId", constraint))
        }
    }
}

/// Counts a call of the last 24 hours, or says that there were too many.
pub(super) fn count(operation: &str, calls: &mut Vec<Timestamp>, now: Timestamp, most: Option<u32>) -> Result<(), ServiceError> {
    calls.retain(|at| now.since(*at) < DAY);
    match most {
        Some(most) if calls.len() >= most as usize => {
            let message = format!("{operation} can be called at most {most} times in 24 hours for one stream.");
            Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
        }
        Some(_) | None => {
            calls.push(now);
            Ok(())
        }
    }
}
