//! What an answer says, gathered while it is read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::Defect;
use crate::{
    limits,
    types::{ChildShard, EncryptionType, HashKeyRange, PartitionKey, Record, RecordParts, SequenceNumber, ShardId, Timestamp},
};

/// Payloads share blocks of so many bytes. A larger block is kept alive longer by the last record that is still held; a
/// smaller one means more allocations.
const BLOCK_BYTES: usize = 256 * 1024;
/// Moments beyond this are milliseconds, those below seconds: in seconds it is the year 5138, in milliseconds 1973.
const FIRST_MILLIS: i64 = 100_000_000_000;

/// The members of an answer to `GetRecords`, of an event, or of an error; each has its own part of them.
#[derive(Debug, Default)]
pub(in crate::stream::aws) struct Document {
    pub(super) records: Records,
    pub(in crate::stream::aws) next_iterator: Option<String>,
    pub(in crate::stream::aws) continuation: Option<String>,
    pub(in crate::stream::aws) millis_behind_latest: Option<i64>,
    pub(super) child_shards: Vec<Child>,
    pub(in crate::stream::aws) error_code: Option<String>,
    pub(in crate::stream::aws) error_message: Option<String>,
}

impl Document {
    /// The records, once.
    pub(in crate::stream::aws) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records).done
    }

    pub(in crate::stream::aws) fn take_child_shards(&mut self) -> Result<Vec<ChildShard>, Defect> {
        std::mem::take(&mut self.child_shards).into_iter().map(Child::into_shard).collect()
    }
}

/// A child shard, as the wire has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Child {
    pub(super) shard_id: String,
    pub(super) parent_shards: Vec<String>,
    pub(super) hash_key_range: Range,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Range {
    pub(super) starting_hash_key: String,
    pub(super) ending_hash_key: String,
}

impl Child {
    fn into_shard(self) -> Result<ChildShard, Defect> {
        let range = self.hash_key_range;
        Ok(ChildShard {
            id: ShardId::new(self.shard_id)?,
            parents: self.parent_shards.into_iter().map(ShardId::new).collect::<Result<_, _>>()?,
            hash_key_range: HashKeyRange::parse(&range.starting_hash_key, &range.ending_hash_key)?,
        })
    }
}

/// A record as it stands in the answer.
#[derive(Debug, Default)]
pub(super) struct RecordFields<'a> {
    sequence_number: Option<SequenceNumber>,
    pub(super) partition_key: Cow<'a, [u8]>,
    pub(super) data: Option<Cow<'a, [u8]>>,
    /// Whether `data` is still base64.
    base64: bool,
    pub(super) arrival: Option<Timestamp>,
    encryption: EncryptionType,
}

impl RecordFields<'_> {
    /// Those of a record in JSON.
    pub(super) fn in_base64() -> Self {
        Self { base64: true, ..Self::default() }
    }

    pub(super) fn set_sequence_number(&mut self, number: &[u8]) -> Result<(), Defect> {
        self.sequence_number = Some(SequenceNumber::parse(text(number)?)?);
        Ok(())
    }

    pub(super) fn set_encryption(&mut self, name: &[u8]) {
        self.encryption = if name == b"KMS" { EncryptionType::Kms } else { EncryptionType::None };
    }
}

/// Where payloads and partition keys go.
#[derive(Debug, Default)]
pub(super) struct Records {
    done: Vec<Record>,
    /// Records whose payloads are in the block.
    open: Vec<Open>,
    /// Keys and payloads in the order of `open`, one behind the other.
    block: Vec<u8>,
    /// How much of the answer is still to come, where that is known: no block needs to be larger.
    pub(super) to_come: Option<usize>,
}

/// A record whose block is being filled.
#[derive(Debug)]
struct Open {
    sequence_number: SequenceNumber,
    arrival: Option<Timestamp>,
    encryption: EncryptionType,
    key_bytes: usize,
    data_bytes: usize,
}

impl Open {
    fn close(self, partition_key: Bytes, data: Bytes) -> Result<Record, Defect> {
        Ok(Record::from_parts(RecordParts {
            sequence_number: self.sequence_number,
            sub_sequence_number: 0,
            partition_key: PartitionKey::from_utf8(partition_key)?,
            explicit_hash_key: None,
            data,
            approximate_arrival: self.arrival,
            encryption_type: self.encryption,
            aggregated: false,
        }))
    }
}

impl Records {
    /// So many records are announced.
    pub(super) fn expect(&mut self, count: u64) {
        let most = limits::GET_RECORDS_MAX_RECORDS as usize;
        self.done.reserve(usize::try_from(count).unwrap_or(most).min(most));
    }

    pub(super) fn push(&mut self, fields: RecordFields<'_>) -> Result<(), Defect> {
        let sequence_number = fields.sequence_number.ok_or(Defect::What("a record has no SequenceNumber"))?;
        let data = fields.data.ok_or(Defect::What("a record has no Data"))?;
        let key = fields.partition_key;
        let RecordFields { arrival, encryption, base64, .. } = fields;
        let mut open = Open { sequence_number, arrival, encryption, key_bytes: key.len(), data_bytes: data.len() };
        let room = if base64 { base64_simd::STANDARD.estimated_decoded_length(data.len()) } else { data.len() };
        self.make_room(key.len() + room)?;
        self.block.extend_from_slice(&key);
        if base64 {
            let start = self.block.len();
            base64_simd::STANDARD.decode_append(&*data, &mut self.block).map_err(|_| Defect::What("a payload is not base64"))?;
            open.data_bytes = self.block.len() - start;
        } else {
            self.block.extend_from_slice(&data);
        }
        self.open.push(open);
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), Defect> {
        if self.block.capacity() - self.block.len() < bytes {
            self.close_block()?;
            let useful = self.to_come.unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            self.block.reserve_exact(bytes.max(useful));
        }
        Ok(())
    }

    /// Makes records of what is in the block.
    pub(super) fn close_block(&mut self) -> Result<(), Defect> {
        let block = Bytes::from(std::mem::take(&mut self.block));
        self.done.reserve(self.open.len());
        let mut at = 0;
        for open in self.open.drain(..) {
            let data_at = at + open.key_bytes;
            let (key, data) = (block.slice(at..data_at), block.slice(data_at..data_at + open.data_bytes));
            at = data_at + open.data_bytes;
            self.done.push(open.close(key, data)?);
        }
        Ok(())
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Defect> {
    std::str::from_utf8(bytes).map_err(|_| Defect::What("a text is not UTF-8"))
}

/// Whole seconds or milliseconds since the epoch.
pub(super) const fn whole_moment(n: i64) -> Timestamp {
    Timestamp::from_millis(if n.unsigned_abs() < FIRST_MILLIS.unsigned_abs() { n * 1000 } else { n })
}

/// Seconds with a fraction, or milliseconds, since the epoch; `None` for what is not a moment.
pub(super) fn moment(n: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_precision_loss, reason = "a power of ten that is exact")]
    let millis = if n.abs() < FIRST_MILLIS as f64 { n * 1000.0 } else { n };
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    millis.is_finite().then(|| Timestamp::from_millis(millis.round() as i64))
}
