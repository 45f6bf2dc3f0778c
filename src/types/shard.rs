//! Shards: their ids, hash-key ranges and parents.

use md5::{Digest, Md5};

use super::{
    sequence::SequenceNumber,
    text::{InvalidText, check_name, text_id},
};

text_id! {
    /// Id of a shard within its stream, such as `shardId-000000000042`; 1 to 128 characters of `[a-zA-Z0-9_.-]`.
    ShardId, "shard id", |value| check_name("shard id", value, 128)
}

impl ShardId {
    /// The id that Kinesis gives to the shard with this index.
    #[must_use]
    pub fn from_index(index: u64) -> Self {
        Self::new(format!("shardId-{index:012}")).expect("digits make a valid id")
    }
}

/// The hash key of a partition key: its MD5 as a number, first byte highest.
///
/// See [PutRecord](https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html).
#[must_use]
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Inclusive range of 128-bit hash keys that a shard takes, `0 ..= 2^128 - 1` for the only shard of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "(String, String)", into = "(String, String)")]
pub struct HashKeyRange {
    start: u128,
    end: u128,
}

impl HashKeyRange {
    /// Every hash key.
    pub const FULL: Self = Self { start: 0, end: u128::MAX };

    /// The range from `start` to `end`, both included; one key is a valid range.
    ///
    /// # Errors
    /// When `start` is greater than `end`.
    pub fn new(start: u128, end: u128) -> Result<Self, InvalidText> {
        if start > end {
            return Err(InvalidText::new("hash key range", &format!("{start}..={end}"), "it starts after its end"));
        }
        Ok(Self { start, end })
    }

    /// Reads both ends in the decimal form the service and the lease table use.
    ///
    /// # Errors
    /// When one is not a decimal number of at most 128 bits, or the range is empty.
    pub fn parse(start: &str, end: &str) -> Result<Self, InvalidText> {
        let number =
            |s: &str| s.parse::<u128>().map_err(|_| InvalidText::new("hash key", s, "expected a decimal number from 0 to 2^128-1"));
        Self::new(number(start)?, number(end)?)
    }

    /// First hash key.
    #[must_use]
    pub const fn start(self) -> u128 {
        self.start
    }

    /// Last hash key.
    #[must_use]
    pub const fn end(self) -> u128 {
        self.end
    }

    /// Whether `key` falls into the range.
    #[must_use]
    pub const fn contains(self, key: u128) -> bool {
        self.start <= key && key <= self.end
    }

    /// Whether the two ranges share a key.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl TryFrom<(String, String)> for HashKeyRange {
    type Error = InvalidText;
    fn try_from((start, end): (String, String)) -> Result<Self, Self::Error> {
        Self::parse(&start, &end)
    }
}

impl From<HashKeyRange> for (String, String) {
    fn from(range: HashKeyRange) -> Self {
        (range.start.to_string(), range.end.to_string())
    }
}

/// A shard as `ListShards` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// The shards it came from: none, one (split) or two (merge); a parent may be past retention and no longer listed.
    pub parents: Vec<ShardId>,
    /// The hash keys it takes.
    pub hash_key_range: HashKeyRange,
    /// Smallest sequence number it can hold.
    pub starting_sequence_number: SequenceNumber,
    /// Largest sequence number it holds; `None` while the shard is open.
    pub ending_sequence_number: Option<SequenceNumber>,
}

impl Shard {
    /// Whether the shard still takes records.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.ending_sequence_number.is_none()
    }
}

/// A child shard as `GetRecords` and `SubscribeToShard` name it at the end of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildShard {
    /// Its id.
    pub id: ShardId,
    /// All of its parents: one after a split, two after a merge.
    pub parents: Vec<ShardId>,
    /// The hash keys it takes.
    pub hash_key_range: HashKeyRange,
}
