//! Records on the wire, as an answer of GetRecords and as an event of SubscribeToShard.

use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;

use super::{
    super::{
        fault::Fault,
        protocol::{BlobRef, Moment, Protocol, push_json_blob, push_json_str},
    },
    records::encryption,
    shards::HashKeyRangeOutput,
};
use crate::types::{ChildShard, Record, SequenceNumber};

/// Where reading goes on.
#[derive(Debug, Clone, Copy)]
pub(in crate::local::server) enum Next<'a> {
    /// With this iterator.
    ShardIterator(&'a str),
    /// With a subscription after this number.
    ContinuationSequenceNumber(SequenceNumber),
}

/// Records, and what is said beside them.
#[derive(Debug)]
pub(in crate::local::server) struct Batch<'a> {
    pub(in crate::local::server) records: &'a [Record],
    pub(in crate::local::server) millis_behind_latest: u64,
    pub(in crate::local::server) next: Option<Next<'a>>,
    pub(in crate::local::server) child_shards: Option<&'a [ChildShard]>,
}

impl Batch<'_> {
    /// Writes the body.
    pub(in crate::local::server) fn encode(&self, protocol: Protocol) -> Result<Bytes, Fault> {
        match protocol {
            Protocol::Json => Ok(self.json()),
            Protocol::Cbor => protocol.encode(&CborBatch::from(self)),
        }
    }

    fn children(&self) -> Option<Vec<ChildShardOutput>> {
        self.child_shards.map(|children| children.iter().map(ChildShardOutput::from).collect())
    }

    /// Written by hand: there are up to 10,000 records, and each is touched once.
    fn json(&self) -> Bytes {
        const PER_RECORD: usize = 200;
        let payloads: usize = self.records.iter().map(|r| r.size_bytes() * 4 / 3 + PER_RECORD).sum();
        let mut body = Vec::with_capacity(payloads + 1024);
        body.extend_from_slice(b"{\"Records\":[");
        for (index, record) in self.records.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            write!(body, "{{\"SequenceNumber\":\"{}\",\"Data\":", record.sequence_number()).expect("memory takes every write");
            push_json_blob(&mut body, record.data());
            body.extend_from_slice(b",\"PartitionKey\":");
            push_json_str(&mut body, record.partition_key());
            if let Some(at) = record.approximate_arrival() {
                let (seconds, millis) = (at.as_millis().div_euclid(1000), at.as_millis().rem_euclid(1000));
                write!(body, ",\"ApproximateArrivalTimestamp\":{seconds}.{millis:03}").expect("memory takes every write");
            }
            if let Some(name) = encryption(record.encryption_type()) {
                write!(body, ",\"EncryptionType\":\"{name}\"").expect("memory takes every write");
            }
            body.push(b'}');
        }
        write!(body, "],\"MillisBehindLatest\":{}", self.millis_behind_latest).expect("memory takes every write");
        match self.next {
            Some(Next::ShardIterator(next)) => {
                body.extend_from_slice(b",\"NextShardIterator\":");
                push_json_str(&mut body, next);
            }
            Some(Next::ContinuationSequenceNumber(number)) => {
                write!(body, ",\"ContinuationSequenceNumber\":\"{number}\"").expect("memory takes every write");
            }
            None => {}
        }
        if let Some(children) = self.children() {
            body.extend_from_slice(b",\"ChildShards\":");
            serde_json::to_writer(&mut body, &children).expect("texts are written to memory without failure");
        }
        body.push(b'}');
        body.into()
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

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CborBatch<'a> {
    records: Vec<CborRecord<'a>>,
    millis_behind_latest: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_sequence_number: Option<String>,
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

impl<'a> From<&Batch<'a>> for CborBatch<'a> {
    fn from(batch: &Batch<'a>) -> Self {
        let records = batch.records.iter().map(|record| CborRecord {
            sequence_number: record.sequence_number().to_string(),
            data: BlobRef(record.data()),
            partition_key: record.partition_key(),
            approximate_arrival_timestamp: record.approximate_arrival().map(Moment),
            encryption_type: encryption(record.encryption_type()),
        });
        let (next_shard_iterator, continuation_sequence_number) = match batch.next {
            Some(Next::ShardIterator(next)) => (Some(next), None),
            Some(Next::ContinuationSequenceNumber(number)) => (None, Some(number.to_string())),
            None => (None, None),
        };
        Self {
            records: records.collect(),
            millis_behind_latest: batch.millis_behind_latest,
            next_shard_iterator,
            continuation_sequence_number,
            child_shards: batch.children(),
        }
    }
}
