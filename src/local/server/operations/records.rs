//! Records: put, iterate, get.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        fault::Fault,
        member::{count, hash_key, position, required, sequence_number, shard_id, stream, stream_if_any},
        protocol::{Blob, Moment},
    },
    Call,
    batch::{Batch, Next},
};
use crate::{
    local::{PutEntry, PutOutcome},
    stream::{ShardIterator, StreamReference},
    types::EncryptionType,
};

/// Characters of a partition key (PutRecord).
const PARTITION_KEY_RANGE: std::ops::RangeInclusive<usize> = 1..=crate::limits::PARTITION_KEY_MAX_CHARS;

fn entry(
    data: Option<Blob>,
    partition_key: Option<String>,
    explicit_hash_key: Option<&str>,
    needs_no_key: impl FnOnce() -> Result<bool, Fault>,
) -> Result<PutEntry, Fault> {
    let Blob(data) = required(data, "data")?;
    let Some(partition_key) = partition_key else {
        // Most streams need one, so the stream is not asked before it is missing.
        return if needs_no_key()? { Ok(PutEntry::new("", data)) } else { Err(Fault::missing("partitionKey")) };
    };
    if !PARTITION_KEY_RANGE.contains(&partition_key.chars().count()) {
        // The service shows the key here; keys are personal data, so this server does not.
        let constraint = "Member must have length greater than or equal to 1 and less than or equal to 256";
        return Err(Fault::validation("...", "partitionKey", constraint));
    }
    let entry = PutEntry::new(partition_key, data);
    Ok(match explicit_hash_key {
        Some(key) => entry.with_explicit_hash_key(hash_key(key, "explicitHashKey")?),
        None => entry,
    })
}

fn needs_no_key(call: &Call<'_>, stream: &StreamReference) -> Result<bool, Fault> {
    Ok(call.kinesis.ignores_keys(stream)?)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    data: Option<Blob>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
    sequence_number_for_ordering: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordOutput {
    shard_id: String,
    sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_type: Option<&'static str>,
}

pub(super) fn put_record(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: PutRecordInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let entry = entry(input.data, input.partition_key, input.explicit_hash_key.as_deref(), || needs_no_key(call, &stream))?;
    let after = input.sequence_number_for_ordering.map(|n| sequence_number(&n, "sequenceNumberForOrdering")).transpose()?;
    let receipt = call.kinesis.put_record(&stream, entry, after)?;
    call.output(&PutRecordOutput {
        shard_id: receipt.shard_id.to_string(),
        sequence_number: receipt.sequence_number.to_string(),
        encryption_type: encryption(receipt.encryption_type),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsEntry {
    data: Option<Blob>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    records: Option<Vec<PutRecordsEntry>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsOutput {
    failed_record_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_type: Option<&'static str>,
    records: Vec<PutRecordsResult>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

impl From<PutOutcome> for PutRecordsResult {
    fn from(outcome: PutOutcome) -> Self {
        match outcome {
            Ok(receipt) => Self {
                sequence_number: Some(receipt.sequence_number.to_string()),
                shard_id: Some(receipt.shard_id.to_string()),
                ..Self::default()
            },
            Err(error) => {
                Self { error_code: Some(error.code.as_str()), error_message: Some(error.message.into_owned()), ..Self::default() }
            }
        }
    }
}

pub(super) fn put_records(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: PutRecordsInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let records = required(input.records, "records")?;
    let entries = records
        .into_iter()
        .map(|r| entry(r.data, r.partition_key, r.explicit_hash_key.as_deref(), || needs_no_key(call, &stream)))
        .collect::<Result<_, _>>()?;
    let outcomes = call.kinesis.put_records(&stream, entries)?;
    call.output(&PutRecordsOutput {
        failed_record_count: outcomes.iter().filter(|outcome| outcome.is_err()).count(),
        encryption_type: outcomes.iter().flatten().next().and_then(|receipt| encryption(receipt.encryption_type)),
        records: outcomes.into_iter().map(PutRecordsResult::from).collect(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIteratorInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    timestamp: Option<Moment>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIteratorOutput {
    shard_iterator: String,
}

pub(super) fn get_shard_iterator(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: GetShardIteratorInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let shard = shard_id(input.shard_id, "shardId")?;
    let timestamp = input.timestamp.map(|Moment(at)| at);
    let position = position(input.shard_iterator_type, "shardIteratorType", input.starting_sequence_number.as_deref(), timestamp)?;
    let ShardIterator(shard_iterator) = call.kinesis.get_shard_iterator(&stream, &shard, position)?;
    call.output(&GetShardIteratorOutput { shard_iterator })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRecordsInput {
    shard_iterator: Option<String>,
    limit: Option<i64>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

pub(super) fn get_records(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: GetRecordsInput = call.input()?;
    // The iterator names its stream; an ARN beside it only has to be one.
    stream_if_any(None, input.stream_arn)?;
    let iterator = ShardIterator(required(input.shard_iterator, "shardIterator")?);
    let page = call.kinesis.get_records(&iterator, count(input.limit, "limit")?)?;
    Batch {
        records: &page.records,
        millis_behind_latest: page.millis_behind_latest,
        next: page.next_iterator.as_ref().map(|ShardIterator(next)| Next::ShardIterator(next.as_str())),
        // The service sends children only with the answer that ends the shard.
        child_shards: page.next_iterator.is_none().then_some(page.child_shards.as_slice()),
    }
    .encode(call.protocol)
}

/// The name of an encryption; the service says nothing of none.
pub(super) const fn encryption(encryption: EncryptionType) -> Option<&'static str> {
    match encryption {
        EncryptionType::None => None,
        EncryptionType::Kms => Some("KMS"),
    }
}
