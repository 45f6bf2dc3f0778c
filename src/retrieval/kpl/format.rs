//! The layout of an aggregate.
//!
//! ```text
//! F3 89 9A C2 │ message AggregatedRecord                        │ MD5 of the message, 16 bytes
//!             │   1 repeated string  partition keys             │
//!             │   2 repeated string  explicit hash keys         │
//!             │   3 repeated Record  1 uint64 partition key     │  an index into the first table, required
//!             │                      2 uint64 explicit hash key │  an index into the second table
//!             │                      3 bytes  data              │  required
//!             │                      4 Tag, not used            │
//! ```
//!
//! The tables may come after the records that use them.

use bytes::Bytes;

use super::{
    Defect,
    digest::{DIGEST_BYTES, sealed},
    wire::{Fields, Malformed, Value},
};
use crate::types::{HashKeyRange, PartitionKey, Record, RecordParts, hash_key};

/// What an aggregate begins with.
pub const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

/// Most user records, and most keys of either kind, in one aggregate.
///
/// It bounds what a record costs in memory once taken apart. An aggregate of 1 MiB, the largest that producers make,
/// has room for less than 175,000 user records of 6 bytes, the shortest there are.
pub const MAX_USER_RECORDS: usize = 175_000;

/// An aggregate whose digest is right and whose message is whole.
#[derive(Debug)]
pub(super) struct Aggregate {
    message: Bytes,
    partition_keys: Vec<PartitionKey>,
    explicit_hash_keys: Vec<ExplicitHashKey>,
    /// Hash keys of the partition keys, once they were asked for.
    hash_keys: Vec<u128>,
    pub(super) user_records: usize,
}

/// An entry of the second table. What is wrong with one matters only to those that use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExplicitHashKey {
    Valid(u128),
    /// A number, but below 0 or above 2^128-1.
    NoHashKey,
    NoNumber,
}

/// One record of an aggregate, with keys that are there.
#[derive(Debug)]
pub(super) struct UserRecord<'a> {
    /// Index into the first table.
    partition_key: usize,
    explicit_hash_key: Option<ExplicitHashKey>,
    data: &'a [u8],
}

impl UserRecord<'_> {
    pub(super) fn has_valid_keys(&self) -> bool {
        self.explicit_hash_key != Some(ExplicitHashKey::NoHashKey)
    }
}

/// The fields of a record in the message.
struct Entry<'a> {
    partition_key: u64,
    explicit_hash_key: Option<u64>,
    data: &'a [u8],
}

impl Aggregate {
    /// Reads an aggregate; `None` for what does not begin as one. `is_right` says whether a digest is that of its message.
    pub(super) fn parse(record: &Bytes, is_right: impl FnOnce(&[u8], &[u8; DIGEST_BYTES]) -> bool) -> Option<Result<Self, Defect>> {
        if !record.starts_with(&MAGIC) {
            return None;
        }
        Some(match sealed(record) {
            None => Err(Defect::TooShort),
            Some((message, digest)) if !is_right(message, digest) => Err(Defect::Digest),
            Some((message, _)) => Self::read(record.slice_ref(message)),
        })
    }

    fn read(message: Bytes) -> Result<Self, Defect> {
        let mut partition_keys = Vec::new();
        let mut explicit_hash_keys = Vec::new();
        let mut user_records = 0;
        for field in Fields::of(&message) {
            match field? {
                (1, Value::Bytes(key)) => {
                    partition_keys.push(PartitionKey::from_utf8(message.slice_ref(key)).map_err(|_| Defect::PartitionKey)?);
                }
                (2, Value::Bytes(key)) => explicit_hash_keys.push(ExplicitHashKey::read(key)),
                (3, Value::Bytes(entry)) => {
                    Entry::read(entry)?;
                    user_records += 1;
                }
                _ => {}
            }
            if user_records.max(partition_keys.len()).max(explicit_hash_keys.len()) > MAX_USER_RECORDS {
                return Err(Defect::TooMany);
            }
        }
        Ok(Self { message, partition_keys, explicit_hash_keys, hash_keys: Vec::new(), user_records })
    }

    /// Computes the hash keys of all partition keys: once per key, not per record.
    pub(super) fn hash_partition_keys(&mut self) {
        self.hash_keys = self.partition_keys.iter().map(|key| hash_key(key.as_str())).collect();
    }

    /// Whether the hash key of a record lies in `range`; for any range but the full one, after
    /// [`hash_partition_keys`](Aggregate::hash_partition_keys).
    pub(super) fn belongs(&self, user: &UserRecord<'_>, range: HashKeyRange) -> bool {
        match user.explicit_hash_key {
            Some(ExplicitHashKey::Valid(key)) => range.contains(key),
            Some(ExplicitHashKey::NoHashKey | ExplicitHashKey::NoNumber) => false,
            None => range == HashKeyRange::FULL || self.hash_keys.get(user.partition_key).is_some_and(|key| range.contains(*key)),
        }
    }

    /// Its records in order, each with its keys or what is wrong with them.
    pub(super) fn user_records(&self) -> impl Iterator<Item = Result<UserRecord<'_>, Defect>> {
        self.entries().map(|entry| {
            let at = |index: u64, table: usize| usize::try_from(index).ok().filter(|i| *i < table).ok_or(Defect::KeyIndex);
            let partition_key = at(entry.partition_key, self.partition_keys.len())?;
            let explicit_hash_key = match entry.explicit_hash_key {
                None => None,
                Some(index) => Some(self.explicit_hash_keys[at(index, self.explicit_hash_keys.len())?]),
            };
            if explicit_hash_key == Some(ExplicitHashKey::NoNumber) {
                return Err(Defect::ExplicitHashKey);
            }
            Ok(UserRecord { partition_key, explicit_hash_key, data: entry.data })
        })
    }

    /// A record of its own, in the place of `carrier`, at `index`.
    pub(super) fn record(&self, carrier: &RecordParts, index: u64, user: &UserRecord<'_>) -> Record {
        Record::from_parts(RecordParts {
            sequence_number: carrier.sequence_number,
            sub_sequence_number: index,
            partition_key: self.partition_keys[user.partition_key].clone(),
            explicit_hash_key: match user.explicit_hash_key {
                Some(ExplicitHashKey::Valid(key)) => Some(key),
                Some(ExplicitHashKey::NoHashKey | ExplicitHashKey::NoNumber) | None => None,
            },
            data: self.message.slice_ref(user.data),
            approximate_arrival: carrier.approximate_arrival,
            encryption_type: carrier.encryption_type,
            aggregated: true,
        })
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        Fields::of(&self.message).filter_map(|field| match field {
            Ok((3, Value::Bytes(entry))) => Entry::read(entry).ok(),
            _ => None,
        })
    }
}

impl<'a> Entry<'a> {
    /// Of fields that come more than once the last one counts, as everywhere in protocol buffers.
    fn read(entry: &'a [u8]) -> Result<Self, Defect> {
        let (mut partition_key, mut explicit_hash_key, mut data) = (None, None, None);
        for field in Fields::of(entry) {
            match field? {
                (1, Value::Varint(index)) => partition_key = Some(index),
                (2, Value::Varint(index)) => explicit_hash_key = Some(index),
                (3, Value::Bytes(bytes)) => data = Some(bytes),
                _ => {}
            }
        }
        match (partition_key, data) {
            (Some(partition_key), Some(data)) => Ok(Self { partition_key, explicit_hash_key, data }),
            _ => Err(Defect::Message),
        }
    }
}

impl ExplicitHashKey {
    fn read(text: &[u8]) -> Self {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Self::NoNumber;
        }
        match std::str::from_utf8(text).map(str::parse) {
            Ok(Ok(key)) => Self::Valid(key),
            _ => Self::NoHashKey,
        }
    }
}

impl From<Malformed> for Defect {
    fn from(Malformed: Malformed) -> Self {
        Self::Message
    }
}
