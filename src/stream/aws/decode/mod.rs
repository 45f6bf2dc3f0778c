//! Records straight from the bytes of an answer.
//!
//! ```text
//! frames of the body ──▶ Gatherer ──▶ cbor::Place or json::Place ──▶ Document ──▶ records
//!                        (bytes of a record that a frame ends in are kept until the next)
//! ```
//! Frames are read while they are in the processor's cache: their payloads and keys move into blocks that hold nothing
//! else, and the frame is free again. Nothing is allocated for a single record. Why so: `docs/decisions/0012`.
//!
//! Lengths are checked against what is there, nesting is bounded, unknown members are passed over, and whatever cannot
//! be read is a [`Defect`].

mod blocks;
pub(super) mod cbor;
mod document;
pub(super) mod event;
mod json;

pub(super) use self::{blocks::Blocks, document::Document};
use crate::{
    error::{Error, ErrorKind},
    types::InvalidText,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};

/// Longest body or event: 10 MiB of records are 14 MiB in base64, and all else that is sent with them is less.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of the next frame that are looked at first, for the rest of a record that the last frame ended in.
const PEEK_BYTES: usize = 4096;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Defect {
    #[error("{0}")]
    What(&'static str),
    #[error(transparent)]
    Text(#[from] InvalidText),
}

/// Why reading does not get on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stop {
    /// What is there is the beginning of something.
    Incomplete,
    Malformed(Defect),
}

impl Stop {
    const fn malformed(what: &'static str) -> Self {
        Self::Malformed(Defect::What(what))
    }
}

impl From<Defect> for Stop {
    fn from(defect: Defect) -> Self {
        Self::Malformed(defect)
    }
}

impl From<Defect> for Error {
    fn from(defect: Defect) -> Self {
        Self::new(ErrorKind::InvalidData, "the service's answer cannot be read").with_source(defect)
    }
}

/// The place in an answer, in the format that it turns out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Unknown,
    Cbor(cbor::Place),
    Json(json::Place),
}

impl Place {
    /// Reads on as far as `input` goes, and says how far that is.
    fn advance(&mut self, input: &[u8], document: &mut Document) -> Result<usize, Defect> {
        let mut at = 0;
        loop {
            let step = match self {
                Self::Unknown => self.recognise(&input[at..]),
                Self::Cbor(place) => place.step(&input[at..], document),
                Self::Json(place) => place.step(&input[at..], document),
            };
            match step {
                Ok(bytes) => at += bytes,
                Err(Stop::Incomplete) => return Ok(at),
                Err(Stop::Malformed(defect)) => return Err(defect),
            }
        }
    }

    /// The first byte tells, more reliably than headers: a map of CBOR and an object of JSON have none in common.
    fn recognise(&mut self, input: &[u8]) -> Result<usize, Stop> {
        *self = match input.first() {
            None => return Err(Stop::Incomplete),
            Some(0xa0..=0xbf) => Self::Cbor(cbor::Place::Start),
            Some(b'{' | b' ' | b'\t' | b'\r' | b'\n') => Self::Json(json::Place::Start),
            Some(_) => return Err(Stop::malformed("it is neither CBOR nor JSON")),
        };
        Ok(0)
    }

    fn is_end(self) -> bool {
        matches!(self, Self::Cbor(cbor::Place::End) | Self::Json(json::Place::End))
    }
}

/// Reads a document that comes in frames.
#[derive(Debug)]
struct Gatherer {
    place: Place,
    document: Document,
    /// What the last frames ended in and is not complete.
    carry: Vec<u8>,
    /// With so many bytes the carry is looked at again; doubles, so that a large record is not looked at for each frame.
    look_at: usize,
    /// Bytes of the frames so far.
    seen: usize,
    length: Option<usize>,
}

impl Gatherer {
    fn new(length: Option<usize>, blocks: &Blocks) -> Self {
        let document = Document::in_blocks(blocks);
        Self { place: Place::Unknown, document, carry: Vec::new(), look_at: 0, seen: 0, length }
    }

    fn take(&mut self, mut frame: &[u8]) -> Result<(), Defect> {
        self.document.records.to_come = self.length.map(|length| length.saturating_sub(self.seen) + self.carry.len());
        self.seen = self.seen.saturating_add(frame.len());
        if self.seen > MAX_BODY_BYTES {
            return Err(Defect::What("it is longer than any answer may be"));
        }
        while !self.carry.is_empty() {
            let before = self.carry.len();
            let (first, rest) = frame.split_at(frame.len().min(self.look_at.saturating_sub(before)));
            self.carry.extend_from_slice(first);
            if self.carry.len() < self.look_at {
                return Ok(());
            }
            let used = self.place.advance(&self.carry, &mut self.document)?;
            if used >= before && used > 0 {
                frame = &frame[used - before..];
                self.carry.clear();
            } else {
                self.carry.drain(..used);
                self.look_at = self.carry.len() * 2;
                frame = rest;
            }
        }
        let used = self.place.advance(frame, &mut self.document)?;
        self.carry.extend_from_slice(&frame[used..]);
        self.look_at = self.carry.len() + self.carry.len().max(PEEK_BYTES);
        Ok(())
    }

    fn finish(mut self) -> Result<Document, Defect> {
        let used = self.place.advance(&self.carry, &mut self.document)?;
        if used < self.carry.len() || !self.place.is_end() {
            return Err(Defect::What("it ends too early"));
        }
        self.document.records.close_block()?;
        Ok(self.document)
    }
}

/// Why a body cannot be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The connection broke.
    Broken,
    Defect(Defect),
}

impl From<Defect> for Unread {
    fn from(defect: Defect) -> Self {
        Self::Defect(defect)
    }
}

/// Reads a body as it comes. `length` is what the server says of it, and only guides how memory is used.
pub(super) async fn read(body: SdkBody, length: Option<usize>, blocks: &Blocks) -> Result<Document, Unread> {
    let mut gatherer = Gatherer::new(length, blocks);
    let mut frames = ByteStream::new(body);
    while let Some(frame) = frames.next().await {
        gatherer.take(&frame.map_err(|_| Unread::Broken)?)?;
    }
    Ok(gatherer.finish()?)
}

#[cfg(test)]
mod decode_test;
