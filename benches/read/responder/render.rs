//! Records, rendered once: all of the same length, so that their sequence numbers can be written over.

use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ciborium::Value as Cbor;
use serde_json::{Value, json};

use super::body::{DIGITS, POSITION_AT, Place, SHARD_AT};
use crate::rig::Result;

/// Of a chunk, which is sent at once. The same chunks are sent again and again: to copy one would cost as much as to
/// send it.
const CHUNK_BYTES: usize = 128 * 1024;
/// When every record arrived.
const ARRIVED_MILLIS: u64 = 1_795_219_418_123;
/// How far every answer is behind the tip.
const MILLIS_BEHIND_LATEST: u32 = 60_000;

/// A format of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Cbor,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    pub(super) fn read(self, body: &[u8]) -> Result<Value> {
        Ok(match self {
            Self::Json => serde_json::from_slice(body)?,
            Self::Cbor => ciborium::from_reader(body)?,
        })
    }

    pub(super) fn write(self, answer: &Value) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        match self {
            Self::Json => serde_json::to_writer(&mut body, answer)?,
            Self::Cbor => ciborium::into_writer(answer, &mut body)?,
        }
        Ok(body)
    }

    /// A moment, which JSON has in seconds and CBOR in milliseconds.
    pub(super) fn moment(self, seconds: u64) -> Value {
        match self {
            Self::Json => seconds.into(),
            Self::Cbor => (seconds * 1000).into(),
        }
    }
}

/// What answers are put together from.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) format: Format,
    record: Vec<u8>,
    /// Where its sequence number begins.
    number_at: usize,
    records_of_chunk: usize,
    /// Chunks that nobody sends at the moment.
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A chunk that is being sent; goes back when the last of it is.
struct Lent {
    chunk: Vec<u8>,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
    }
}

impl Rendered {
    pub(super) fn new(format: Format, payload: &[u8]) -> Result<Self> {
        let number = Place { shard: 0, position: 0 }.sequence_number();
        let mut record = Vec::new();
        match format {
            Format::Json => {
                record.push(b',');
                let data = STANDARD.encode(payload);
                let arrived = ARRIVED_MILLIS as f64 / 1000.0;
                serde_json::to_writer(
                    &mut record,
                    &json!({ "SequenceNumber": number, "ApproximateArrivalTimestamp": arrived, "Data": data, "PartitionKey": "partition-key-01" }),
                )?;
            }
            Format::Cbor => {
                let members = [
                    ("SequenceNumber", Cbor::from(number.as_str())),
                    ("ApproximateArrivalTimestamp", ARRIVED_MILLIS.into()),
                    ("Data", Cbor::Bytes(payload.to_vec())),
                    ("PartitionKey", "partition-key-01".into()),
                ];
                ciborium::into_writer(&Cbor::Map(members.map(|(name, value)| (name.into(), value)).into()), &mut record)?;
            }
        }
        let number_at = record.windows(DIGITS).position(|some| some == number.as_bytes()).ok_or("a record has no sequence number")?;
        let records_of_chunk = (CHUNK_BYTES / record.len()).max(1);
        Ok(Self { format, record, number_at, records_of_chunk, idle: Arc::default() })
    }

    /// The next of at most `wanted` records, with their sequence numbers, and how many they are.
    pub(super) fn records(&self, place: Place, wanted: usize) -> (usize, Bytes) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut chunk = idle.unwrap_or_else(|| self.record.repeat(self.records_of_chunk));
        let count = wanted.min(self.records_of_chunk);
        let shard = format!("{:012}", place.shard);
        for (record, position) in chunk.chunks_exact_mut(self.record.len()).take(count).zip(place.position..) {
            let number = &mut record[self.number_at..][..DIGITS];
            number[SHARD_AT..POSITION_AT].copy_from_slice(shard.as_bytes());
            let mut rest = position;
            for digit in number[POSITION_AT..].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
                rest /= 10;
            }
        }
        let chunk = Bytes::from_owner(Lent { chunk, idle: Arc::clone(&self.idle) });
        (count, chunk.slice(..count * self.record.len()))
    }

    /// What comes before the records of a page or an event.
    pub(super) fn head(&self, records: usize) -> Vec<u8> {
        match self.format {
            Format::Json => b"{\"Records\":[".to_vec(),
            Format::Cbor => {
                let mut head = vec![0xa3];
                head.extend(cbor("Records"));
                head.push(0x99);
                head.extend(u16::try_from(records).expect("at most 10,000 records").to_be_bytes());
                head
            }
        }
    }

    /// What comes after them: where to go on, under this name.
    pub(super) fn tail(&self, name: &str, value: &str) -> Vec<u8> {
        match self.format {
            Format::Json => format!("],\"MillisBehindLatest\":{MILLIS_BEHIND_LATEST},\"{name}\":\"{value}\"}}").into_bytes(),
            Format::Cbor => {
                let mut tail = cbor("MillisBehindLatest");
                tail.extend(cbor(&MILLIS_BEHIND_LATEST));
                tail.extend(cbor(name));
                tail.extend(cbor(value));
                tail
            }
        }
    }

    /// Bytes of the records in an answer: in JSON the first has no comma before it.
    pub(super) fn records_bytes(&self, records: usize) -> usize {
        records * self.record.len() - self.leading()
    }

    /// Bytes to leave out before the first record of an answer.
    pub(super) const fn leading(&self) -> usize {
        match self.format {
            Format::Json => 1,
            Format::Cbor => 0,
        }
    }
}

fn cbor<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("plain values are CBOR");
    bytes
}
