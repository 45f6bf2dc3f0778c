//! Event streams (`application/vnd.amazon.eventstream`): messages with headers, each guarded by two checksums.
//!
//! ```text
//! total length u32 │ headers length u32 │ CRC-32 of these 8 bytes │ headers │ payload │ CRC-32 of everything before
//! header: length of name u8 │ name │ kind u8 │ value
//! ```
//! Format: <https://smithy.io/2.0/aws/amazon-eventstream.html>.
//!
//! Payloads are decoded as their bytes come, and the checksum is taken of them on the way. A message is handed out when
//! the checksum is right, and not before.

use bytes::{Buf, Bytes};
use crc32fast::Hasher;

use super::{Blocks, Defect, Document, Gatherer, MAX_BODY_BYTES};

const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
/// The service's own limit on headers.
const MAX_HEADER_BYTES: usize = 128 * 1024;

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(in crate::stream::aws) struct Messages {
    /// What is there of the part that has to be complete before it is looked at.
    part: Vec<u8>,
    place: Place,
    blocks: Blocks,
}

/// Which part of a message comes next.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Prelude,
    Headers {
        headers_bytes: usize,
        payload_bytes: usize,
    },
    Payload(Box<Open>),
    Checksum(Box<Open>),
}

/// A message whose headers have been read.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// What the payload says so far; nothing where that does not matter.
    payload: Option<Gatherer>,
    /// Bytes of the payload still to come.
    to_come: usize,
    checksum: Hasher,
}

#[derive(Debug)]
enum Kind {
    Records,
    Other,
    Exception { code: String },
    Error { code: String, text: String },
}

/// What a message says.
#[derive(Debug)]
pub(in crate::stream::aws) enum Message {
    /// Records, or none.
    Records(Document),
    /// An event that has no records: the beginning of the stream, or of a kind that this version does not know.
    Other,
    /// The stream ends with an error of this name and text.
    Exception { code: String, text: String },
}

impl Messages {
    /// Of a stream that begins. Records will lie in `blocks`.
    pub(in crate::stream::aws) fn new(blocks: Blocks) -> Self {
        Self { blocks, ..Self::default() }
    }

    /// Takes bytes from `frame` until a message is complete; `None` when all are taken and it is not.
    pub(in crate::stream::aws) fn next(&mut self, frame: &mut Bytes) -> Result<Option<Message>, Defect> {
        loop {
            self.place = match std::mem::take(&mut self.place) {
                Place::Prelude => {
                    if !self.fill(PRELUDE_BYTES, frame) {
                        return Ok(None);
                    }
                    check_prelude(&self.part)?
                }
                Place::Headers { headers_bytes, payload_bytes } => {
                    if !self.fill(PRELUDE_BYTES + headers_bytes, frame) {
                        self.place = Place::Headers { headers_bytes, payload_bytes };
                        return Ok(None);
                    }
                    let mut checksum = Hasher::new();
                    checksum.update(&self.part);
                    let kind = Headers::read(&self.part[PRELUDE_BYTES..])?.kind()?;
                    self.part.clear();
                    let is_read = matches!(kind, Kind::Records | Kind::Exception { .. });
                    let payload = is_read.then(|| Gatherer::new(Some(payload_bytes), &self.blocks));
                    Place::Payload(Box::new(Open { kind, payload, to_come: payload_bytes, checksum }))
                }
                Place::Payload(mut open) => {
                    open.take(&frame.split_to(frame.len().min(open.to_come)))?;
                    if open.to_come > 0 {
                        self.place = Place::Payload(open);
                        return Ok(None);
                    }
                    Place::Checksum(open)
                }
                Place::Checksum(open) => {
                    if !self.fill(CHECKSUM_BYTES, frame) {
                        self.place = Place::Checksum(open);
                        return Ok(None);
                    }
                    let checksum = self.part.as_slice().get_u32();
                    self.part.clear();
                    return open.close(checksum).map(Some);
                }
            }
        }
    }

    /// Whether the stream may end here.
    pub(in crate::stream::aws) fn is_between_messages(&self) -> bool {
        matches!(self.place, Place::Prelude) && self.part.is_empty()
    }

    /// Moves bytes into the part, and says whether it is complete.
    fn fill(&mut self, length: usize, frame: &mut Bytes) -> bool {
        let count = frame.len().min(length.saturating_sub(self.part.len()));
        self.part.extend_from_slice(&frame[..count]);
        frame.advance(count);
        self.part.len() >= length
    }
}

fn check_prelude(prelude: &[u8]) -> Result<Place, Defect> {
    let mut fields = prelude;
    let (total, headers_bytes) = (fields.get_u32() as usize, fields.get_u32() as usize);
    if crc32fast::hash(&prelude[..8]) != fields.get_u32() {
        return Err(Defect::What("the checksum of an event's length is wrong"));
    }
    let payload_bytes = total.checked_sub(PRELUDE_BYTES + CHECKSUM_BYTES).and_then(|bytes| bytes.checked_sub(headers_bytes));
    match payload_bytes {
        Some(payload_bytes) if total <= MAX_BODY_BYTES && headers_bytes <= MAX_HEADER_BYTES => {
            Ok(Place::Headers { headers_bytes, payload_bytes })
        }
        Some(_) | None => Err(Defect::What("an event has an impossible length")),
    }
}

impl Open {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Defect> {
        self.to_come -= bytes.len();
        self.checksum.update(bytes);
        let Some(payload) = &mut self.payload else { return Ok(()) };
        match (payload.take(bytes), &self.kind) {
            (Ok(()), _) => Ok(()),
            // The name of an error is in the headers; a text that cannot be read is no reason to lose that.
            (Err(_), Kind::Exception { .. }) => {
                self.payload = None;
                Ok(())
            }
            (Err(defect), _) => Err(defect),
        }
    }

    fn close(self, checksum: u32) -> Result<Message, Defect> {
        if self.checksum.finalize() != checksum {
            return Err(Defect::What("the checksum of an event is wrong"));
        }
        let document = self.payload.map(Gatherer::finish);
        match self.kind {
            Kind::Records => document.unwrap_or_else(|| Ok(Document::default())).map(Message::Records),
            Kind::Other => Ok(Message::Other),
            Kind::Exception { code } => {
                let text = document.and_then(Result::ok).and_then(|document| document.error_message);
                Ok(Message::Exception { code, text: text.unwrap_or_default() })
            }
            Kind::Error { code, text } => Ok(Message::Exception { code, text }),
        }
    }
}

#[derive(Debug, Default)]
struct Headers {
    message_type: Option<String>,
    event_type: Option<String>,
    exception_type: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
}

impl Headers {
    fn read(mut rest: &[u8]) -> Result<Self, Defect> {
        let mut headers = Self::default();
        while !rest.is_empty() {
            let name_len = usize::from(take(&mut rest, 1)?[0]);
            let name = take(&mut rest, name_len)?;
            let kind = take(&mut rest, 1)?[0];
            let value_len = match kind {
                // True and false.
                0 | 1 => 0,
                2 => 1,
                3 => 2,
                4 => 4,
                // A long and a moment.
                5 | 8 => 8,
                // Bytes and a text.
                6 | 7 => usize::from(take(&mut rest, 2)?.get_u16()),
                // A UUID.
                9 => 16,
                _ => return Err(Defect::What("a header of an event has an unknown kind")),
            };
            let value = take(&mut rest, value_len)?;
            let header = match name {
                b":message-type" => &mut headers.message_type,
                b":event-type" => &mut headers.event_type,
                b":exception-type" => &mut headers.exception_type,
                b":error-code" => &mut headers.error_code,
                b":error-message" => &mut headers.error_message,
                _ => continue,
            };
            *header = Some(super::document::text(value)?.to_owned());
        }
        Ok(headers)
    }

    fn kind(self) -> Result<Kind, Defect> {
        match self.message_type.as_deref() {
            Some("event") if self.event_type.as_deref() == Some("SubscribeToShardEvent") => Ok(Kind::Records),
            Some("event") => Ok(Kind::Other),
            Some("exception") => Ok(Kind::Exception { code: self.exception_type.unwrap_or_default() }),
            Some("error") => Ok(Kind::Error { code: self.error_code.unwrap_or_default(), text: self.error_message.unwrap_or_default() }),
            Some(_) | None => Err(Defect::What("an event has no known type")),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Defect> {
    rest.split_off(..count).ok_or(Defect::What("a header of an event is cut off"))
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message as Sent};
    use proptest::prelude::*;

    use super::*;

    const PAGE: &[u8] =
        b"{\"Records\":[{\"SequenceNumber\":\"7\",\"Data\":\"aGk=\",\"PartitionKey\":\"k\"}],\"ContinuationSequenceNumber\":\"9\"}";

    fn text(value: &str) -> HeaderValue {
        HeaderValue::String(value.to_owned().into())
    }

    fn written(headers: &[(&'static str, HeaderValue)], payload: &[u8]) -> Vec<u8> {
        let headers = headers.iter().map(|(name, value)| Header::new(*name, value.clone()));
        let message = headers.fold(Sent::new(Bytes::copy_from_slice(payload)), Sent::add_header);
        let mut bytes = Vec::new();
        write_message_to(&message, &mut bytes).expect("valid");
        bytes
    }

    fn records(payload: &[u8]) -> Vec<u8> {
        written(&[(":event-type", text("SubscribeToShardEvent")), (":message-type", text("event"))], payload)
    }

    /// Reads a stream that comes in frames which end at `cuts`.
    fn read_all(stream: &[u8], cuts: &[usize]) -> (Vec<Result<Message, Defect>>, bool) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let (mut messages, mut read, mut at) = (Messages::default(), Vec::new(), 0);
        for cut in cuts {
            let mut frame = Bytes::copy_from_slice(&stream[at..cut]);
            at = cut;
            while let Some(message) = messages.next(&mut frame).transpose() {
                read.push(message);
                if read.last().is_some_and(Result::is_err) {
                    return (read, false);
                }
            }
        }
        (read, messages.is_between_messages())
    }

    #[test]
    fn headers_of_every_kind_are_passed_over() {
        let headers = [
            ("a", HeaderValue::Bool(true)),
            ("b", HeaderValue::Bool(false)),
            ("c", HeaderValue::Byte(1)),
            ("d", HeaderValue::Int16(2)),
            ("e", HeaderValue::Int32(3)),
            ("f", HeaderValue::Int64(4)),
            ("g", HeaderValue::ByteArray(Bytes::from_static(b"5"))),
            ("h", HeaderValue::Timestamp(aws_smithy_types::DateTime::from_secs(6))),
            ("i", HeaderValue::Uuid(7)),
            (":message-type", text("event")),
            (":event-type", text("initial-response")),
        ];
        let stream = [written(&headers, b"{}"), records(PAGE)].concat();
        let (read, whole) = read_all(&stream, &[5, 13, 40]);
        let [Ok(Message::Other), Ok(Message::Records(document))] = &read[..] else { panic!("{read:?}") };
        assert!(whole);
        assert_eq!(document.continuation.as_deref(), Some("9"));
    }

    #[test]
    fn exceptions_and_errors_have_their_name_and_text() {
        let exception = |payload: &[u8]| {
            let headers = [(":message-type", text("exception")), (":exception-type", text("ResourceInUseException"))];
            written(&headers, payload)
        };
        let error = [(":message-type", text("error")), (":error-code", text("InternalFailure")), (":error-message", text("Oh."))];
        for (stream, expected) in [
            (exception(b"{\"message\":\"Another one.\"}"), ("ResourceInUseException", "Another one.")),
            (exception(b"\xa1\x67message\x6cAnother one."), ("ResourceInUseException", "Another one.")),
            (exception(b"<what?>"), ("ResourceInUseException", "")),
            (written(&error, b""), ("InternalFailure", "Oh.")),
        ] {
            let (read, _) = read_all(&stream, &[]);
            let [Ok(Message::Exception { code, text })] = &read[..] else { panic!("{read:?}") };
            assert_eq!((code.as_str(), text.as_str()), expected);
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_memory_is_taken_for_them() {
        for (total, headers) in [(15_u32, 0_u32), (u32::MAX, 0), (100, 90), (40, u32::MAX), (33 * 1024 * 1024, 0)] {
            let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            prelude.extend_from_slice(&crc32fast::hash(&prelude).to_be_bytes());
            let (read, _) = read_all(&prelude, &[]);
            assert!(matches!(&read[..], [Err(Defect::What("an event has an impossible length"))]), "{total} {headers}: {read:?}");
        }
    }

    proptest! {
        #[test]
        fn frames_may_end_anywhere(count in 1_usize..5, cuts in prop::collection::vec(any::<usize>(), 0..20)) {
            let stream = records(PAGE).repeat(count);
            let (read, whole) = read_all(&stream, &cuts);
            prop_assert!(whole);
            prop_assert_eq!(read.len(), count);
            for message in read {
                let Ok(Message::Records(mut document)) = message else { panic!("{message:?}") };
                let records = document.take_records();
                prop_assert_eq!(&records[0].data()[..], b"hi");
            }
        }

        #[test]
        fn a_bit_that_fell_over_is_noticed(at: prop::sample::Index, bit in 0..8_u8, cuts in prop::collection::vec(any::<usize>(), 0..4)) {
            let mut stream = records(PAGE);
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
            let (read, whole) = read_all(&stream, &cuts);
            prop_assert!(!whole && !read.iter().any(Result::is_ok), "{read:?}");
        }

        #[test]
        fn damage_under_a_right_checksum_is_an_error_or_another_event(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            let mut stream = records(PAGE);
            for (at, byte) in &changes {
                let at = at.index(stream.len());
                stream[at] = *byte;
            }
            let prelude = crc32fast::hash(&stream[..8]).to_be_bytes();
            stream[8..12].copy_from_slice(&prelude);
            let end = stream.len() - 4;
            let all = crc32fast::hash(&stream[..end]).to_be_bytes();
            stream[end..].copy_from_slice(&all);
            drop(read_all(&stream, &cuts));
        }

        #[test]
        fn noise_is_refused_or_waits_for_more(noise: Vec<u8>, cuts in prop::collection::vec(any::<usize>(), 0..4)) {
            let (read, _) = read_all(&noise, &cuts);
            prop_assert!(!read.iter().any(Result::is_ok));
        }
    }
}
