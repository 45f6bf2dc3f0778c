//! Records as user code sees them.

use bytes::Bytes;

use super::{ExtendedSequenceNumber, SequenceNumber, Timestamp, text::InvalidText};

/// A partition key, 1 to 256 characters, kept as a slice of the response it came in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionKey(Bytes);

impl PartitionKey {
    /// Wraps UTF-8 bytes without copying them.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, InvalidText> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(InvalidText::new("partition key", "<bytes>", "it is not UTF-8")),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Checked when constructed; a second look costs less than an unsafe block is worth.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<String> for PartitionKey {
    fn from(s: String) -> Self {
        Self(s.into())
    }
}

impl From<&str> for PartitionKey {
    fn from(s: &str) -> Self {
        Self(Bytes::copy_from_slice(s.as_bytes()))
    }
}

/// Redacted: keys are personal data more often than not.
impl std::fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

/// How a record is encrypted at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EncryptionType {
    /// Not encrypted by the service.
    #[default]
    None,
    /// With a key of AWS KMS.
    Kms,
}

/// The parts a [`Record`] is made of, for stream clients and tests.
#[derive(Debug, Clone)]
pub struct RecordParts {
    /// Position in the shard.
    pub sequence_number: SequenceNumber,
    /// Index within a KPL aggregate, 0 for a plain record.
    pub sub_sequence_number: u64,
    /// The key that chose the shard.
    pub partition_key: PartitionKey,
    /// The hash key that chose it instead, where the producer gave one inside an aggregate.
    pub explicit_hash_key: Option<u128>,
    /// The payload.
    pub data: Bytes,
    /// When the service took the record, to the millisecond.
    pub approximate_arrival: Option<Timestamp>,
    /// Encryption at rest.
    pub encryption_type: EncryptionType,
    /// Whether it came out of a KPL aggregate.
    pub aggregated: bool,
}

/// One user record. The payload and the key are slices of the response body: cloning copies no data.
///
/// `Debug` shows sizes and positions, never content.
#[derive(Clone)]
pub struct Record(RecordParts);

impl Record {
    /// Puts a record together.
    #[must_use]
    pub const fn from_parts(parts: RecordParts) -> Self {
        Self(parts)
    }

    /// Takes it apart.
    #[must_use]
    pub fn into_parts(self) -> RecordParts {
        self.0
    }

    /// Position in the shard.
    #[must_use]
    pub const fn sequence_number(&self) -> SequenceNumber {
        self.0.sequence_number
    }

    /// Index within a KPL aggregate, 0 for a plain record.
    #[must_use]
    pub const fn sub_sequence_number(&self) -> u64 {
        self.0.sub_sequence_number
    }

    /// Sequence and sub-sequence number: what a checkpoint at this record says.
    #[must_use]
    pub const fn position(&self) -> ExtendedSequenceNumber {
        ExtendedSequenceNumber::new(self.0.sequence_number, self.0.sub_sequence_number)
    }

    /// The key that chose the shard.
    #[must_use]
    pub fn partition_key(&self) -> &str {
        self.0.partition_key.as_str()
    }

    /// The hash key that chose the shard, where the producer gave one inside an aggregate.
    #[must_use]
    pub const fn explicit_hash_key(&self) -> Option<u128> {
        self.0.explicit_hash_key
    }

    /// The payload, at most 10 MiB.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.0.data
    }

    /// When the service took the record.
    #[must_use]
    pub const fn approximate_arrival(&self) -> Option<Timestamp> {
        self.0.approximate_arrival
    }

    /// Encryption at rest.
    #[must_use]
    pub const fn encryption_type(&self) -> EncryptionType {
        self.0.encryption_type
    }

    /// Whether it came out of a KPL aggregate.
    #[must_use]
    pub const fn is_aggregated(&self) -> bool {
        self.0.aggregated
    }

    /// Reads the payload as JSON into `T`, borrowing from it where `T` borrows.
    ///
    /// # Errors
    /// As `serde_json` reports them: line and column, and no payload.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0.data)
    }

    /// Bytes the record takes in a buffer: payload and key.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.data.len() + self.0.partition_key.0.len()
    }
}

impl From<&Record> for ExtendedSequenceNumber {
    fn from(record: &Record) -> Self {
        record.position()
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}, {} bytes)", self.position(), self.0.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        let record = Record::from_parts(RecordParts {
            sequence_number: SequenceNumber::from_parts(0, 7),
            sub_sequence_number: 0,
            partition_key: "canary-key".into(),
            explicit_hash_key: None,
            data: Bytes::from_static(br#"{"secret":"canary-payload"}"#),
            approximate_arrival: None,
            encryption_type: EncryptionType::None,
            aggregated: false,
        });
        assert!(!format!("{record:?} {:?}", record.clone().into_parts().partition_key).contains("canary"));
        #[derive(serde::Deserialize)]
        struct Event<'a> {
            secret: &'a str,
        }
        assert_eq!(record.json::<Event<'_>>().expect("valid JSON").secret, "canary-payload");
    }
}
