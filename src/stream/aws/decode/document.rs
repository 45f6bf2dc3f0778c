//! What an answer says, gathered while it is read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::{Blocks, Defect};
use crate::{
    limits,
    types::{ChildShard, EncryptionType, HashKeyRange, PartitionKey, Record, RecordParts, SequenceNumber, ShardId, Timestamp},
};

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
    /// An empty one, whose records will lie in `blocks`.
    pub(super) fn in_blocks(blocks: &Blocks) -> Self {
        Self { records: Records { blocks: blocks.clone(), ..Records::default() }, ..Self::default() }
    }

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
        self.sequence_number = Some(SequenceNumber::from_digits(number)?);
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
    blocks: Blocks,
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
            self.block = self.blocks.take(bytes, self.to_come);
        }
        Ok(())
    }

    /// Makes records of what is in the block.
    pub(super) fn close_block(&mut self) -> Result<(), Defect> {
        let block = self.blocks.share(std::mem::take(&mut self.block));
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

/// As [`moment`], of what is written as a decimal: what JSON has for each record, in a tenth of the time of a general
/// number. `None` for numbers that are written otherwise.
pub(super) fn decimal_moment(written: &[u8]) -> Option<Timestamp> {
    let (whole, fraction) = match memchr::memchr(b'.', written) {
        Some(point) => (&written[..point], &written[point + 1..]),
        None => (written, &b""[..]),
    };
    if whole.is_empty() || whole.len() > 15 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let digits = |digits: &[u8]| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let n = digits(whole);
    let is_seconds = n < FIRST_MILLIS;
    let kept = if is_seconds { 3 } else { 0 };
    // Digits that are missing are zeros.
    let part = (0..kept).fold(0, |value, at| value * 10 + fraction.get(at).map_or(0, |digit| i64::from(digit - b'0')));
    let rounded_up = i64::from(fraction.get(kept).is_some_and(|digit| *digit >= b'5'));
    Some(Timestamp::from_millis(if is_seconds { n * 1000 } else { n } + part + rounded_up))
}
