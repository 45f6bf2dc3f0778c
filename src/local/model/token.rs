//! Opaque texts handed to clients: shard iterators and page tokens. They carry all they mean, so that they outlive a
//! restart, and a checksum, so that no other text passes for one.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};

use crate::types::{SequenceNumber, Timestamp};

/// What a token is for; a token of one kind is refused as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    ShardIterator = 1,
    ShardPage = 2,
    StreamPage = 3,
    ConsumerPage = 4,
}

const CHECKSUM_BYTES: usize = 8;

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Md5::new().chain_update(b"shardkeeper local token").chain_update(body).finalize();
    digest[..CHECKSUM_BYTES].try_into().expect("a digest has 16 bytes")
}

/// Puts a token together, field by field.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: Kind, issued: Timestamp) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, kind as u8].to_vec()).time(issued)
    }

    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn number(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn time(mut self, value: Timestamp) -> Self {
        self.0.extend(value.as_millis().to_be_bytes());
        self
    }

    pub(super) fn sequence(mut self, value: SequenceNumber) -> Self {
        let (high, low) = value.parts();
        self.0.extend(high.to_be_bytes());
        self.0.extend(low.to_be_bytes());
        self
    }

    /// At most 255 bytes; names of streams and shards have up to 128.
    pub(super) fn text(mut self, value: &str) -> Self {
        self.0.push(u8::try_from(value.len()).expect("names have at most 128 bytes"));
        self.0.extend(value.as_bytes());
        self
    }

    pub(super) fn finish(mut self) -> String {
        let sum = checksum(&self.0);
        self.0.extend(sum);
        BASE64_STANDARD.encode(self.0)
    }
}

/// Takes a token apart in the order it was written; `None` where it is not what was written.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Checks the text and its kind; returns the moment it was issued too.
    pub(super) fn open(kind: Kind, text: &str) -> Option<(Self, Timestamp)> {
        let mut bytes = BASE64_STANDARD.decode(text).ok()?;
        let body = bytes.len().checked_sub(CHECKSUM_BYTES)?;
        if checksum(&bytes[..body]) != bytes[body..] || bytes.get(..8)? != [0, 0, 0, 0, 0, 0, 0, kind as u8] {
            return None;
        }
        bytes.truncate(body);
        let mut reader = Self { bytes, at: 8 };
        let issued = reader.time()?;
        Some((reader, issued))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        self.take().map(i64::from_be_bytes).map(Timestamp::from_millis)
    }

    pub(super) fn sequence(&mut self) -> Option<SequenceNumber> {
        let (high, low) = (self.take().map(u128::from_be_bytes)?, self.take().map(u128::from_be_bytes)?);
        Some(SequenceNumber::from_parts(high, low))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let len = usize::from(self.byte()?);
        let text = self.bytes.get(self.at..self.at + len)?;
        self.at += len;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> String {
        let number = SequenceNumber::from_parts(7, 9);
        Writer::new(Kind::ShardIterator, Timestamp::from_millis(5)).text("clicks").number(3).byte(1).sequence(number).finish()
    }

    #[test]
    fn what_was_written_is_read() {
        let (mut reader, issued) = Reader::open(Kind::ShardIterator, &token()).expect("its own token");
        assert_eq!(issued, Timestamp::from_millis(5));
        assert_eq!((reader.text().as_deref(), reader.number(), reader.byte()), (Some("clicks"), Some(3), Some(1)));
        assert_eq!(reader.sequence(), Some(SequenceNumber::from_parts(7, 9)));
        assert_eq!(reader.byte(), None);
    }

    #[test]
    fn other_texts_are_refused() {
        let token = token();
        assert!(Reader::open(Kind::ShardPage, &token).is_none());
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(Reader::open(Kind::ShardIterator, &changed).is_none(), "{i}");
        }
        for bad in ["", "A", "not base64!", "AAAAAAAAAAE="] {
            assert!(Reader::open(Kind::ShardIterator, bad).is_none(), "{bad}");
        }
    }
}
