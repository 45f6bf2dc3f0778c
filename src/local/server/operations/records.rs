//! Records: put, iterate, get.

use std::io::Write as _;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        fault::Fault,
        member::{count, hash_key, required, sequence_number, shard_id, stream, stream_if_any},
        protocol::{Blob, BlobRef, Moment, Protocol, push_json_blob, push_json_str},
    },
    Call,
    shards::HashKeyRangeOutput,
};
use crate::{
    local::{PutEntry, PutOutcome},
    stream::{RecordsPage, ShardIterator, ShardPosition},
    types::{ChildShard, EncryptionType, Record},
};

/// Characters of a partition key (PutRecord).
const PARTITION_KEY_RANGE: std::ops::RangeInclusive<usize> = 1..=crate::limits::PARTITION_KEY_MAX_CHARS;

fn entry(data: Option<Blob>, partition_key: Option<String>, explicit_hash_key: Option<&str>) -> Result<PutEntry, Fault> {
    let Blob(data) = required(data, "data")?;
    let partition_key = required(partition_key, "partitionKey")?;
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
}

pub(super) fn put_record(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: PutRecordInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let entry = entry(input.data, input.partition_key, input.explicit_hash_key.as_deref())?;
    let after = input.sequence_number_for_ordering.map(|n| sequence_number(&n, "sequenceNumberForOrdering")).transpose()?;
    let receipt = call.kinesis.put_record(&stream, entry, after)?;
    call.output(&PutRecordOutput { shard_id: receipt.shard_id.to_string(), sequence_number: receipt.sequence_number.to_string() })
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
    let entries = records.into_iter().map(|r| entry(r.data, r.partition_key, r.explicit_hash_key.as_deref())).collect::<Result<_, _>>()?;
    let outcomes = call.kinesis.put_records(&stream, entries)?;
    call.output(&PutRecordsOutput {
        failed_record_count: outcomes.iter().filter(|outcome| outcome.is_err()).count(),
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
    let name = required(input.shard_iterator_type, "shardIteratorType")?;
    let number = || match input.starting_sequence_number.as_deref() {
        Some(number) => sequence_number(number, "startingSequenceNumber"),
        None => Err(Fault::invalid_argument(format!("Must either specify StartingSequenceNumber or a type other than {name}."))),
    };
    let position = match name.as_str() {
        "TRIM_HORIZON" => ShardPosition::TrimHorizon,
        "LATEST" => ShardPosition::Latest,
        "AT_SEQUENCE_NUMBER" => ShardPosition::AtSequenceNumber(number()?),
        "AFTER_SEQUENCE_NUMBER" => ShardPosition::AfterSequenceNumber(number()?),
        "AT_TIMESTAMP" => match input.timestamp {
            Some(Moment(at)) => ShardPosition::AtTimestamp(at),
            None => return Err(Fault::invalid_argument("Must specify Timestamp for a shard iterator of type AT_TIMESTAMP.")),
        },
        other => {
            return Err(Fault::validation(
                other,
                "shardIteratorType",
                "Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
            ));
        }
    };
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
    match call.protocol {
        Protocol::Json => Ok(json(&page)),
        Protocol::Cbor => call.output(&CborPage::from(&page)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChildShardOutput {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: HashKeyRangeOutput,
}

impl From<&ChildShard> for ChildShardOutput {
    fn from(child: &ChildShard) -> Self {
        Self {
            shard_id: child.id.to_string(),
            parent_shards: child.parents.iter().map(ToString::to_string).collect(),
            hash_key_range: child.hash_key_range.into(),
        }
    }
}

/// The service sends children only with the answer that ends the shard.
fn children(page: &RecordsPage) -> Option<Vec<ChildShardOutput>> {
    page.next_iterator.is_none().then(|| page.child_shards.iter().map(ChildShardOutput::from).collect())
}

/// Written by hand: an answer has up to 10,000 records, and each is touched once.
fn json(page: &RecordsPage) -> Bytes {
    const PER_RECORD: usize = 200;
    let payloads: usize = page.records.iter().map(|r| r.size_bytes() * 4 / 3 + PER_RECORD).sum();
    let mut body = Vec::with_capacity(payloads + 1024);
    body.extend_from_slice(b"{\"Records\":[");
    for (index, record) in page.records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write!(body, "{{\"SequenceNumber\":\"{}\",\"Data\":", record.sequence_number()).expect("memory takes every write");
        push_json_blob(&mut body, record.data());
        body.extend_from_slice(b",\"PartitionKey\":");
        push_json_str(&mut body, record.partition_key());
        if let Some(at) = record.approximate_arrival() {
            write!(body, ",\"ApproximateArrivalTimestamp\":{at}").expect("memory takes every write");
        }
        if let Some(name) = encryption(record) {
            write!(body, ",\"EncryptionType\":\"{name}\"").expect("memory takes every write");
        }
        body.push(b'}');
    }
    write!(body, "],\"MillisBehindLatest\":{}", page.millis_behind_latest).expect("memory takes every write");
    if let Some(ShardIterator(next)) = &page.next_iterator {
        body.extend_from_slice(b",\"NextShardIterator\":");
        push_json_str(&mut body, next);
    }
    if let Some(children) = children(page) {
        body.extend_from_slice(b",\"ChildShards\":");
        serde_json::to_writer(&mut body, &children).expect("texts are written to memory without failure");
    }
    body.push(b'}');
    body.into()
}

const fn encryption(record: &Record) -> Option<&'static str> {
    match record.encryption_type() {
        EncryptionType::None => None,
        EncryptionType::Kms => Some("KMS"),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CborPage<'a> {
    records: Vec<CborRecord<'a>>,
    millis_behind_latest: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    child_shards: Option<Vec<ChildShardOutput>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CborRecord<'a> {
    sequence_number: String,
    data: BlobRef<'a>,
    partition_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    approximate_arrival_timestamp: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_type: Option<&'static str>,
}

impl<'a> From<&'a RecordsPage> for CborPage<'a> {
    fn from(page: &'a RecordsPage) -> Self {
        let records = page.records.iter().map(|record| CborRecord {
            sequence_number: record.sequence_number().to_string(),
            data: BlobRef(record.data()),
            partition_key: record.partition_key(),
            approximate_arrival_timestamp: record.approximate_arrival().map(Moment),
            encryption_type: encryption(record),
        });
        Self {
            records: records.collect(),
            millis_behind_latest: page.millis_behind_latest,
            next_shard_iterator: page.next_iterator.as_ref().map(|ShardIterator(next)| next.as_str()),
            child_shards: children(page),
        }
    }
}
