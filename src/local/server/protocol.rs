//! The two body formats: awsJson 1.1 and CBOR 1.1.
//!
//! | | JSON | CBOR |
//! |---|---|---|
//! | payloads | base64 text | byte strings |
//! | moments | seconds with a fraction | whole milliseconds, with or without tag 1 |
//!
//! Both read and write the same serde structs; [`Blob`] and [`Moment`] know the difference from
//! `is_human_readable`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

use super::fault::Fault;
use crate::types::Timestamp;

/// A body format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Json,
    Cbor,
}

impl Protocol {
    /// From a `Content-Type`, whose parameters do not matter.
    pub(super) fn from_content_type(value: &str) -> Option<Self> {
        match value.split(';').next().unwrap_or_default().trim() {
            "application/x-amz-json-1.1" | "application/json" => Some(Self::Json),
            "application/x-amz-cbor-1.1" => Some(Self::Cbor),
            _ => None,
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    /// An object without members.
    pub(super) const fn empty(self) -> &'static [u8] {
        match self {
            Self::Json => b"{}",
            Self::Cbor => b"\xa0",
        }
    }

    /// Reads an input. The messages of the parsers name members and offsets, and no content.
    pub(super) fn decode<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Fault> {
        match self {
            Self::Json => serde_json::from_slice(body).map_err(|e| {
                let what = if e.is_data() { "a member has the wrong type or form" } else { "the body is not JSON" };
                Fault::serialization(format!("{what}, at line {} column {}", e.line(), e.column()))
            }),
            Self::Cbor => ciborium::from_reader(body).map_err(|e| match e {
                ciborium::de::Error::Syntax(at) => Fault::serialization(format!("the body is not CBOR, at byte {at}")),
                ciborium::de::Error::Io(_) => Fault::serialization("the body ends too early"),
                ciborium::de::Error::Semantic(..) => Fault::serialization("a member has the wrong type or form"),
                ciborium::de::Error::RecursionLimitExceeded => Fault::serialization("the body is nested too deeply"),
            }),
        }
    }

    /// Writes an output.
    pub(super) fn encode<T: Serialize>(self, output: &T) -> Result<Bytes, Fault> {
        let mut body = Vec::with_capacity(256);
        let written = match self {
            Self::Json => serde_json::to_writer(&mut body, output).is_ok(),
            Self::Cbor => ciborium::into_writer(output, &mut body).is_ok(),
        };
        if written { Ok(body.into()) } else { Err(Fault::new(500, "InternalFailure", "the answer could not be written")) }
    }
}

/// A payload.
pub(super) struct Blob(pub(super) Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a payload")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                STANDARD.decode(text).map(|data| Blob(data.into())).map_err(|_| E::custom("not base64"))
            }

            fn visit_bytes<E: de::Error>(self, data: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(data)))
            }

            fn visit_byte_buf<E: de::Error>(self, data: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(data.into()))
            }
        }
        if deserializer.is_human_readable() { deserializer.deserialize_str(Visitor) } else { deserializer.deserialize_byte_buf(Visitor) }
    }
}

/// A payload of an answer in CBOR; JSON answers with payloads are written by hand.
pub(super) struct BlobRef<'a>(pub(super) &'a [u8]);

impl Serialize for BlobRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        if serializer.is_human_readable() {
            #[expect(clippy::cast_precision_loss, reason = "exact for the next 285,000 years")]
            serializer.serialize_f64(millis as f64 / 1000.0)
        } else {
            serializer.serialize_i64(millis)
        }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(|millis| Self(Timestamp::from_millis(millis)));
        }
        let seconds = f64::deserialize(deserializer)?;
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and a moment that far away is nobody's")]
        let millis = (seconds * 1000.0).round() as i64;
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

/// Appends a payload as a JSON string.
pub(super) fn push_json_blob(body: &mut Vec<u8>, data: &[u8]) {
    body.push(b'"');
    let start = body.len();
    body.resize(start + data.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(data, &mut body[start..]).expect("base64 takes four bytes for three");
    debug_assert_eq!(start + written, body.len());
    body.push(b'"');
}

/// Appends a text as a JSON string.
pub(super) fn push_json_str(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a text is written to memory without failure");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct Input {
        blob: Blob,
        moment: Moment,
    }

    #[test]
    fn json_has_base64_and_seconds() {
        let input: Input = Protocol::Json.decode(br#"{"blob":"aGVsbG8=","moment":1795262400.123,"more":[{}]}"#).expect("valid");
        assert_eq!(&input.blob.0[..], b"hello");
        assert_eq!(input.moment.0.as_millis(), 1_795_262_400_123);
        assert_eq!(&Protocol::Json.encode(&input.moment).expect("written")[..], b"1795262400.123");
    }

    #[test]
    fn cbor_has_byte_strings_and_milliseconds_tagged_or_not() {
        for tag in [&[][..], &[0xc1]] {
            // {"blob": h'68656c6c6f', "moment": 1795262400123} in an indefinite map, as the SDK for Java writes it.
            let mut body = b"\xbf\x64blob\x45hello\x66moment".to_vec();
            body.extend_from_slice(tag);
            body.push(0x1b);
            body.extend_from_slice(&1_795_262_400_123_u64.to_be_bytes());
            body.push(0xff);
            let input: Input = Protocol::Cbor.decode(&body).expect("valid");
            assert_eq!(&input.blob.0[..], b"hello");
            assert_eq!(input.moment.0.as_millis(), 1_795_262_400_123);
        }
        let written = Protocol::Cbor.encode(&Moment(Timestamp::from_millis(5))).expect("written");
        assert_eq!(&written[..], [5]);
    }

    #[test]
    fn payloads_longer_than_the_parsers_buffer_are_read() {
        let mut body = b"\xa2\x64blob\x5a\x00\x01\x00\x00".to_vec();
        body.extend_from_slice(&[7; 65536]);
        body.extend_from_slice(b"\x66moment\x01");
        let input: Input = Protocol::Cbor.decode(&body).expect("valid");
        assert_eq!(input.blob.0.len(), 65536);
    }

    proptest! {
        #[test]
        fn blobs_survive_json(data: Vec<u8>) {
            let mut text = Vec::new();
            push_json_blob(&mut text, &data);
            let Blob(back) = Protocol::Json.decode(&text).expect("own text");
            prop_assert_eq!(&back[..], &data[..]);
        }

        #[test]
        fn noise_is_refused_or_read_but_never_a_panic(body: Vec<u8>) {
            drop(Protocol::Json.decode::<Input>(&body));
            drop(Protocol::Cbor.decode::<Input>(&body));
        }
    }
}
