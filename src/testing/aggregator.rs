//! Aggregates as the Kinesis Producer Library makes them.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use md5::{Digest, Md5};

use crate::{local::PutEntry, retrieval::kpl::MAGIC, types::hash_key};

/// Packs user records into an aggregate. It knows no shards and no limits: it packs what it is given.
///
/// # Examples
/// ```
/// use shardkeeper::local::{CreateStream, LocalKinesis};
/// use shardkeeper::testing::Aggregator;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kinesis = LocalKinesis::in_memory();
/// kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 1))?;
///
/// let mut aggregator = Aggregator::default();
/// for n in 0..100 {
///     aggregator.add(&format!("user-{}", n % 7), format!("click {n}"));
/// }
/// kinesis.put_record(&"clicks".parse()?, aggregator.finish().into(), None)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Aggregator {
    partition_keys: Table,
    explicit_hash_keys: Table,
    /// Encoded fields number 3.
    records: Vec<u8>,
    user_records: usize,
    /// Keys of the first record, which route the aggregate.
    first: Option<(String, u128)>,
}

/// A finished aggregate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Aggregated {
    /// What the KPL gives an aggregate: the key of its only record, or `a`.
    pub partition_key: String,
    /// The hash key of its first record, which routes it.
    pub explicit_hash_key: u128,
    /// The bytes.
    pub data: Bytes,
}

/// Keys in the order of their first use, each once.
#[derive(Debug, Clone, Default)]
struct Table {
    indices: BTreeMap<String, u64>,
    encoded: Vec<u8>,
}

impl Table {
    fn index(&mut self, field: u8, key: &str) -> u64 {
        if let Some(index) = self.indices.get(key) {
            return *index;
        }
        let index = self.indices.len() as u64;
        self.indices.insert(key.to_owned(), index);
        put_bytes(&mut self.encoded, field, key.as_bytes());
        index
    }
}

impl Aggregator {
    /// Adds a record that its partition key routes.
    pub fn add(&mut self, partition_key: &str, data: impl AsRef<[u8]>) {
        self.add_with(partition_key, None, data.as_ref());
    }

    /// Adds a record with an explicit hash key.
    pub fn add_with_explicit_hash_key(&mut self, partition_key: &str, explicit_hash_key: u128, data: impl AsRef<[u8]>) {
        self.add_with(partition_key, Some(explicit_hash_key), data.as_ref());
    }

    fn add_with(&mut self, partition_key: &str, explicit_hash_key: Option<u128>, data: &[u8]) {
        let mut record = Vec::with_capacity(data.len() + 16);
        put_varint(&mut record, 1, self.partition_keys.index(1, partition_key));
        if let Some(key) = explicit_hash_key {
            put_varint(&mut record, 2, self.explicit_hash_keys.index(2, &key.to_string()));
        }
        put_bytes(&mut record, 3, data);
        put_bytes(&mut self.records, 3, &record);
        self.user_records += 1;
        self.first.get_or_insert_with(|| (partition_key.to_owned(), explicit_hash_key.unwrap_or_else(|| hash_key(partition_key))));
    }

    /// Bytes of the aggregate as it is now.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.partition_keys.encoded.len() + self.explicit_hash_keys.encoded.len() + self.records.len() + MAGIC.len() + 16
    }

    /// The aggregate of what was added since the last call.
    ///
    /// # Panics
    /// When nothing was added.
    pub fn finish(&mut self) -> Aggregated {
        let Self { partition_keys, explicit_hash_keys, records, user_records, first } = std::mem::take(self);
        let (first_key, explicit_hash_key) = first.expect("an aggregate has at least one record: add one before");
        let message = [partition_keys.encoded, explicit_hash_keys.encoded, records].concat();
        let partition_key = if user_records == 1 { first_key } else { "a".to_owned() };
        Aggregated { partition_key, explicit_hash_key, data: sealed(&message) }
    }
}

impl From<Aggregated> for PutEntry {
    fn from(aggregate: Aggregated) -> Self {
        Self::new(&*aggregate.partition_key, aggregate.data).with_explicit_hash_key(aggregate.explicit_hash_key)
    }
}

/// Magic bytes before the message, and the digest after it.
pub(crate) fn sealed(message: &[u8]) -> Bytes {
    let digest = Md5::digest(message);
    let mut parts = MAGIC.chain(message).chain(digest.as_slice());
    parts.copy_to_bytes(parts.remaining())
}

fn put_varint(into: &mut Vec<u8>, field: u8, value: u64) {
    into.push(field << 3);
    varint(into, value);
}

fn put_bytes(into: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    into.push(field << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}
