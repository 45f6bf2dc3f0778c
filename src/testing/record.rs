//! Records made by hand.

use bytes::Bytes;

use crate::types::{EncryptionType, PartitionKey, Record, RecordParts, SequenceNumber, Timestamp};

/// The record with this sequence number, and `data` as payload.
///
/// # Examples
/// ```
/// use shardkeeper::testing::record;
///
/// let records = [record(1, "first"), record(2, "second")];
/// assert!(records[0].position() < records[1].position());
/// ```
#[must_use]
pub fn record(sequence_number: u128, data: impl Into<Bytes>) -> Record {
    RecordBuilder::new(sequence_number).data(data).build()
}

/// Makes a record: by default without payload, with the key `key`, not from an aggregate.
#[derive(Debug, Clone)]
pub struct RecordBuilder(RecordParts);

impl RecordBuilder {
    /// A record with this sequence number.
    #[must_use]
    pub fn new(sequence_number: u128) -> Self {
        Self(RecordParts {
            sequence_number: SequenceNumber::from_parts(0, sequence_number),
            sub_sequence_number: 0,
            partition_key: PartitionKey::from("key"),
            explicit_hash_key: None,
            data: Bytes::new(),
            approximate_arrival: None,
            encryption_type: EncryptionType::None,
            aggregated: false,
        })
    }

    /// Sets the payload.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.0.data = data.into();
        self
    }

    /// Sets the payload to `value` as JSON.
    ///
    /// # Errors
    /// As `serde_json` reports them.
    pub fn json(self, value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        Ok(self.data(serde_json::to_vec(value)?))
    }

    /// Sets the partition key.
    #[must_use]
    pub fn partition_key(mut self, key: &str) -> Self {
        self.0.partition_key = key.into();
        self
    }

    /// Makes it a record of a KPL aggregate, at this index.
    #[must_use]
    pub fn sub_sequence_number(mut self, index: u64) -> Self {
        self.0.sub_sequence_number = index;
        self.0.aggregated = true;
        self
    }

    /// Sets when the service took it.
    #[must_use]
    pub fn approximate_arrival(mut self, arrival: Timestamp) -> Self {
        self.0.approximate_arrival = Some(arrival);
        self
    }

    /// The record.
    #[must_use]
    pub fn build(self) -> Record {
        Record::from_parts(self.0)
    }
}
