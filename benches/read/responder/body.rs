//! Bodies that are made while they are sent: a chunk of records at a time, only the sequence numbers of which are
//! written anew, so that an answer of any length takes no more memory than a chunk.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use super::render::Rendered;
use crate::rig::Result;

/// Of a sequence number: a prefix, 12 of the shard, 20 of the position.
pub(super) const DIGITS: usize = 56;
const PREFIX: &str = "496804129972006832714034";
pub(super) const SHARD_AT: usize = PREFIX.len();
pub(super) const POSITION_AT: usize = SHARD_AT + 12;
/// Makes iterators as long as those of the service.
const ITERATOR_FILL: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The next record to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) shard: u32,
    pub(super) position: u64,
}

impl Place {
    pub(super) fn sequence_number(self) -> String {
        format!("{PREFIX}{:012}{:020}", self.shard, self.position)
    }

    pub(super) fn iterator(self) -> String {
        format!("{}{ITERATOR_FILL}", self.sequence_number())
    }

    pub(super) fn from_iterator(text: &str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| "not an iterator of this responder".into())
    }

    /// The beginning of a shard, or what follows a sequence number.
    pub(super) fn after(shard: &str, number: Option<&str>) -> Result<Self> {
        match number.and_then(Self::parse) {
            Some(last) => Ok(Self { position: last.position + 1, ..last }),
            None => Ok(Self { shard: shard.rsplit('-').next().unwrap_or_default().parse()?, position: 0 }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = |from, to| text.get(from..to);
        Some(Self { shard: digits(SHARD_AT, POSITION_AT)?.parse().ok()?, position: digits(POSITION_AT, DIGITS)?.parse().ok()? })
    }
}

/// A page of GetRecords, or the events of SubscribeToShard.
pub(super) struct Answer {
    rendered: Arc<Rendered>,
    place: Place,
    /// Records of the page, or of each event.
    records: usize,
    part: Part,
    /// Of a page, known from the start.
    bytes_left: Option<u64>,
    /// Of the event at hand.
    checksum: crc32fast::Hasher,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    InitialResponse,
    Head,
    /// So many records are still to come.
    Records(usize),
    Tail,
    End,
}

impl Answer {
    pub(super) fn page(rendered: Arc<Rendered>, place: Place, records: usize) -> Self {
        let head = rendered.head(records).len();
        let tail = rendered.tail("NextShardIterator", &place.iterator()).len();
        let bytes = head + rendered.records_bytes(records) + tail;
        Self { rendered, place, records, part: Part::Head, bytes_left: Some(bytes as u64), checksum: crc32fast::Hasher::new() }
    }

    pub(super) fn events(rendered: Arc<Rendered>, place: Place, records: usize) -> Self {
        Self { rendered, place, records, part: Part::InitialResponse, bytes_left: None, checksum: crc32fast::Hasher::new() }
    }

    fn is_page(&self) -> bool {
        self.bytes_left.is_some()
    }

    fn next(&mut self) -> Option<Bytes> {
        match self.part {
            Part::InitialResponse => {
                self.part = Part::Head;
                let payload = self.rendered.format.write(&serde_json::json!({})).expect("an empty object is written");
                let mut message = self.message_head("initial-response", payload.len());
                message.extend(payload);
                message.extend(crc32fast::hash(&message).to_be_bytes());
                Some(message.into())
            }
            Part::Head => {
                self.part = Part::Records(self.records);
                let head = self.rendered.head(self.records);
                if self.is_page() {
                    return Some(head.into());
                }
                let payload = head.len() + self.rendered.records_bytes(self.records) + self.tail(self.place).len();
                let mut message = self.message_head("SubscribeToShardEvent", payload);
                message.extend(head);
                self.checksum = crc32fast::Hasher::new();
                self.checksum.update(&message);
                Some(message.into())
            }
            Part::Records(left) => {
                let (some, mut chunk) = self.rendered.records(self.place, left);
                if left == self.records {
                    chunk = chunk.slice(self.rendered.leading()..);
                }
                self.place.position += some as u64;
                self.part = if left == some { Part::Tail } else { Part::Records(left - some) };
                if !self.is_page() {
                    self.checksum.update(&chunk);
                }
                Some(chunk)
            }
            Part::Tail => {
                let mut tail = self.tail(self.place);
                if self.is_page() {
                    self.part = Part::End;
                } else {
                    self.part = Part::Head;
                    self.checksum.update(&tail);
                    tail.extend(std::mem::take(&mut self.checksum).finalize().to_be_bytes());
                }
                Some(tail.into())
            }
            Part::End => None,
        }
    }

    /// After the records up to `place`.
    fn tail(&self, place: Place) -> Vec<u8> {
        if self.is_page() {
            return self.rendered.tail("NextShardIterator", &place.iterator());
        }
        let last = Place { position: place.position.saturating_sub(1), ..place };
        self.rendered.tail("ContinuationSequenceNumber", &last.sequence_number())
    }

    /// Prelude and headers of a message of the event stream.
    fn message_head(&self, event: &str, payload: usize) -> Vec<u8> {
        let headers = [(":message-type", "event"), (":event-type", event), (":content-type", self.rendered.format.content_type())];
        let mut encoded = BytesMut::new();
        for (name, value) in headers {
            encoded.put_u8(u8::try_from(name.len()).expect("names are short"));
            encoded.put_slice(name.as_bytes());
            // A text.
            encoded.put_u8(7);
            encoded.put_u16(u16::try_from(value.len()).expect("values are short"));
            encoded.put_slice(value.as_bytes());
        }
        let length = |n: usize| u32::try_from(n).expect("events are of 1 MiB or so");
        let mut message = Vec::with_capacity(12 + encoded.len());
        message.put_u32(length(12 + encoded.len() + payload + 4));
        message.put_u32(length(encoded.len()));
        message.put_u32(crc32fast::hash(&message));
        message.put_slice(&encoded);
        message
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.next();
        if let (Some(left), Some(bytes)) = (&mut self.bytes_left, &next) {
            *left -= bytes.len() as u64;
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes_left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
